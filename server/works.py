"""Work that outlives the call which began it: a client that goes away, or a deadline that passes, does not undo half of
what was asked. Who asks for the same again meanwhile waits for the work that is under way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from server import deadline
from server.errors import ServiceError, Unavailable
from storage.errors import StorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Works:
    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._running

    async def finish(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of the work of this name, which is begun unless it is under way."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(_bounded(work))
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Until all that is under way has come to its end."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    def _ended(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._running[key]
        problem = None if task.cancelled() else task.exception()
        if isinstance(problem, ServiceError | StorageError):
            logger.info("not finished: %s: %s", key, problem)  # who waits is told, or upkeep goes on with it
        elif problem is not None:
            logger.error("failed: %s", key, exc_info=problem)


async def _bounded(work: Callable[[], Awaitable[T]]) -> T:
    try:
        async with deadline.within(deadline.WORK):
            return await work()
    except TimeoutError:
        raise Unavailable("out of time") from None
