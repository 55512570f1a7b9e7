"""Use cases of recordings. Our row's id is Daily's instanceId, so that a start can be sent again and again."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from server import deadline
from server.caller import Caller
from server.daily.client import MAX_RECORDING, Start
from server.daily.errors import DailyRefused, DailyUnavailable, DailyUnreadable
from server.daily.model import AccessLink, RecordingAtDaily
from server.errors import FailedPrecondition, NotFound, Unavailable
from server.usecases import ending, rules
from server.usecases.service import POLL_INTERVAL, Service
from storage.model import Recording, RecordingStatus, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

NOBODY_PATIENCE, NOBODY_PAUSE = 4.0, 1.5
"""Seconds for which a start is tried again while nobody is seen in the room, and between two tries."""
UNANSWERED = 3
"""Requests to start a recording that may remain without an answer."""
FIRST_LOOK, LONGEST_PAUSE = 1.0, 8.0
"""Seconds after which Daily's list is read for the recording, if no event has named it by then; with growing pauses."""
OVERDUE = timedelta(seconds=MAX_RECORDING, minutes=10)
"""After so long Daily has ended every recording."""
OTHER = "Another recording was running"
YOUNG = timedelta(seconds=60)
"""By which Daily's clock may be behind ours where it tells a recording younger than our request for it."""


@dataclass(frozen=True, slots=True)
class Playback:
    """A recording, what Daily calls its state, and the link to its file if there is one."""

    recording: Recording
    status: str
    link: AccessLink | None


async def start(service: Service, caller: Caller, room_name: str) -> Recording:
    while True:
        session, recording, begun = await service.store.run(_ask_to_start, caller, room_name, service.lifetimes)
        if recording.recording_id is not None:
            return recording
        if begun is not None or ("start", recording.id) in service.works:
            work = partial(finish_start, service, session, recording, resumed=not begun)
            if started := await service.see_through("start", recording, work):
                return started
        await asyncio.sleep(POLL_INTERVAL)


async def _ask_to_start(
    tx: Transaction, caller: Caller, room_name: str, lifetimes: rules.Lifetimes
) -> tuple[Session, Recording, bool | None]:
    """The recording that runs or is to run, and whether it is begun with this call; None when somebody is at it."""
    session = rules.found(await tx.sessions.lock(room_name))
    rules.owns(caller, session, "record")
    rules.may_record(session)
    running = _running(await tx.recordings.of_session(session.id))
    if running is None:
        made_live = await tx.sessions.make_live([session.id], lifetimes.first_look)
        return session, await tx.recordings.begin(session.id, uuid4(), made_live=made_live, lease=rules.LEASE), True
    taken_over = await tx.recordings.take_over(running.id, rules.LEASE)
    return session, taken_over or running, None if taken_over is None else False


def _running(rows: list[Recording]) -> Recording | None:
    """The one that Daily is known to run, before one that may be starting."""
    running = [row for row in rows if row.status == RecordingStatus.PROCESSING]
    return min(running, key=rules.is_undecided, default=None)


async def finish_start(service: Service, session: Session, recording: Recording, *, resumed: bool) -> Recording:
    """Makes Daily record, until it is known under which id; safe to repeat. A refusal does not end what an earlier
    request may yet bring about."""
    try:
        answer = await _ask_daily(service, session, recording)
    except DailyRefused as refusal:
        await service.store.run(_fail, session, recording, refusal.message)
        raise
    if answer is Start.NOBODY:
        await service.store.run(_fail, session, recording, "Nobody was in the room")
        raise FailedPrecondition("Recording cannot start until someone has joined the session", "NOBODY_IN_ROOM")
    if answer is None:
        started = await _looked_for(service, session, recording, refused=False, resumed=resumed)
        if started is None:
            raise DailyUnavailable("no request to start it was answered", taken=True)
        return started
    return await _identified(service, session, recording, refused=answer is not Start.SENT, resumed=resumed)


