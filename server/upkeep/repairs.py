"""Where our rows and Daily differ, and what sets each difference right. It only reads; a `Repair` is applied by others.

Level-triggered: it compares what is with what was asked for, and needs no memory of what failed or was lost."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial

from server.daily.client import MAX_PAGES, MAX_RECORDING, PAGE, Daily, DailyRecording, DailyRefused
from server.errors import ServiceError
from server.upkeep import attendance
from server.usecases import recordings, rules, sessions, webhooks
from storage.model import Recording, RecordingStatus, Session
from storage.store import Store

logger = logging.getLogger(__name__)

FORGOTTEN = timedelta(minutes=1)
"""A recording that Daily has not known for so long is lost."""
AFTERMATH = timedelta(minutes=10)
"""How far back Daily's recordings are looked at in any case: no row awaits what may yet come of a start that failed."""
SETTLED = timedelta(hours=24)
"""A stopped recording whose file Daily has not stored by then has failed."""
OVERDUE = timedelta(seconds=MAX_RECORDING, minutes=10)
MAX_ATTEMPTS = 200
"""How often an event that cannot be applied is tried: over a quarter of an hour."""


class Step(Enum):
    WAIT = "wait"
    STOP = "stop"
    STOP_AGAIN = "stop again"
    SETTLE = "settle"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Repair:
    """`apply` answers False when there turned out to be nothing to do."""

    kind: str
    room_name: str
    reason: str
    apply: Callable[[], Awaitable[object]]
    calls_daily: bool = True


async def differences(store: Store, daily: Daily, meetings_since: datetime) -> AsyncIterator[Repair]:
    """All of them, each part as far as one pass goes. A part that cannot be looked at does not keep the others waiting:
    what is wrong with it is raised at the end."""
    problems: list[ServiceError] = []
    parts = (
        _events(store),
        _recordings(store, daily),
        _attendance(store, daily, meetings_since),
        _sessions(store, daily),
    )
    for part in parts:
        try:
            async for repair in part:
                yield repair
        except ServiceError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


async def _events(store: Store) -> AsyncIterator[Repair]:
    async with store.statement() as tx:
        events = await tx.inbox.unapplied(MAX_ATTEMPTS)
    for event in events:
        waits = f"{event.type} {event.id} waits"
        yield Repair("event", "", waits, partial(webhooks.retry, store, event), calls_daily=False)


async def _attendance(store: Store, daily: Daily, since: datetime) -> AsyncIterator[Repair]:
    async for session, stay in attendance.untold(store, daily, since):
        reason = f"connection {stay.id} was not told of in full"
        write = partial(attendance.write, store, session, stay)
        yield Repair("attendance", session.room_name, reason, write, calls_daily=False)


async def _sessions(store: Store, daily: Daily) -> AsyncIterator[Repair]:
    async with store.statement() as tx:
        abandoned = await tx.sessions.abandoned(rules.LATE)
    for session in abandoned:
        yield Repair(
            "abandoned create",
            session.room_name,
            "its room was never confirmed",
            partial(sessions.abandon, store, daily, session),
        )
    async with store.statement() as tx:
        undeleted = await tx.sessions.undeleted(rules.LEASE)
    for session in undeleted:
        yield Repair(
            "unfinished delete",
            session.room_name,
            "it was asked for and not confirmed",
            partial(sessions.finish_delete, store, daily, session),
        )


async def _recordings(store: Store, daily: Daily) -> AsyncIterator[Repair]:
    now = datetime.now(UTC)
    async with store.statement() as tx:
        rows = await tx.recordings.unsettled()
    oldest = min([now - AFTERMATH, *(recording.created_at - FORGOTTEN for _, recording in rows)])
    listed = await _listed(daily, oldest)
    async with store.statement() as tx:
        known = await tx.recordings.known(list(listed))
    unknown = [found for found in listed.values() if found.id not in known]
    for session, recording in rows:
        if recording.recording_id is None:
            repair = _unconfirmed(store, session, recording, unknown)
        else:
            repair = await _named(store, daily, session, recording, listed)
        if repair is not None:
            yield repair
    for found in listed.values():
        # A start that failed may still have come about at Daily: its recording is known then, and no more wanted.
        unwanted = known.get(found.id, RecordingStatus.FAILED) == RecordingStatus.FAILED
        repair = None
        if unwanted and found.status == "in-progress" and now - found.started_at > rules.LEASE:
            repair = await _stray(store, daily, found)
        elif unwanted and found.status == "finished" and found.id in known:
            repair = await _came_about(store, found)
        if repair is not None:
            yield repair


async def _named(
    store: Store, daily: Daily, session: Session, recording: Recording, listed: dict[str, DailyRecording]
) -> Repair | None:
    assert recording.recording_id is not None
    try:
        found = listed.get(recording.recording_id) or await daily.recording(recording.recording_id)
    except DailyRefused as refusal:  # of one recording: the others must not wait for it
        logger.warning("cannot look up recording %s: %s", recording.recording_id, refusal)
        return None
    return _confirmed(store, daily, session, recording, found)


