"""Daily's events, applied room by room and in batches after the endpoint has put them into the inbox."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from server import deadline
from server.daily import events as wire
from server.daily.gateway import upkeep
from server.daily.wire import Unreadable
from server.errors import ServiceError
from server.usecases import room_events, rules
from server.usecases.service import Service
from storage.errors import StorageError
from storage.model import Event
from storage.queue import Line
from storage.store import Transaction

logger = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between looks at the inbox when nothing was due in it."""
EVENTS = 500
"""That one transaction applies at the most."""
ROOMS_AT_ONCE = 3
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
"""Seconds for which an event is put off that cannot be applied; doubled with each try."""
PATIENT = 5
"""Tries for which an event waits for another one that it seems to build on."""
GIVEN_UP = 20
"""Tries after which an event is left alone, with its error."""


async def run(service: Service) -> None:
    """Until cancelled. What must first be asked at Daily keeps nothing else waiting."""
    async with asyncio.TaskGroup() as loops:
        loops.create_task(_repeat(service, _apply_due))
        loops.create_task(_repeat(service, _locate))


async def _repeat(service: Service, round: Callable[[Service], Awaitable[bool]]) -> None:
    while True:
        busy = False
        try:
            async with deadline.within(deadline.WORK):
                busy = await round(service)
        except (ServiceError, StorageError, TimeoutError) as problem:
            logger.warning("the inbox waits: %s", problem)
        except Exception:
            logger.exception("the inbox waits")
        if not busy:
            await _news(service)


async def _news(service: Service) -> None:
    """Waits for an event that this process has taken; those of others are found after the interval."""
    service.news.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(INTERVAL):
            await service.news.wait()


async def _apply_due(service: Service) -> bool:
    """Whether anything was applied."""
    rooms = await service.store.run(_rooms)
    free = asyncio.Semaphore(ROOMS_AT_ONCE)

    async def apply(room_name: str) -> int:
        async with free:
            return await _apply(service, room_name)

    applied = await asyncio.gather(*map(apply, rooms), return_exceptions=True)
    service.due[Line.MODERATIONS].set()
    for problem in applied:
        if isinstance(problem, BaseException):
            logger.error("a room's events wait", exc_info=problem)
    return any(isinstance(count, int) and count for count in applied)


async def _rooms(tx: Transaction) -> list[str]:
    return await tx.inbox.rooms(2 * EVENTS)


async def _apply(service: Service, room_name: str) -> int:
    try:
        return await service.store.run(_apply_together, room_name, service)
    except StorageError:
        raise
    except Exception as problem:  # one of them: each on its own, so that it keeps no other waiting
        logger.info("applying events of %s one by one: %r", room_name, problem)
        return await service.store.run(_apply_one_by_one, room_name, service)


async def _apply_together(tx: Transaction, room_name: str, service: Service) -> int:
    locked, session = await tx.sessions.lock_if_free(room_name)
    if not locked:
        return 0
    events = await tx.inbox.of_room(room_name, EVENTS)
    if session is not None and events:
        told = [told for event in events if (told := wire.read(event.body, event.received_at)) is not None]
        patient = all(event.attempts < PATIENT for event in events)
        await room_events.apply(tx, session, told, service.lifetimes, patient=patient)
    await tx.inbox.applied([event.id for event in events])
    return len(events)


async def _apply_one_by_one(tx: Transaction, room_name: str, service: Service) -> int:
    locked, session = await tx.sessions.lock_if_free(room_name)
    if not locked or session is None:
        return 0
    applied = []
    for event in await tx.inbox.of_room(room_name, EVENTS):
        try:
            async with tx.savepoint():
                told = wire.read(event.body, event.received_at)
                patient = event.attempts < PATIENT
                await room_events.apply(tx, session, [told] if told else [], service.lifetimes, patient=patient)
            applied.append(event.id)
        except Exception as problem:  # whatever it is, the event must not be lost, nor keep the others waiting
            await _put_off(tx, event, problem)
    await tx.inbox.applied(applied)
    return len(applied)


async def _put_off(tx: Transaction, event: Event, problem: Exception) -> None:
    final = isinstance(problem, Unreadable) or event.attempts >= GIVEN_UP
    pause = timedelta(seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 2**event.attempts))
    level = logging.ERROR if final else logging.INFO
    logger.log(level, "event %s type=%s id=%s: %r", "given up" if final else "put off", event.type, event.id, problem)
    await tx.inbox.put_off(event.id, repr(problem)[:500], None if final else pause)


async def _locate(service: Service) -> bool:
    """Events that name no room: recording.started names the recording."""
    events = await service.store.run(_of_no_room)
    for event in events:
        try:
            room_name = await _room_of(service, event)
        except (ServiceError, Unreadable) as problem:
            await service.store.run(_put_off, event, problem)
            continue
        await service.store.run(_belongs, event, room_name)
        service.news.set()
    return bool(events)


async def _of_no_room(tx: Transaction) -> list[Event]:
    return await tx.inbox.of_no_room(20, rules.LEASE)


async def _room_of(service: Service, event: Event) -> str | None:
    """None where no room of anybody's is to be found."""
    if subject := wire.envelope(event.body).subject:
        return subject
    told = wire.read(event.body, event.received_at)
    if not isinstance(told, wire.RecordingStarted):
        return None
    if told.instance_id is not None and (room_name := await service.store.run(_room_of_instance, told)):
        return room_name
    with upkeep():
        found = await service.daily.recording(told.recording_id)
    if found is None and event.attempts < PATIENT:
        raise ServiceError("Daily does not list the recording yet")
    return None if found is None else found.room_name


async def _room_of_instance(tx: Transaction, told: wire.RecordingStarted) -> str | None:
    assert told.instance_id is not None
    recording = await tx.recordings.by_id(told.instance_id)
    session = None if recording is None else await tx.sessions.by_id(recording.session_id)
    return None if session is None else session.room_name


async def _belongs(tx: Transaction, event: Event, room_name: str | None) -> None:
    if room_name:
        await tx.inbox.belongs(event.id, room_name)
    else:
        await tx.inbox.applied([event.id])
