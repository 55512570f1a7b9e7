"""Who was in the room, where events that told of it were lost: Daily's own records of meetings know.

Each meeting is compared once, after its end; those that nobody told us of are found in Daily's list of what has begun
lately."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from server import metrics
from server.daily.errors import DailyUnreadable
from server.daily.model import MeetingRecord
from server.usecases import room_events, rules
from server.usecases.service import Service
from storage.model import Chore, Connection, Meeting, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

RECORD_GIVEN_UP = 6
"""Looks after which Daily has no record of a meeting in which nobody stayed long enough."""
PAUSE, LONGEST_PAUSE = timedelta(seconds=20), timedelta(minutes=10)
"""Between looks for a record that is late, doubled with each."""
SWEEP = timedelta(seconds=60)
"""How often Daily's list of meetings is read for those that began since."""
OVERLAP = timedelta(minutes=5)
"""How much of it is read again: a record may be late."""
FIRST_LOOK_BACK = timedelta(hours=24)
WINDOW = timedelta(hours=1)
"""How much of it is read in one go; halved with each try that failed, for it may have been too much."""


async def compare(service: Service, meeting: Meeting, attempts: int) -> timedelta | None:
    record = await _record(service, meeting)
    late = min(PAUSE * (1 << min(attempts - 1, 10)), LONGEST_PAUSE)
    if record is None and attempts < RECORD_GIVEN_UP:
        return late
    if record is not None and record.ended_at is None:
        pause = None if meeting.ended_at is None else late
        await service.store.run(_write_unfinished, meeting, record, pause, service)
        return pause
    if record is None:
        await service.store.run(_give_up, meeting)
    else:
        await service.store.run(_write, meeting.session_id, record, service)
    metrics.repaired("meeting")
    logger.info("done kind=%r id=%s attempts=%d", "meeting", meeting.id, attempts)
    return None


async def _record(service: Service, meeting: Meeting) -> MeetingRecord | None:
    """None too for one that cannot be read, which may be put right like one that is late."""
    try:
        return await service.daily.meeting(meeting.id)
    except DailyUnreadable as problem:
        logger.warning("no record of meeting %s: %s", meeting.id, problem)
        return None


async def compare_room(service: Service, session: Session) -> set[str]:
    """All of the room's meetings that Daily has records of, as far as one page goes; the connections in them."""
    records, _ = await service.daily.meetings(room_name=session.room_name)
    for record in records:
        await service.store.run(_write, session.id, record, service)
    return {stay.connection_id for record in records for stay in record.stays}


async def sweep(service: Service, chore: Chore, attempts: int) -> timedelta:
    """Finds meetings that no event told of, in what has begun since the last one: a window of it at a time, as Daily
    lists the newest first, so that a list that is cut off within it must be read anew."""
    now = rules.taken_at(chore)
    since = chore.done_until or now - FIRST_LOOK_BACK
    window_end = since + WINDOW / 2 ** min(attempts - 1, 6)
    until, is_last = (window_end, False) if window_end < now else (now, True)
    cursor = None
    while True:
        records, cursor = await service.daily.meetings(
            since=since - OVERLAP,
            until=None if is_last else until,  # Daily's clock may be before ours
            after=cursor,
        )
        for session_id, record in await service.store.run(_untold, records):
            await service.store.run(_write, session_id, record, service)
            metrics.repaired("untold meeting")
            logger.info("done kind=%r id=%s", "untold meeting", record.id)
        if cursor is None:
            break
    await service.store.run(_swept, chore, until)
    return SWEEP if is_last else timedelta()


async def _untold(tx: Transaction, records: list[MeetingRecord]) -> list[tuple[UUID, MeetingRecord]]:
    """Those in rooms of ours that we do not know of, or not that they have ended."""
    ours = await tx.sessions.ours([record.room_name for record in records])
    known = await tx.meetings.known([record.id for record in records])
    return [
        (ours[record.room_name], record)
        for record in records
        if record.room_name in ours
        and (record.id not in known or (record.ended_at is not None and not known[record.id]))
    ]


async def _write(tx: Transaction, session_id: UUID, record: MeetingRecord, service: Service) -> None:
    session = rules.found(await tx.sessions.lock_by_id(session_id))
    stays = [
        Connection(stay.connection_id, stay.user_id, stay.joined_at, stay.left_at, user_name=stay.user_name)
        for stay in record.stays
    ]
    await room_events.come_alive(tx, [session], service.lifetimes)
    await tx.participants.recorded(session_id, stays)
    await tx.meetings.seen(session_id, record.id, record.started_at, record.ended_at, PAUSE)
    if record.ended_at is not None:
        await tx.participants.meeting_ended(session_id, record.id, record.ended_at)
        await tx.meetings.compared(record.id, record.ended_at)
    await room_events.perhaps_empty(tx, [session.id], service.lifetimes)


async def _write_unfinished(
    tx: Transaction, meeting: Meeting, record: MeetingRecord, pause: timedelta | None, service: Service
) -> None:
    """It is put off before it is written that its room may be empty, which makes it due."""
    await tx.sessions.lock_by_id(meeting.session_id)
    await tx.queue.put_off(meeting, pause)
    await _write(tx, meeting.session_id, record, service)


async def _give_up(tx: Transaction, meeting: Meeting) -> None:
    """Nobody stayed long enough for a record: its end, as far as we were told, is that of every stay."""
    await tx.sessions.lock_by_id(meeting.session_id)
    if meeting.ended_at is not None:
        await tx.participants.meeting_ended(meeting.session_id, meeting.id, meeting.ended_at)
        await tx.meetings.compared(meeting.id, meeting.ended_at)


async def _swept(tx: Transaction, chore: Chore, until: datetime) -> None:
    await tx.chores.done(chore, until)
