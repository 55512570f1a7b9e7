"""Recordings: started and stopped by instance, ended by their limits, finished after some processing."""

import secrets
from collections.abc import Iterable, Mapping

from . import checks
from .errors import DailyError, invalid, nobody_in_call
from .model import JSON, Recording, Room, new_id, now
from .paging import page
from .state import State

DEFAULT_INSTANCE = "c3df927c-f738-4471-a2b7-066fa7e95a6b"
DEFAULT_MAX_DURATION = 3 * 60 * 60
DEFAULT_IDLE_TIMEOUT = 300
BODY = {
    "instanceId": checks.UUID,
    "type": checks.one_of("cloud", "cloud-audio-only", "raw-tracks"),
    "layout": checks.OBJECT,
    "minIdleTimeOut": checks.POSITIVE,
    "maxDuration": checks.POSITIVE,
}


def start(state: State, domain: str, room: str, body: JSON, started_by: str | None = None) -> Recording:
    checks.check(body, BODY)
    instance_id = body.get("instanceId", DEFAULT_INSTANCE)
    _check_instances(state, room, instance_id)
    moment = now()
    meeting = state.open_meetings.get(room)
    if meeting is None and not state.settings.nobody_needed:
        raise nobody_in_call(room)
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
        max_participants=len(meeting.inside) if meeting else 1,
        started_by=started_by,
    )
    state.add_recording(recording)
    _watch_longest(state, recording)
    _tell(state, "recording.started", recording, _started_payload(recording))
    return recording


def press(state: State, domain: str, room: Room, body: JSON) -> Recording:
    """The Record button inside the call: the default instance, in a room that may be recorded, by an owner."""
    checks.check(body, {"session_id": checks.STRING})
    if not room.properties.get("enable_recording"):
        raise DailyError(403, f"room {room.name} cannot be recorded")
    session_id = body.get("session_id")
    if session_id is not None:
        meeting = state.open_meetings.get(room.name)
        connection = meeting.inside.get(session_id) if meeting else None
        if connection is None or not connection.owner:
            raise DailyError(403, f"{session_id} is no owner inside room {room.name}")
    return start(state, domain, room.name, {}, session_id)


def stop(state: State, room: str, body: JSON) -> Recording:
    checks.check(body, {"instanceId": checks.UUID})
    instance_id = body.get("instanceId", DEFAULT_INSTANCE)
    for recording in state.running(room):
        if recording.instance_id == instance_id:
            _end(state, recording, now())
            return recording
    raise invalid(f"room {room} is not being recorded")


def stop_all(state: State, room: str) -> None:
    for recording in state.running(room):
        _end(state, recording, now())


def end(state: State, recording_id: str) -> Recording:
    """Daily ends it by itself, as at maxDuration."""
    recording = _open(state, recording_id)
    if recording.end_ts is not None:
        raise invalid(f"recording {recording_id} has ended")
    _end(state, recording, now())
    return recording


def fail(state: State, recording_id: str, body: JSON) -> Recording:
    checks.check(body, {"error_msg": checks.STRING})
    recording = _open(state, recording_id)
    recording.end_ts = recording.end_ts or now()
    recording.status = "canceled"
    error = {
        "action": "cloud-recording-error",
        "error_msg": body.get("error_msg", "the recording failed"),
        "instance_id": recording.instance_id,
        "room_name": recording.room_name,
        "timestamp": int(now()),
    }
    _tell(state, "recording.error", recording, error)
    return recording


def find(state: State, recording_id: str) -> Recording:
    """As the API finds it: not before the list has it."""
    if (recording := state.recordings.get(recording_id)) and _is_listed(state, recording):
        return recording
    raise DailyError(404, f"recording {recording_id} not found")


def listed(state: State, query: Mapping[str, str]) -> JSON:
    among: Iterable[Recording] = state.recordings.values()
    if "room_name" in query:
        among = state.recordings_of.get(query["room_name"], {}).values()
    found = [recording for recording in among if _is_listed(state, recording)]
    shown = [view(state, one) for one in page(found[::-1], query, lambda one: one.id)]
    return {"total_count": len(found), "data": shown}


def delete(state: State, recording_id: str) -> JSON:
    recording = find(state, recording_id)
    del state.recordings[recording_id], state.recordings_of[recording.room_name][recording_id]
    return {"deleted": True, "id": recording_id}


def view(state: State, recording: Recording) -> JSON:
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
    return state.odd.shown(shown, "recording", recording.id, recording.room_name)


def watch_idle(state: State, recording: Recording) -> None:
    """Ends it when its call has been empty for long."""

    def look() -> None:
        since = recording.idle_since
        if since is not None and recording.end_ts is None and since + recording.min_idle_timeout <= now():
            _end(state, recording, round(since + recording.min_idle_timeout, 3))

    if recording.idle_since is not None:
        state.at(recording.idle_since + recording.min_idle_timeout, look)


def rearm(state: State) -> None:
    """Watches again what a restart has forgotten."""
    for recording in state.recordings.values():
        if recording.end_ts is None:
            _watch_longest(state, recording)
            watch_idle(state, recording)
        elif recording.status == "in-progress":
            _finish_later(state, recording, recording.end_ts)


def _check_instances(state: State, room: str, instance_id: str) -> None:
    running = {recording.instance_id for recording in state.running(room)}
    if instance_id in running:
        raise invalid(f"room {room} has an active stream")
    allowed = state.settings.streaming_instances
    if len(running) >= allowed:
        raise invalid(f"room {room} cannot have more than {allowed} streaming instance{'s' * (allowed > 1)}")


def _is_listed(state: State, recording: Recording) -> bool:
    return recording.start_ts + state.settings.listing_lag <= now()


def _watch_longest(state: State, recording: Recording) -> None:
    limit = round(recording.start_ts + recording.max_duration, 3)

    def look() -> None:
        if recording.end_ts is None:
            _end(state, recording, limit)

    state.at(limit, look)


def _open(state: State, recording_id: str) -> Recording:
    recording = state.recordings.get(recording_id)
    if recording is None:
        raise DailyError(404, f"recording {recording_id} not found")
    if recording.status != "in-progress":
        raise invalid(f"recording {recording_id} is {recording.status}")
    return recording


def _end(state: State, recording: Recording, moment: float) -> None:
    recording.end_ts = moment
    _finish_later(state, recording, moment)


def _finish_later(state: State, recording: Recording, end_ts: float) -> None:
    def finish() -> None:
        if recording.status != "in-progress" or recording.id not in state.recordings:
            return
        recording.status = "finished"
        recording.duration = max(1, int(end_ts - recording.start_ts))
        _tell(state, "recording.ready-to-download", recording, _ready_payload(recording))

    state.at(end_ts + state.settings.processing_seconds, finish)


def _tell(state: State, type: str, recording: Recording, payload: JSON) -> None:
    state.emit(type, recording.id, recording.room_name, payload, recording.instance_id)


def _started_payload(recording: Recording) -> JSON:
    return {
        "action": "start-cloud-recording",
        "recording_id": recording.id,
        "layout": recording.layout,
        "started_by": recording.started_by,
        "instance_id": recording.instance_id,
        "start_ts": int(recording.start_ts),
    }


def _ready_payload(recording: Recording) -> JSON:
    return {
        "type": "cloud",
        "recording_id": recording.id,
        "room_name": recording.room_name,
        "start_ts": int(recording.start_ts),
        "status": recording.status,
        "max_participants": recording.max_participants,
        "duration": recording.duration,
        "share_token": secrets.token_urlsafe(9),
        "s3_key": recording.s3key,
    }
