"""Recordings: started and stopped by instance, ended by their limits, finished after some processing."""

from collections.abc import Iterator, Mapping

from . import checks
from .errors import DailyError, invalid
from .paging import page
from .state import JSON, Recording, State, new_id, now

DEFAULT_INSTANCE = "c3df927c-f738-4471-a2b7-066fa7e95a6b"
DEFAULT_MAX_DURATION = 3 * 60 * 60
DEFAULT_IDLE_TIMEOUT = 300
PROCESSING_SECONDS = 0.5
BODY = {
    "instanceId": checks.UUID,
    "type": checks.one_of("cloud", "raw-tracks"),
    "layout": checks.OBJECT,
    "minIdleTimeOut": checks.POSITIVE,
    "maxDuration": checks.POSITIVE,
}


def start(state: State, domain: str, room: str, body: JSON) -> JSON:
    """An empty room can be recorded: a silent host counts as present."""
    checks.check(body, BODY)
    instance_id = body.get("instanceId", DEFAULT_INSTANCE)
    if any(running.instance_id == instance_id for running in _running(state, room)):
        raise invalid(f"room {room} has an active stream")
    moment = now()
    meeting = state.open_meetings.get(room)
    recording = Recording(
        id=new_id(),
        room_name=room,
        instance_id=instance_id,
        layout=body.get("layout", {"preset": "default"}),
        start_ts=moment,
        max_duration=body.get("maxDuration", DEFAULT_MAX_DURATION),
        min_idle_timeout=body.get("minIdleTimeOut", DEFAULT_IDLE_TIMEOUT),
        s3key=f"{domain}/{room}/{round(moment * 1000)}",
        mtg_session_id=meeting.id if meeting else None,
        max_participants=len(meeting.present()) if meeting else 1,
    )
    state.recordings[recording.id] = state.open_recordings[recording.id] = recording
    state.emit("recording.started", recording.id, room, _started_payload(recording))
    return {"status": "sent"}


def stop(state: State, room: str, body: JSON) -> JSON:
    checks.check(body, {"instanceId": checks.UUID})
    instance_id = body.get("instanceId", DEFAULT_INSTANCE)
    for recording in _running(state, room):
        if recording.instance_id == instance_id:
            recording.end_ts = now()
            return {"status": "sent"}
    raise invalid(f"room {room} is not being recorded")


def stop_all(state: State, room: str) -> None:
    for recording in _running(state, room):
        recording.end_ts = now()


def end(state: State, recording_id: str) -> Recording:
    """Daily ends it by itself, as at maxDuration."""
    recording = _open(state, recording_id)
    if recording.end_ts is not None:
        raise invalid(f"recording {recording_id} has ended")
    recording.end_ts = now()
    return recording


def fail(state: State, recording_id: str, body: JSON) -> Recording:
    checks.check(body, {"error_msg": checks.STRING})
    recording = _open(state, recording_id)
    recording.end_ts = recording.end_ts or now()
    recording.status = "canceled"
    del state.open_recordings[recording_id]
    error = {
        "action": "cloud-recording-err",
        "error_msg": body.get("error_msg", "the recording failed"),
        "instance_id": recording.instance_id,
        "room_name": recording.room_name,
        "timestamp": int(now()),
    }
    state.emit("recording.error", recording_id, recording.room_name, error)
    return recording


def advance(state: State) -> None:
    """Ends what has reached its limit, finishes what has been processed."""
    moment = now()
    for recording in list(state.open_recordings.values()):
        if recording.end_ts is None:
            limit = recording.start_ts + recording.max_duration
            if recording.idle_since is not None:
                limit = min(limit, recording.idle_since + recording.min_idle_timeout)
            if limit <= moment:
                recording.end_ts = round(limit, 3)
                state.changed = True
        elif recording.end_ts + PROCESSING_SECONDS <= moment:
            _finish(state, recording, recording.end_ts)


def find(state: State, recording_id: str) -> Recording:
    if recording := state.recordings.get(recording_id):
        return recording
    raise DailyError(404, f"recording {recording_id} not found")


def listed(state: State, query: Mapping[str, str]) -> JSON:
    room = query.get("room_name")
    found = [r for r in reversed(state.recordings.values()) if room in (None, r.room_name)]
    return {"total_count": len(found), "data": [view(r) for r in page(found, query, lambda r: r.id)]}


def delete(state: State, recording_id: str) -> JSON:
    find(state, recording_id)
    del state.recordings[recording_id]
    state.open_recordings.pop(recording_id, None)
    return {"deleted": True, "id": recording_id}


def view(recording: Recording) -> JSON:
    shown: JSON = {
        "id": recording.id,
        "room_name": recording.room_name,
        "start_ts": int(recording.start_ts),
        "status": recording.status,
        "max_participants": recording.max_participants,
        "s3key": recording.s3key,
        "mtgSessionId": recording.mtg_session_id,
        "tracks": [],
    }
    if recording.duration is not None:
        shown["duration"] = recording.duration
    return shown


def _running(state: State, room: str) -> Iterator[Recording]:
    return (r for r in state.open_recordings.values() if r.room_name == room and r.end_ts is None)


def _open(state: State, recording_id: str) -> Recording:
    recording = find(state, recording_id)
    if recording.status != "in-progress":
        raise invalid(f"recording {recording_id} is {recording.status}")
    return recording


def _finish(state: State, recording: Recording, end_ts: float) -> None:
    recording.status = "finished"
    recording.duration = max(1, int(end_ts - recording.start_ts))
    del state.open_recordings[recording.id]
    ready = {
        "recording_id": recording.id,
        "room_name": recording.room_name,
        "start_ts": int(recording.start_ts),
        "status": recording.status,
        "max_participants": recording.max_participants,
        "duration": recording.duration,
        "s3_key": recording.s3key,
    }
    state.emit("recording.ready-to-download", recording.id, recording.room_name, ready)


def _started_payload(recording: Recording) -> JSON:
    return {
        "action": "cloud-recording-started",
        "recording_id": recording.id,
        "layout": recording.layout,
        "started_by": None,
        "instance_id": recording.instance_id,
        "start_ts": int(recording.start_ts),
    }
