"""The end of a session, whoever asked for it: its intent stands on the session, and is finished here alone.

First what records in its room is stopped and the session has ended; later, when it closes, everybody is put out and the
room is removed. Each part can be repeated, by a call or by upkeep, and believes what Daily shows rather than what an
earlier try may have brought about."""

import asyncio
import logging
from datetime import datetime, timedelta
from uuid import UUID

from server import metrics
from server.daily.errors import DailyRefused, DailyUnreadable
from server.daily.model import RecordingAtDaily
from server.usecases import participants, rules
from server.usecases.service import POLL_INTERVAL, Service
from storage.model import Recording, RecordingStatus, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

AT_ONCE = timedelta()
FILE_EXPECTED = timedelta(seconds=20)
"""After which Daily is asked for the file of a recording that was stopped, if it has not told of it by then."""
TOLERANCE = timedelta(seconds=5)
"""By which Daily's own end of a recording may differ from the one that its instructor was told."""
FORMER = 5
"""Of a session's earlier starts, how many may still turn out to have come about."""

Outcome = tuple[Recording, RecordingAtDaily | None]


async def end_and_close(service: Service, session: Session) -> Session:
    ended = await end(service, session, closing=True)
    await close(service, session)
    return ended


async def end(service: Service, session: Session, *, closing: bool = False) -> Session:
    """Ends a session whose end is asked for; one that has ended is returned as it is. Who is `closing` it as well keeps
    it from upkeep meanwhile."""
    if session.ends_at is not None:
        return session
    rows = await _decided(service, session)
    running = [row for row in rows if row.status == RecordingStatus.PROCESSING]
    stopped = await stop_recordings(service, session, rows)
    outcomes = [(row, None if stopped else await _looked_up(service, row)) for row in running]
    return await service.store.run(_ended, session, outcomes, closing)


async def _decided(service: Service, session: Session) -> list[Recording]:
    """The session's recordings, once it is known what came of a start that is under way."""
    while True:
        rows = await service.store.run(recordings_of, session.id)
        if not any(map(rules.is_undecided, rows)):
            return rows
        await asyncio.sleep(POLL_INTERVAL)


async def recordings_of(tx: Transaction, session_id: UUID) -> list[Recording]:
    return await tx.recordings.of_session(session_id)


async def stop_recordings(service: Service, session: Session, rows: list[Recording]) -> bool:
    """Stops whatever records in the room: under our instances, those of starts that seemed to have failed included, and
    under Daily's default one, which is that of the button inside the call. Whether there was anything to stop."""
    if not rules.may_have_recorded(session):
        return False
    running = [row.instance_id for row in rows if row.status == RecordingStatus.PROCESSING]
    if any([await service.daily.stop_recording(session.room_name, instance) for instance in dict.fromkeys(running)]):
        return True
    others = [row.id for row in rows[:FORMER] if row.id not in running]
    instances = [None, *others] if None not in running else others
    return any([await service.daily.stop_recording(session.room_name, instance) for instance in instances])


async def _looked_up(service: Service, recording: Recording) -> RecordingAtDaily | None:
    """None too for an odd one: there was nothing to stop, and no end waits for what Daily may never show well."""
    assert recording.recording_id is not None
    try:
        return await service.daily.recording(recording.recording_id)
    except (DailyRefused, DailyUnreadable) as problem:
        logger.warning("cannot look up recording %s: %s", recording.recording_id, problem)
        return None


async def _ended(tx: Transaction, session: Session, outcomes: list[Outcome], closing: bool) -> Session:
    current = rules.found(await tx.sessions.lock_by_id(session.id))
    assert current.end_requested_at is not None
    for recording, at_daily in outcomes:
        await settle_or_complete(tx, recording, at_daily, stopped_at=current.end_requested_at)
    return await tx.sessions.end(session.id, closing=closing)


async def settle_or_complete(
    tx: Transaction, recording: Recording, at_daily: RecordingAtDaily | None, stopped_at: datetime
) -> None:
    """Daily's times where it tells them already, else those of the request."""
    if at_daily is not None and at_daily.status == "finished":
        await settle(tx, recording, at_daily)
    elif at_daily is not None and at_daily.status == "canceled":
        await tx.recordings.fail(recording.id, "Daily cancelled the recording")
    else:
        await tx.recordings.complete(recording.id, stopped_at, FILE_EXPECTED)


async def settle(tx: Transaction, recording: Recording, at_daily: RecordingAtDaily) -> None:
    """Daily's last word on a recording that it has finished."""
    await tx.recordings.finish(
        recording.id,
        at_daily.started_at,
        at_daily.duration,
        at_daily.s3_key,
        at=at_daily.ended_at or at_daily.started_at,
        tolerance=TOLERANCE,
    )


async def close(service: Service, session: Session) -> None:
    """Removes the room of a session that has ended, with nobody and nothing left in it, whatever we were told of it.
    The removal itself is not known to put anybody out: the door is locked, whoever has a token is put out, what they
    recorded is stopped, and then the room goes."""
    if session.room_deleted_at is not None:
        return
    users = await service.store.run(_users, session)
    if users or session.live_at is not None or await participants.present(service, session) != []:
        await _empty(service, session, users)
    await service.daily.delete_room(session.room_name)
    await service.store.run(_closed, session)


async def _empty(service: Service, session: Session, users: list[str]) -> None:
    await service.daily.shut_room(session.room_name)
    present = await participants.present(service, session)
    await service.daily.eject(session.room_name, [one.connection_id for one in present or []], users)
    await _stop_strays(service, session, just_left=present != [] or bool(users))


async def _stop_strays(service: Service, session: Session, *, just_left: bool) -> None:
    """What still records, or was recorded without our being told, is listed by the room for the last time. What those
    who were put out just now have started need not be listed yet."""
    if not rules.may_have_recorded(session):
        return
    listed = await service.daily.recordings(session.room_name)
    rows = await service.store.run(_with_strangers, session, listed)
    running = just_left or any(one.status == "in-progress" for one in listed)
    if running and await stop_recordings(service, session, rows):
        metrics.repaired("recording after the end")
        logger.warning("stopped kind='recording after the end' room=%s", session.room_name)


async def _with_strangers(tx: Transaction, session: Session, listed: list[RecordingAtDaily]) -> list[Recording]:
    """Somebody's recording inside the call is one of the session."""
    await tx.sessions.lock_by_id(session.id)
    for one in listed:
        await tx.recordings.add(session.id, None, one.id, one.started_at, FILE_EXPECTED)
    return await tx.recordings.of_session(session.id)


async def _users(tx: Transaction, session: Session) -> list[str]:
    """Under their ids inside Daily, whose presence is late, as events may be."""
    return await tx.participants.daily_users(session.id)


async def _closed(tx: Transaction, session: Session) -> None:
    """A room that was made only just now may be made once more, by a first request to make it that was sent again."""
    await tx.sessions.room_deleted(session.id, settled_after=rules.LATE)