async def _listed(daily: Daily, since: datetime) -> dict[str, DailyRecording]:
    """Daily's recordings that started after `since`, by id, as far as a pass reads."""
    listed: dict[str, DailyRecording] = {}
    for _ in range(MAX_PAGES):
        page = await daily.recordings(after=next(reversed(listed), None))
        listed.update((found.id, found) for found in page)
        if len(page) < PAGE or page[-1].started_at < since:
            break
    return listed


def _unconfirmed(store: Store, session: Session, recording: Recording, unknown: list[DailyRecording]) -> Repair | None:
    since = recording.created_at - timedelta(seconds=5)
    for found in unknown:
        if found.room_name == session.room_name and found.started_at >= since:

            async def adopt(found: DailyRecording = found) -> None:
                async with store.transaction() as tx:
                    current = await tx.sessions.lock(session.room_name)
                    await tx.recordings.confirm(recording.id, found.id, found.started_at)
                    if current is None or current.ends_at is not None or current.delete_requested_at is not None:
                        await tx.recordings.request_stop(recording.id)

            return Repair("unconfirmed start", session.room_name, f"Daily runs it as {found.id}", adopt)

    async def fail() -> bool:
        async with store.transaction() as tx:
            await tx.sessions.lock(session.room_name)
            # A repeated call may have gone on with the start meanwhile, and the last request may yet have its effect.
            if ours := await tx.recordings.take_over(recording.id, rules.LEASE, idle=rules.LATE):
                await tx.recordings.fail_start(recording.id, "Daily never started the recording")
        return ours

    if datetime.now(UTC) - recording.created_at < rules.LEASE:
        return None
    return Repair("unconfirmed start", session.room_name, "Daily never started it", fail)


def _confirmed(
    store: Store, daily: Daily, session: Session, recording: Recording, found: DailyRecording | None
) -> Repair | None:
    async def stop() -> object:
        return await recordings.finish_stop(store, daily, session, recording)

    async def stop_again() -> bool:
        return await daily.stop_recording(session.room_name, recording.id)

    async def settle() -> object:
        return await recordings.settle(store, session, recording, found) if found else False

    async def fail() -> bool:
        async with store.transaction() as tx:
            await tx.sessions.lock(session.room_name)
            return await tx.recordings.fail(recording.id, reason)

    step, reason = _next_step(recording, found, datetime.now(UTC))
    apply = {Step.STOP: stop, Step.STOP_AGAIN: stop_again, Step.SETTLE: settle, Step.FAIL: fail}.get(step)
    return None if apply is None else Repair(f"recording to {step.value}", session.room_name, reason, apply)


def _next_step(recording: Recording, found: DailyRecording | None, now: datetime) -> tuple[Step, str]:
    """What a recording needs whose last word from Daily has not come, where `found` is what Daily says of it."""
    running = recording.status == RecordingStatus.PROCESSING
    if running and recording.stop_requested_at is not None:
        waited = now - recording.stop_requested_at > rules.LEASE
        return (Step.STOP if waited else Step.WAIT), "a stop was asked for and not confirmed"
    if found is None:
        waited = now - recording.created_at > FORGOTTEN
        return (Step.FAIL if waited else Step.WAIT), "Daily does not know the recording"
    if found.status == "canceled":
        return Step.FAIL, "Daily cancelled the recording"
    if found.status == "finished":
        return Step.SETTLE, "Daily has finished it"
    if running:
        return (Step.STOP if now - found.started_at > OVERDUE else Step.WAIT), "Daily should have ended it"
    stopped = now - (recording.stopped_at or recording.created_at)
    if stopped > SETTLED:
        return Step.FAIL, "Daily stored no file"
    return (Step.STOP_AGAIN if stopped > rules.LEASE else Step.WAIT), "it was stopped, and Daily lists it as running"


async def _stray(store: Store, daily: Daily, found: DailyRecording) -> Repair | None:
    """A recording in a room of ours that no row of ours asked for, or not any more."""
    async with store.transaction() as tx:
        session = await tx.sessions.by_name(found.room_name)
        rows = [] if session is None else await tx.recordings.of_session(session.id)
    if session is None or any(row.recording_id is None and row.status == RecordingStatus.PROCESSING for row in rows):
        return None

    async def stop() -> bool:
        instances = [row.id for row in rows if row.status != RecordingStatus.PROCESSING]
        stopped = [await daily.stop_recording(found.room_name, instance) for instance in (*instances, None)]
        return any(stopped)

    return Repair("stray recording", found.room_name, f"nobody asked for {found.id}", stop)


async def _came_about(store: Store, found: DailyRecording) -> Repair | None:
    """A recording that had failed, as far as we knew, and that Daily has finished."""
    async with store.transaction() as tx:
        session = await tx.sessions.by_name(found.room_name)
        recording = await tx.recordings.by_daily_id(found.id)
    if session is None or recording is None or recording.status != RecordingStatus.FAILED:
        return None
    settle = partial(recordings.settle, store, session, recording, found)
    return Repair("recording to settle", found.room_name, "it had failed, and Daily has finished it", settle)
