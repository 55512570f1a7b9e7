"""Daily's events, applied in batches after the endpoint has put them into the inbox.

A batch is one transaction with a few statements, whatever number of rooms its events are about. It shares the loop with
calls: it is small, and between two of them the loop has time for whatever came meanwhile."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from server import deadline, metrics
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

INTERVAL = 1.0
"""Seconds between looks at the inbox when nothing was due in it: for what was put off, and what others left."""
REST = 0.2
"""Seconds after a batch, at the most: the more events the next one has, the less each of them costs."""
EVENTS = 500
"""That one transaction applies at the most."""
ONE_BY_ONE = 50
"""When each is applied on its own, which takes far longer: the events of other rooms wait for it."""
READ_AT_ONCE = 20
"""Events that are read in one turn of the loop."""
LOCKED = timedelta(seconds=0.3)
"""Pause of the events of a session that somebody has locked: it must keep no other's waiting."""
STUCK = timedelta(seconds=10)
"""Pause of the events of a room with which something else is the matter."""
LONGEST_PAUSE = 600
"""Seconds for which an event is put off at the most that cannot be applied: one, and twice as many with each try."""
PATIENT = 5
"""Tries for which an event waits for another one that it seems to build on."""
GIVEN_UP = 20
"""Tries after which an event is left alone, with its error."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a transaction came to: whether more may be waiting, and how many events of a type had which outcome."""

    more: bool
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count(self, event: Event, outcome: str) -> None:
        self.outcomes[wire.known(event.type), outcome] += 1


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
        return _counted(await service.store.run(_apply_together, service))
    except StorageError as problem:  # what one of the rooms waits for, such as a lock, must keep no other waiting
        logger.warning("applying events room by room: %s", problem)
        return await _apply_room_by_room(service)
    except Exception as problem:  # of one of them
        logger.info("applying events one by one: %r", problem)
        return _counted(await service.store.run(_apply_one_by_one, service))


async def _apply_room_by_room(service: Service) -> bool:
    for room_name in await service.store.run(_rooms):
        try:
            _counted(await service.store.run(_apply_together, service, room_name))
        except StorageError as problem:
            logger.warning("events of %s wait: %s", room_name, problem)
            await service.store.run(_leave_alone, room_name)
    return False


async def _rooms(tx: Transaction) -> list[str]:
    return await tx.inbox.rooms(EVENTS)


async def _leave_alone(tx: Transaction, room_name: str) -> None:
    await tx.inbox.leave_alone(room_name, STUCK)


def _counted(round: Round) -> bool:
    """Once it is committed; whether more may be waiting."""
    for (type, outcome), events in round.outcomes.items():
        metrics.daily_event(type, outcome, events)
    return round.more


async def _apply_together(tx: Transaction, service: Service, room_name: str | None = None) -> Round:
    events, full = await _take(tx, room_name)
    round = Round(full)
    taken, told, done = [], [], []
    for number, (event, session) in enumerate(events, 1):
        try:
            one = wire.read(event.body, event.received_at) if session else None
        except Unreadable as problem:
            round.count(event, await _give_up(tx, event, problem))
            continue
        if session and one:
            told.append(room_events.Told(session, one, patient=event.attempts < PATIENT))
            taken.append(event)
        else:
            done.append(event.digest)
            round.count(event, "ignored")
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    waiting = set(await room_events.apply(tx, told, service.lifetimes))
    for number, event in enumerate(taken):
        round.count(event, "put_off" if number in waiting else "applied")
    await tx.inbox.applied(done + [event.digest for number, event in enumerate(taken) if number not in waiting])
    await _wait(tx, [taken[number].digest for number in waiting])
    return round


async def _apply_one_by_one(tx: Transaction, service: Service) -> Round:
    """So that one keeps no other waiting."""
    events, full = await _take(tx, most=ONE_BY_ONE)
    round = Round(full)
    applied: list[bytes] = []
    waiting: list[bytes] = []
    for event, session in events:
        try:
            async with tx.savepoint():
                one = wire.read(event.body, event.received_at) if session else None
                told = [room_events.Told(session, one, patient=event.attempts < PATIENT)] if session and one else []
                waits = await room_events.apply(tx, told, service.lifetimes) if told else []
            (waiting if waits else applied).append(event.digest)
            round.count(event, "put_off" if waits else "applied" if told else "ignored")
        except Exception as problem:  # whatever it is, the event must not be lost
            round.count(event, await _put_off(tx, event, problem))
    await tx.inbox.applied(applied)
    await _wait(tx, waiting)
    return round


async def _wait(tx: Transaction, digests: list[bytes]) -> None:
    if digests:
        await tx.inbox.put_off(digests, "it waits for another event", LONGEST_PAUSE)


async def _take(
    tx: Transaction, room_name: str | None = None, most: int = EVENTS
) -> tuple[list[tuple[Event, Session | None]], bool]:
    """Events that are due and can be applied, each with the session of its room, locked, or None for a room of
    nobody's; and whether more may be waiting."""
    await tx.inbox.hurry()
    due = await tx.inbox.due(most, room_name)
    rooms = [event.room_name or "" for event in due]
    free = await tx.sessions.lock_free(list(dict.fromkeys(rooms))) if due else {}
    if locked := [event.digest for event, room in zip(due, rooms, strict=True) if room not in free]:
        await tx.inbox.wait(locked, LOCKED)
    return [(event, free[room]) for event, room in zip(due, rooms, strict=True) if room in free], len(due) == most


async def _put_off(tx: Transaction, event: Event, problem: Exception) -> str:
    """What became of it."""
    if isinstance(problem, Unreadable) or event.attempts >= GIVEN_UP:
        return await _give_up(tx, event, problem)
    logger.info("event put off type=%s id=%s: %r", event.type, event.id, problem)
    await tx.inbox.put_off([event.digest], repr(problem)[:500], LONGEST_PAUSE)
    return "put_off"


async def _give_up(tx: Transaction, event: Event, problem: Exception) -> str:
    logger.error("event given up type=%s id=%s: %r", event.type, event.id, problem)
    await tx.inbox.give_up(event.digest, repr(problem)[:500])
    return "given_up"


async def _locate(service: Service) -> bool:
    """Finds out what room events are about that name none: recording.started names the recording and its instance."""
    events = await service.store.run(_of_no_room)
    await asyncio.gather(*(_locate_one(service, event) for event in events))
    return bool(events)


async def _locate_one(service: Service, event: Event) -> None:
    try:
        room_name = await _room_of(service, event)
    except StorageError:
        raise
    except Exception as problem:  # whatever it is, a defect of ours too: it keeps no other waiting
        metrics.daily_event(wire.known(event.type), await service.store.run(_put_off, event, problem))
    else:
        await service.store.run(_belongs, event, room_name)
        if room_name is None:
            metrics.daily_event(wire.known(event.type), "ignored")
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
