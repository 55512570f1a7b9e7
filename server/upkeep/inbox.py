"""Daily's events, applied in batches after the endpoint has put them into the inbox.

A batch is one transaction with a few statements, whatever number of rooms its events are about. It shares the loop with
calls: it is small, and between two of them the loop has time for whatever came meanwhile."""

import asyncio
import logging
import time
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
from storage.model import Event, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between looks at the inbox when nothing was due in it."""
REST = 0.1
"""Seconds after a batch, at the most: the more events the next one has, the less each of them costs."""
EVENTS = 500
"""That one transaction applies at the most."""
READ_AT_ONCE = 20
"""Events that are read in one turn of the loop."""
LOCKED = timedelta(seconds=0.3)
"""Pause of the events of a session that somebody has locked: it must keep no other's waiting."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
"""Seconds for which an event is put off that cannot be applied; doubled with each try."""
PATIENT = 5
"""Tries for which an event waits for another one that it seems to build on."""
GIVEN_UP = 20
"""Tries after which an event is left alone, with its error."""


async def run(service: Service) -> None:
    """Until cancelled. What must first be asked at Daily keeps nothing else waiting."""
    async with asyncio.TaskGroup() as loops:
        loops.create_task(_repeat(service, service.news, _apply_due))
        loops.create_task(_repeat(service, service.news_of_no_room, _locate))


async def _repeat(service: Service, news: asyncio.Event, round: Callable[[Service], Awaitable[bool]]) -> None:
    """`round` returns whether more than it could do was waiting."""
    while True:
        news.clear()
        more, began = False, time.monotonic()
        try:
            async with deadline.within(deadline.WORK):
                more = await round(service)
        except (ServiceError, StorageError, TimeoutError) as problem:
            logger.warning("the inbox waits: %s", problem)
        except Exception:
            logger.exception("the inbox waits")
        took = time.monotonic() - began
        await asyncio.sleep(min(took, REST) if more else REST)
        if not more:
            await _come(news)


async def _come(news: asyncio.Event) -> None:
    """Waits for an event that this process has taken; those of others are found after the interval."""
    with suppress(TimeoutError):
        async with asyncio.timeout(INTERVAL):
            await news.wait()


async def _apply_due(service: Service) -> bool:
    try:
        return await service.store.run(_apply_together, service)
    except StorageError:
        raise
    except Exception as problem:  # of one of them
        logger.info("applying events one by one: %r", problem)
        return await service.store.run(_apply_one_by_one, service)


async def _apply_together(tx: Transaction, service: Service) -> bool:
    events, full = await _take(tx)
    told = []
    for number, (event, session) in enumerate(events, 1):
        if session and (one := wire.read(event.body, event.received_at)):
            told.append((session, one))
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    patient = all(event.attempts < PATIENT for event, _ in events)
    await room_events.apply(tx, told, service.lifetimes, patient=patient)
    await tx.inbox.applied([event.id for event, _ in events])
    return full


async def _apply_one_by_one(tx: Transaction, service: Service) -> bool:
    """So that one keeps no other waiting."""
    events, full = await _take(tx)
    applied = []
    for event, session in events:
        try:
            async with tx.savepoint():
                if session and (told := wire.read(event.body, event.received_at)):
                    patient = event.attempts < PATIENT
                    await room_events.apply(tx, [(session, told)], service.lifetimes, patient=patient)
            applied.append(event.id)
        except Exception as problem:  # whatever it is, the event must not be lost
            await _put_off(tx, event, problem)
    await tx.inbox.applied(applied)
    return full


async def _take(tx: Transaction) -> tuple[list[tuple[Event, Session | None]], bool]:
    """Events that are due and can be applied, each with the session of its room, locked, or None for a room of
    nobody's; and whether more may be waiting."""
    due = await tx.inbox.due(EVENTS)
    rooms = [event.room_name or "" for event in due]
    free = await tx.sessions.lock_free(list(dict.fromkeys(rooms))) if due else {}
    if locked := [event.id for event, room in zip(due, rooms, strict=True) if room not in free]:
        await tx.inbox.wait(locked, LOCKED)
    return [(event, free[room]) for event, room in zip(due, rooms, strict=True) if room in free], len(due) == EVENTS


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
