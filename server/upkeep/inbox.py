"""Daily's events, applied room by room and in batches after the endpoint has put them into the inbox."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from server import deadline
from server.daily import events as wire
from server.daily.gateway import upkeep
from server.daily.wire import Unreadable
from server.errors import ServiceError
from server.usecases import room_events, rules
from server.usecases.service import Service
from storage.errors import StorageError
from storage.model import Event
from storage.store import Transaction

logger = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between looks at the inbox when nothing was due in it."""
EVENTS = 500
"""That one transaction applies at the most."""
ROOMS_AT_ONCE = 4
STUCK = 1.0
"""Seconds for which a room is left alone of whose events none could be applied."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
"""Seconds for which an event is put off that cannot be applied; doubled with each try."""
PATIENT = 5
"""Tries for which an event waits for another one that it seems to build on."""
GIVEN_UP = 20
"""Tries after which an event is left alone, with its error."""


async def run(service: Service) -> None:
    """Until cancelled. What must first be asked at Daily keeps nothing else waiting."""
    async with asyncio.TaskGroup() as loops:
        loops.create_task(_apply_rooms(service))
        loops.create_task(_locate_events(service))


async def _apply_rooms(service: Service) -> None:
    """Room by room, some at once; one that is stuck, such as behind a lock, keeps no other waiting."""
    clock = asyncio.get_running_loop().time
    busy: dict[str, asyncio.Task[bool]] = {}
    stuck: dict[str, float] = {}
    while True:
        stuck = {room: until for room, until in stuck.items() if until > clock()}
        rooms = await _due_rooms(service, [*busy, *stuck]) if len(busy) < ROOMS_AT_ONCE else []
        for room in rooms[: ROOMS_AT_ONCE - len(busy)]:
            busy[room] = asyncio.create_task(_apply(service, room))
        if not rooms or len(busy) == ROOMS_AT_ONCE:
            await _news_or_end_of_one(service, busy.values())
        for room in [room for room, task in busy.items() if task.done()]:
            if not busy.pop(room).result():
                stuck[room] = clock() + STUCK


async def _due_rooms(service: Service, apart_from: list[str]) -> list[str]:
    try:
        return await service.store.run(_rooms, apart_from)
    except StorageError as problem:
        logger.warning("the inbox waits: %s", problem)
        return []


async def _rooms(tx: Transaction, apart_from: list[str]) -> list[str]:
    return await tx.inbox.rooms(EVENTS, apart_from)


async def _news_or_end_of_one(service: Service, busy: Iterable[asyncio.Task[bool]]) -> None:
    """Waits for an event that this process has taken; those of others are found after the interval."""
    service.news.clear()
    news = asyncio.create_task(service.news.wait())
    await asyncio.wait([*busy, news], timeout=INTERVAL, return_when=asyncio.FIRST_COMPLETED)
    news.cancel()


async def _apply(service: Service, room_name: str) -> bool:
    """Whether anything could be done. Never raises."""
    try:
        return await service.store.run(_apply_together, room_name, service)
    except StorageError as problem:
        logger.warning("events of %s wait: %s", room_name, problem)
        return False
    except Exception as problem:  # one of them: each on its own, so that it keeps no other waiting
        logger.info("applying events of %s one by one: %r", room_name, problem)
    try:
        return await service.store.run(_apply_one_by_one, room_name, service)
    except Exception:
        logger.exception("events of %s wait", room_name)
        return False


async def _apply_together(tx: Transaction, room_name: str, service: Service) -> bool:
    locked, session = await tx.sessions.lock_if_free(room_name)
    if not locked:
        return False
    events = await tx.inbox.of_room(room_name, EVENTS)
    if session is not None and events:
        told = [told for event in events if (told := wire.read(event.body, event.received_at)) is not None]
        patient = all(event.attempts < PATIENT for event in events)
        await room_events.apply(tx, session, told, service.lifetimes, patient=patient)
    await tx.inbox.applied([event.digest for event in events])
    return bool(events)


async def _apply_one_by_one(tx: Transaction, room_name: str, service: Service) -> bool:
    locked, session = await tx.sessions.lock_if_free(room_name)
    if not locked or session is None:
        return False
    applied = []
    for event in await tx.inbox.of_room(room_name, EVENTS):
        try:
            async with tx.savepoint():
                told = wire.read(event.body, event.received_at)
                patient = event.attempts < PATIENT
                await room_events.apply(tx, session, [told] if told else [], service.lifetimes, patient=patient)
            applied.append(event.digest)
        except Exception as problem:  # whatever it is, the event must not be lost, nor keep the others waiting
            await _put_off(tx, event, problem)
    await tx.inbox.applied(applied)
    return bool(applied)


async def _put_off(tx: Transaction, event: Event, problem: Exception) -> None:
    final = isinstance(problem, Unreadable) or event.attempts >= GIVEN_UP
    pause = timedelta(seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 2**event.attempts))
    level = logging.ERROR if final else logging.INFO
    logger.log(level, "event %s type=%s id=%s: %r", "given up" if final else "put off", event.type, event.id, problem)
    await tx.inbox.put_off(event.digest, repr(problem)[:500], None if final else pause)


async def _locate_events(service: Service) -> None:
    """Finds out what room events are about that name none: recording.started names the recording and its instance."""
    while True:
        events = []
        try:
            events = await service.store.run(_of_no_room)
            async with deadline.within(deadline.WORK):
                await asyncio.gather(*(_locate(service, event) for event in events))
        except (StorageError, TimeoutError) as problem:
            logger.warning("the inbox waits: %s", problem)
        except Exception:
            logger.exception("the inbox waits")
        if not events:
            await _news_or_end_of_one(service, ())


async def _locate(service: Service, event: Event) -> None:
    try:
        room_name = await _room_of(service, event)
    except (ServiceError, Unreadable) as problem:
        await service.store.run(_put_off, event, problem)
    else:
        await service.store.run(_belongs, event, room_name)
        service.news.set()


async def _of_no_room(tx: Transaction) -> list[Event]:
    return await tx.inbox.of_no_room(20, rules.LEASE)


async def _room_of(service: Service, event: Event) -> str | None:
    """None where no room of anybody's is to be found."""
    if subject := wire.envelope(event.body).subject:
        return subject
    told = wire.read(event.body, event.received_at)
    if not isinstance(told, wire.RecordingStarted | wire.RecordingFailed):
        return None
    if told.instance_id is not None and (room_name := await service.store.run(_room_of_instance, told.instance_id)):
        return room_name
    if isinstance(told, wire.RecordingFailed):
        return None
    with upkeep():
        found = await service.daily.recording(told.recording_id)
    if found is None and event.attempts < PATIENT:
        raise ServiceError("Daily does not list the recording yet")
    return None if found is None else found.room_name


async def _room_of_instance(tx: Transaction, instance_id: UUID) -> str | None:
    recording = await tx.recordings.by_id(instance_id)
    session = None if recording is None else await tx.sessions.by_id(recording.session_id)
    return None if session is None else session.room_name


async def _belongs(tx: Transaction, event: Event, room_name: str | None) -> None:
    if room_name:
        await tx.inbox.belongs(event.digest, room_name)
    else:
        await tx.inbox.applied([event.digest])