async def _ask_daily(service: Service, session: Session, recording: Recording) -> Start | None:
    """None when no request was answered, of which each may have its effect: it would be under the same instance."""
    waited, unanswered = 0.0, 0
    while True:
        if not await service.store.run(_still_wanted, session, recording):
            raise rules.ended()
        try:
            answer = await service.daily.start_recording(session.room_name, recording.id)
        except DailyUnavailable as problem:
            if not problem.taken:
                raise
            await service.store.run(_in_doubt, recording)
            unanswered += 1
            if unanswered == UNANSWERED:
                return None
            continue
        if answer is not Start.NOBODY or waited + NOBODY_PAUSE > NOBODY_PATIENCE:
            return answer
        await asyncio.sleep(NOBODY_PAUSE)
        waited += NOBODY_PAUSE


async def _still_wanted(tx: Transaction, session: Session, recording: Recording) -> bool:
    """A session that is to end meanwhile gets its way, unless a request on its way may yet have its effect."""
    current = rules.found(await tx.sessions.lock_by_id(session.id))
    if current.end_requested_at is None or await tx.recordings.is_in_doubt(recording.id):
        return True
    await tx.recordings.fail_start(recording.id, "The session ended")
    return False


async def _in_doubt(tx: Transaction, recording: Recording) -> None:
    await tx.recordings.in_doubt(recording.id, rules.LATE)


async def _fail(tx: Transaction, session: Session, recording: Recording, reason: str) -> None:
    await tx.sessions.lock_by_id(session.id)
    if await tx.recordings.is_in_doubt(recording.id):
        raise DailyUnavailable(f"{reason}, after a request that was not answered", taken=True)
    await tx.recordings.fail_start(recording.id, reason)


async def _identified(
    service: Service, session: Session, recording: Recording, *, refused: bool, resumed: bool
) -> Recording:
    """Waits until an event, or Daily's list, tells the id. What Daily refused to start because something records
    already may be what an earlier request has started, or somebody's recording inside the call."""
    clock = asyncio.get_running_loop().time
    pause, look_at = FIRST_LOOK, clock() + (0 if refused else FIRST_LOOK)
    while deadline.remaining() > POLL_INTERVAL:
        known = await service.store.run(_known, session, recording, refused)
        if known is None and clock() >= look_at:
            known = await _looked_for(service, session, recording, refused=refused, resumed=resumed)
            look_at, pause = clock() + pause, min(2 * pause, LONGEST_PAUSE)
        if known is not None:
            return known
        await asyncio.sleep(POLL_INTERVAL)
    raise Unavailable(f"Daily names no new recording of {session.room_name}")


async def _looked_for(
    service: Service, session: Session, recording: Recording, *, refused: bool, resumed: bool
) -> Recording | None:
    listed = await service.daily.recordings(session.room_name)
    await service.store.run(_recognise, session, recording, listed, refused, resumed)
    return await service.store.run(_known, session, recording, refused)


async def _known(tx: Transaction, session: Session, recording: Recording, refused: bool) -> Recording | None:
    """What the start has come to, if that is known by now: our recording, or the one that it was refused for."""
    current = rules.found(await tx.sessions.lock_by_id(session.id))
    rows = await tx.recordings.of_session(session.id)
    ours = next(row for row in rows if row.id == recording.id)
    running = _running(rows) if refused else ours
    if running is None or ours.status == RecordingStatus.FAILED:
        raise Unavailable("the recording failed while it was being started")
    if rules.is_undecided(running):
        return None
    if current.end_requested_at is not None:
        raise rules.ended()
    if running.id != ours.id:
        await tx.recordings.fail_start(ours.id, OTHER)
    return running


