"""Works the queue of what is due, in every process: each takes its share, and none is needed.

An item is a bulkhead: whatever it raises is logged, it is put off, and the next one goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from server import tracing
from server.daily.gateway import upkeep
from server.errors import ServiceError
from server.usecases import rules
from server.usecases.service import Service
from storage.errors import StorageError
from storage.queue import Line
from storage.store import Transaction

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between looks at the lines."""
AT_ONCE = 16
"""Items of a line that a process works on at the same time: most of them wait for their turn at Daily."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds for which an item is put off that failed; doubled with each try."""

Work = Callable[[Service, Any, int], Awaitable[timedelta | None]]
"""Does what is due of an item that has been tried so often. Returns when it is due again: the pause, or None for no
more; where the work itself has moved the item on, neither counts."""


async def run(service: Service, works: Mapping[Line, Work]) -> None:
    """Until cancelled. Items that are being worked on are finished by `Works.drain`."""
    async with asyncio.TaskGroup() as lines:
        lines.create_task(_look(service))
        for line, work in works.items():
            lines.create_task(serve(service, line, work))


async def _look(service: Service) -> None:
    """One for all lines: a process in which nothing is due costs next to nothing."""
    working: bool | None = None
    while True:
        try:
            async with service.store.statement() as tx:
                for line in await tx.queue.lines():
                    service.due[line].set()
        except StorageError as problem:
            if working is not False:
                logger.warning("upkeep does not work here: it cannot see what is due: %s", problem)
            working = False
        else:
            if not working:
                logger.info("upkeep works here")
            working = True
        await asyncio.sleep(INTERVAL)


async def serve(service: Service, line: Line, work: Work) -> None:
    """Until cancelled; what is being worked on goes on."""
    busy: set[asyncio.Task[None]] = set()
    while True:
        service.due[line].clear()
        taken = await _taken(service, line, AT_ONCE - len(busy))
        for item, attempts in taken:
            task = asyncio.create_task(_see_to(service, line, work, item, attempts))
            busy.add(task)
            task.add_done_callback(busy.discard)
        if not taken or len(busy) == AT_ONCE:
            await _something_due_or_end_of_one(service.due[line], busy)


async def _something_due_or_end_of_one(due: asyncio.Event, busy: set[asyncio.Task[None]]) -> None:
    waiting = asyncio.create_task(due.wait())
    try:
        await asyncio.wait({*busy, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _taken(service: Service, line: Line, items: int) -> list[tuple[Any, int]]:
    if items == 0:
        return []
    try:
        return await service.store.run(_take, line, items)
    except StorageError as problem:
        logger.warning("cannot see what is due in line %s: %s", line.value, problem)
        return []


async def _take(tx: Transaction, line: Line, items: int) -> list[tuple[Any, int]]:
    return await tx.queue.take(line, items, rules.LEASE)


async def _see_to(service: Service, line: Line, work: Work, item: Any, attempts: int) -> None:
    """Never raises. What was taken while it was being worked on has been moved since: it is looked at again."""
    key = ("due", line.value, item.id)
    is_under_way = key in service.works
    try:
        with upkeep(), tracing.whole(f"upkeep {line.value}", {"upkeep.id": str(item.id), "upkeep.attempts": attempts}):
            pause = await service.works.finish(key, partial(work, service, item, attempts))
        if is_under_way:
            pause = timedelta()
    except (ServiceError, StorageError) as problem:
        logger.warning("put off kind=%r id=%s attempts=%d: %s", line.value, item.id, attempts, problem)
        pause = _pause(attempts)
    except Exception:
        logger.exception("put off kind=%r id=%s attempts=%d", line.value, item.id, attempts)
        pause = _pause(attempts)
    with suppress(StorageError):  # then the lease ends by itself
        await service.store.run(_put_off, item, pause)


async def _put_off(tx: Transaction, item: Any, pause: timedelta | None) -> None:
    await tx.queue.put_off(item, pause)


def _pause(attempts: int) -> timedelta:
    return timedelta(seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 10)))
