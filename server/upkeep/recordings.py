"""What is due of recordings: starts of which it is not known what came, files that have not come, and what Daily should
have ended."""

import logging
from datetime import datetime, timedelta

from server import metrics
from server.daily.errors import DailyUnreadable
from server.daily.model import RecordingAtDaily
from server.errors import FailedPrecondition
from server.usecases import ending, recordings, rules
from server.usecases.service import Service
from storage.model import Recording, RecordingStatus, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

FORGOTTEN = timedelta(minutes=1)
"""A recording that Daily has not known for so long is lost."""
FILE_GIVEN_UP = timedelta(hours=24)
"""A stopped recording whose file Daily has not stored by then has failed."""
STILL_RUNNING = timedelta(seconds=60)
"""What Daily lists as running for so long after it was stopped is stopped again."""
GIVEN_UP = timedelta(minutes=2)
"""A start that did not come about within this time is not tried any more."""
FIRST_LOOK, LONGEST_PAUSE = 20.0, 3600.0
"""Seconds between looks for a file, doubled with each."""


async def finish_start(service: Service, recording: Recording, attempts: int) -> None:
    session = await service.store.run(_session, recording)
    if rules.taken_at(recording) - recording.created_at > GIVEN_UP:
        await service.store.run(_give_up, recording)
        outcome = "given up"
    else:
        try:
            await recordings.finish_start(service, session, recording, resumed=True)
            outcome = "started"
        except FailedPrecondition as refusal:
            outcome = refusal.message
    metrics.repaired("start")
    logger.info("done kind=%r room=%s attempts=%d outcome=%r", "start", session.room_name, attempts, outcome)


async def _session(tx: Transaction, recording: Recording) -> Session:
    return rules.found(await tx.sessions.by_id(recording.session_id))


async def _give_up(tx: Transaction, recording: Recording) -> None:
    await tx.sessions.lock_by_id(recording.session_id)
    await tx.recordings.fail_start(recording.id, "Daily never started the recording")


async def look_after(service: Service, recording: Recording, attempts: int) -> timedelta | None:
    """Compares a recording with what Daily says of it, by its id."""
    session = await service.store.run(_session, recording)
    found = await _found(service, session, recording)
    now = rules.taken_at(recording)
    if found is not None and found.status == "in-progress":
        return await _running(service, session, recording, found, now, attempts)
    if found is None and now - max(recording.created_at, recording.started_at or recording.created_at) < FORGOTTEN:
        return _pause(attempts)
    await service.store.run(_decide, recording, found)
    metrics.repaired("recording")
    logger.info("done kind=%r room=%s attempts=%d", "recording", session.room_name, attempts)
    return None


async def _found(service: Service, session: Session, recording: Recording) -> RecordingAtDaily | None:
    """One that cannot be read is as one in progress, which comes to its end when its time is over."""
    assert recording.recording_id is not None
    try:
        return await service.daily.recording(recording.recording_id)
    except DailyUnreadable as problem:
        logger.warning("taken for one in progress: %s", problem)
        started_at = recording.started_at or recording.created_at
        return RecordingAtDaily(recording.recording_id, session.room_name, "in-progress", started_at, None, None)


async def _decide(tx: Transaction, recording: Recording, found: RecordingAtDaily | None) -> None:
    await tx.sessions.lock_by_id(recording.session_id)
    if found is None:
        await tx.recordings.fail(recording.id, "Daily does not know the recording")
    elif found.status == "canceled":
        await tx.recordings.fail(recording.id, "Daily cancelled the recording")
    else:
        await ending.settle(tx, recording, found)


async def _running(
    service: Service,
    session: Session,
    recording: Recording,
    found: RecordingAtDaily,
    now: datetime,
    attempts: int,
) -> timedelta | None:
    wanted = session.end_requested_at is None and now - found.started_at < recordings.OVERDUE
    if wanted and recording.status == RecordingStatus.PROCESSING:
        return found.started_at + recordings.OVERDUE - now
    if wanted and recording.status == RecordingStatus.FAILED and await service.store.run(_reopen, recording):
        return None
    since = recording.stopped_at or found.started_at
    if now - since > FILE_GIVEN_UP:
        await service.store.run(_fail, recording)
        return None
    unstopped = recording.status != RecordingStatus.COMPLETED or now - since > STILL_RUNNING
    if unstopped and await _stop(service, session, recording):
        metrics.repaired("recording to stop again")
        logger.warning("stopped kind=%r room=%s", "recording to stop again", session.room_name)
    await service.store.run(_complete, recording, session.end_requested_at or now)
    return _pause(attempts)


async def _stop(service: Service, session: Session, recording: Recording) -> bool:
    """Alone, unless nothing is to be recorded in its room any more."""
    if session.end_requested_at is None:
        return await service.daily.stop_recording(session.room_name, recording.instance_id)
    rows = await service.store.run(ending.recordings_of, session.id)
    return await ending.stop_recordings(service, session, rows)


async def _reopen(tx: Transaction, recording: Recording) -> bool:
    """A start that had failed came about after all, unless another one runs by now, or the session is to end."""
    session = await tx.sessions.lock_by_id(recording.session_id)
    rows = await tx.recordings.of_session(recording.session_id)
    if session is None or session.end_requested_at or any(row.status == RecordingStatus.PROCESSING for row in rows):
        return False
    await tx.recordings.reopen(recording.id, recordings.OVERDUE)
    return True


async def _fail(tx: Transaction, recording: Recording) -> None:
    await tx.sessions.lock_by_id(recording.session_id)
    await tx.recordings.fail(recording.id, "Daily stored no file")


async def _complete(tx: Transaction, recording: Recording, stopped_at: datetime) -> None:
    await tx.sessions.lock_by_id(recording.session_id)
    await tx.recordings.complete(recording.id, stopped_at, timedelta(seconds=FIRST_LOOK))


def _pause(attempts: int) -> timedelta:
    return timedelta(seconds=min(LONGEST_PAUSE, FIRST_LOOK * 2 ** min(attempts - 1, 10)))
