"""Use cases of recordings. Our row's id is Daily's instanceId, so that a start can be sent again and again."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from server.caller import Caller
from server.daily.client import AccessLink, Daily, DailyRecording, DailyRefused, DailyUnavailable, NobodyInRoom
from server.errors import FailedPrecondition, NotFound, Unavailable
from server.usecases import rules
from server.usecases.sessions import POLL_INTERVAL
from storage.model import Recording, RecordingStatus, Session
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Playback:
    """A recording, what Daily calls its state, and the link to its file if there is one."""

    recording: Recording
    status: str
    link: AccessLink | None


async def start(store: Store, daily: Daily, caller: Caller, room_name: str) -> Recording:
    while True:
        async with store.transaction() as tx:
            session = rules.found(await tx.sessions.lock(room_name))
            rules.owns(caller, session, "record")
            rules.may_record(session)
            recording, ours = await tx.recordings.running(session.id), True
            again = recording is not None
            if recording is None:
                made_live = await tx.sessions.make_live(session.id)
                recording = await tx.recordings.begin(session.id, made_live=made_live, lease=rules.LEASE)
            elif recording.recording_id is None:
                ours = await tx.recordings.take_over(recording.id, rules.LEASE, idle=timedelta())
        if recording.recording_id is not None:
            return recording
        if ours:
            return await _start_at_daily(store, daily, session, recording, again=again)
        await asyncio.sleep(POLL_INTERVAL)


async def _start_at_daily(
    store: Store, daily: Daily, session: Session, recording: Recording, *, again: bool
) -> Recording:
    """A refusal does not end what an earlier request may yet bring about: who asks again goes on with it."""
    try:
        running = await _running(store, daily, session, recording)
    except DailyRefused as refusal:
        if again:
            await _release(store, recording)
            raise
        async with store.transaction() as tx:
            current = rules.found(await tx.sessions.lock(session.room_name))
            await tx.recordings.fail_start(recording.id, refusal.message)
        rules.may_record(current)  # its end, meanwhile, is why Daily refused
        if isinstance(refusal, NobodyInRoom):
            raise FailedPrecondition(
                "Recording cannot start until someone has joined the session", "NOBODY_IN_ROOM"
            ) from None
        raise
    except DailyUnavailable:
        await _release(store, recording)
        raise
    return await confirm(store, daily, session, recording, running)


async def _release(store: Store, recording: Recording) -> None:
    async with store.transaction() as tx:
        await tx.recordings.release(recording.id)


async def _running(store: Store, daily: Daily, session: Session, recording: Recording) -> DailyRecording:
    refusal = None
    try:
        await daily.start_recording(session.room_name, recording.id)
    except DailyRefused as problem:
        refusal = problem
    known = await _known(store, session)

    def is_ours(found: DailyRecording) -> bool:
        return found.status == "in-progress" and found.id not in known

    # An earlier request, the answer to which was lost, may have started what Daily refuses to start now.
    if refusal and not any(map(is_ours, await daily.recordings(room_name=session.room_name))):
        raise refusal
    return await daily.find_recording(session.room_name, is_ours)


async def _known(store: Store, session: Session) -> set[str]:
    async with store.statement() as tx:
        rows = await tx.recordings.of_session(session.id)
    return {row.recording_id for row in rows if row.recording_id is not None and row.status != "processing"}


async def confirm(
    store: Store, daily: Daily, session: Session, recording: Recording, running: DailyRecording
) -> Recording:
    """Commits that Daily runs the recording. A session that was ended, or asked to stop, meanwhile gets its way."""
    async with store.transaction() as tx:
        current = rules.found(await tx.sessions.lock(session.room_name))
        confirmed = await tx.recordings.confirm(recording.id, running.id, running.started_at)
        unwanted = current.ends_at is not None or current.delete_requested_at is not None
        if confirmed is not None and unwanted:
            await tx.recordings.request_stop(confirmed.id)
    if confirmed is None and not unwanted:
        raise Unavailable("the recording failed while it was being started")
    if confirmed is not None and unwanted:
        await finish_stop(store, daily, current, confirmed)
    if confirmed is None or unwanted:
        raise rules.ended()
    return confirmed


async def stop(store: Store, daily: Daily, caller: Caller, room_name: str) -> Recording:
    async with store.transaction() as tx:
        session = rules.found(await tx.sessions.lock(room_name))
        rules.owns(caller, session, "stop recording")
        recording = rules.recorded(await tx.recordings.latest(session.id))
        if not rules.is_over(recording, session):
            await tx.recordings.request_stop(recording.id)
    if rules.is_over(recording, session):
        return recording
    return await finish_stop(store, daily, session, await _started(store, recording))


async def _started(store: Store, recording: Recording) -> Recording:
    """Waits until a start that is under way has come to its end."""
    while recording.status == RecordingStatus.PROCESSING and recording.recording_id is None:
        await asyncio.sleep(POLL_INTERVAL)
        async with store.statement() as tx:
            recording = rules.recorded(await tx.recordings.by_id(recording.id))
    if recording.recording_id is None:
        raise NotFound("This session has not been recorded", "RECORDING_NOT_FOUND")
    return recording


async def finish_stop(store: Store, daily: Daily, session: Session, recording: Recording) -> Recording:
    """Does what a committed request to stop asked for; safe to repeat."""
    if recording.status == RecordingStatus.PROCESSING:
        await daily.stop_recording(session.room_name, recording.id)
    async with store.transaction() as tx:
        await tx.sessions.lock(session.room_name)
        completed = await tx.recordings.complete(recording.id)
        await tx.sessions.end(session.id)
    return completed


async def settle(store: Store, session: Session, recording: Recording, found: DailyRecording) -> Recording:
    """Commits Daily's last word on a recording that it has finished."""
    ended_at = found.started_at + timedelta(seconds=found.duration or 0)
    async with store.transaction() as tx:
        await tx.sessions.lock(session.room_name)
        await tx.recordings.finish(recording.id, ended_at, found.duration, found.s3_key)
        return rules.recorded(await tx.recordings.by_id(recording.id))


async def get(store: Store, daily: Daily, caller: Caller, room_name: str) -> Playback:
    async with store.transaction() as tx:
        session = rules.found(await tx.sessions.by_name(room_name))
        rules.may_watch(caller, session, await tx.participants.by_user(session.id, caller.id))
        recording = rules.recorded(await tx.recordings.latest(session.id))
    if recording.status == RecordingStatus.FAILED:
        return Playback(recording, "failed", None)
    if recording.recording_id is None:
        return Playback(recording, "in-progress", None)
    found = await daily.recording(recording.recording_id)
    if found is None:
        raise NotFound("The recording is no longer available", "RECORDING_NOT_FOUND")
    if found.status == "finished" and recording.settled_at is None:
        recording = await settle(store, session, recording, found)
    link = await daily.access_link(found.id) if found.status == "finished" else None
    return Playback(recording, found.status, link)


async def of_session(store: Store, caller: Caller, room_name: str) -> list[Recording]:
    async with store.transaction() as tx:
        session = rules.found(await tx.sessions.by_name(room_name))
        rules.owns(caller, session, "list recordings of")
        return await tx.recordings.of_session(session.id)