async def _recognise(
    tx: Transaction,
    session: Session,
    recording: Recording,
    listed: list[RecordingAtDaily],
    refused: bool,
    resumed: bool,
) -> None:
    """The sole one of the room that no row knows is ours if our request came before it; somebody else's if we were
    refused without one that may have had its effect. Several wait for the events that tell them apart."""
    await tx.sessions.lock_by_id(session.id)
    rows = await tx.recordings.of_session(session.id)
    ours = next(row for row in rows if row.id == recording.id)
    known = {row.recording_id for row in rows}
    unknown = [one for one in listed if one.id not in known and (one.status == "in-progress" or not refused)]
    if not rules.is_undecided(ours) or len(unknown) != 1:
        return
    [one] = unknown
    asked_before = not refused or resumed or ours.in_doubt_until is not None
    if asked_before and one.started_at > ours.created_at - YOUNG:
        await tx.recordings.name(ours.id, one.id, one.started_at, OVERDUE)
    elif refused:
        await tx.recordings.keep_live([session.id])
        await tx.recordings.add(session.id, None, one.id, one.started_at, OVERDUE)


async def stop(service: Service, caller: Caller, room_name: str) -> Recording:
    session = await service.store.run(_ask_to_stop, caller, room_name, service.lifetimes.closing)
    while session.ends_at is None:
        session = await service.see_through("end", session, partial(ending.end, service, session)) or session
    return rules.recorded(await service.store.run(_latest, session.id))


async def _ask_to_stop(tx: Transaction, caller: Caller, room_name: str, closing: timedelta | None) -> Session:
    session = rules.found(await tx.sessions.lock(room_name))
    rules.owns(caller, session, "stop recording")
    if await tx.recordings.latest(session.id) is None:
        raise NotFound("This session has not been recorded", "RECORDING_NOT_FOUND")
    return session if session.ends_at else await tx.sessions.request_end(session.id, rules.LEASE, closing)


async def _latest(tx: Transaction, session_id: UUID) -> Recording | None:
    return await tx.recordings.latest(session_id)


async def get(service: Service, caller: Caller, room_name: str) -> Playback:
    recording = await service.store.run(_to_watch, caller, room_name)
    if recording.status == RecordingStatus.FAILED:
        return Playback(recording, "failed", None)
    if recording.recording_id is None:
        return Playback(recording, "in-progress", None)
    if recording.settled_at is None:
        found = await _found_at_daily(service, recording.recording_id)
        if found is None or found.status != "finished":
            return Playback(recording, "in-progress" if found is None else found.status, None)
        recording = await service.store.run(_settled, recording, found)
    return Playback(recording, "finished", await _link(service, recording))


async def _link(service: Service, recording: Recording) -> AccessLink:
    assert recording.recording_id is not None
    try:
        return await service.daily.access_link(recording.recording_id)
    except DailyRefused as refusal:
        if refusal.status == 404:
            raise NotFound("The recording is no longer available", "RECORDING_NOT_FOUND") from None
        raise


async def _to_watch(tx: Transaction, caller: Caller, room_name: str) -> Recording:
    session = rules.found(await tx.sessions.by_name(room_name))
    rules.may_watch(caller, session, await tx.participants.by_user(session.id, caller.id))
    recording = await tx.recordings.latest(session.id)
    if recording is None:
        raise NotFound("This session has not been recorded", "RECORDING_NOT_FOUND")
    return recording


async def _found_at_daily(service: Service, recording_id: str) -> RecordingAtDaily | None:
    """None where Daily lists it not yet, or oddly: our row alone tells of it then."""
    try:
        return await service.daily.recording(recording_id)
    except (DailyRefused, DailyUnreadable) as problem:
        logger.warning("cannot look up recording %s: %s", recording_id, problem)
        return None


async def _settled(tx: Transaction, recording: Recording, found: RecordingAtDaily) -> Recording:
    await tx.sessions.lock_by_id(recording.session_id)
    await ending.settle(tx, recording, found)
    return rules.recorded(await tx.recordings.by_id(recording.id))


async def of_session(service: Service, caller: Caller, room_name: str) -> list[Recording]:
    return await service.store.run(_of_session, caller, room_name)


async def _of_session(tx: Transaction, caller: Caller, room_name: str) -> list[Recording]:
    session = rules.found(await tx.sessions.by_name(room_name))
    rules.owns(caller, session, "list recordings of")
    return await tx.recordings.of_session(session.id)
