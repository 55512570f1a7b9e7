"""The stand-in's own control surface under /sandbox: what people in rooms do, what goes wrong, what there is."""

from collections.abc import Iterable
from dataclasses import asdict

from . import calls, others, recordings, rooms, webhooks
from .errors import DailyError, invalid
from .handlers import Call, Handler
from .model import JSON, Connection, Meeting, Recording, now


def join(call: Call) -> JSON:
    room = rooms.find(call.state, call.path["name"])
    connection = calls.join(call.state, room, call.daily.tokens.read(_text(call, "token")))
    return {name: getattr(connection, name) for name in ("session_id", "user_id", "user_name", "joined_at")}


def leave(call: Call) -> JSON:
    """Also out of a call whose room has been removed."""
    return _connection(calls.leave(call.state, call.path["name"], _text(call, "session_id")))


def fill(call: Call) -> JSON:
    return calls.fill(call.state, rooms.find(call.state, call.path["name"]), call.body)


def press_record(call: Call) -> JSON:
    room = rooms.find(call.state, call.path["name"])
    return _recording(recordings.press(call.state, call.daily.domain, room, call.body))


def set_fault(call: Call) -> JSON:
    return call.daily.faults.add(call.body)


def clear_faults(call: Call) -> JSON:
    call.daily.faults.clear()
    return {"faults": []}


def change_settings(call: Call) -> JSON:
    call.state.settings.change(call.body)
    return asdict(call.state.settings)


def reset_settings(call: Call) -> JSON:
    call.state.settings.change(asdict(call.daily.defaults))
    return asdict(call.state.settings)


def clear_odd(call: Call) -> JSON:
    call.state.odd.clear()
    return {"odd": []}


def show_state(call: Call) -> JSON:
    """Everything, or with ?room= what belongs to that room; times are exact."""
    state, room = call.state, call.query.get("room")
    shown_rooms = state.rooms.values() if room is None else filter(None, [state.rooms.get(room)])
    shown_recordings: Iterable[Recording] = state.recordings.values()
    shown_meetings: Iterable[Meeting] = state.meetings.values()
    if room is not None:
        shown_recordings = state.recordings_of.get(room, {}).values()
        shown_meetings = state.meetings_of.get(room, [])
    shown_webhooks = [webhooks.view(state, webhook) for webhook in state.webhooks.values()]
    return {
        "rooms": [rooms.view(state, one, call.daily.domain) for one in shown_rooms],
        "recordings": [_recording(one) for one in shown_recordings],
        "connections": [_connection(stay) for meeting in shown_meetings for stay in meeting.connections],
        "meetings": [_meeting(meeting) for meeting in shown_meetings],
        "webhook": shown_webhooks[0] if shown_webhooks else None,
        "webhooks": shown_webhooks,
        **show_calls(call),
        "deliveries": [one for one in call.daily.delivery.log if room in (None, one["room"])],
    }


def show_calls(call: Call) -> JSON:
    return {"calls": call.daily.calls, "refused": call.daily.limits.refused}


def check_file(call: Call) -> None:
    """Raises unless a file can be downloaded: its recording is finished and the link has not expired."""
    recording = recordings.find(call.state, call.path["id"])
    if recording.status != "finished":
        raise DailyError(404, f"recording {recording.id} is {recording.status}")
    expires = call.query.get("expires", "")
    if not expires.isdecimal() or int(expires) <= now():
        raise DailyError(403, "the link has expired")


CONTROL: dict[str, Handler] = {
    "POST /rooms/:name/join": join,
    "POST /rooms/:name/leave": leave,
    "POST /rooms/:name/fill": fill,
    "POST /rooms/:name/record": press_record,
    "POST /rooms/:name/record/stop": lambda call: _recording(recordings.stop(call.state, call.path["name"], {})),
    "POST /recordings/:id/fail": lambda call: _recording(recordings.fail(call.state, call.path["id"], call.body)),
    "POST /recordings/:id/end": lambda call: _recording(recordings.end(call.state, call.path["id"])),
    "POST /webhooks/:uuid": lambda call: webhooks.view(
        call.state, webhooks.put(call.state, call.path["uuid"], call.body)
    ),
    "DELETE /webhooks/:uuid": lambda call: webhooks.delete(call.state, call.path["uuid"]),
    "POST /others": lambda call: others.appear(call.state, call.daily.domain, call.body),
    "GET /faults": lambda call: {"faults": call.daily.faults.listed()},
    "POST /faults": set_fault,
    "DELETE /faults": clear_faults,
    "GET /settings": lambda call: asdict(call.state.settings),
    "POST /settings": change_settings,
    "DELETE /settings": reset_settings,
    "GET /odd": lambda call: {"odd": call.state.odd.listed()},
    "POST /odd": lambda call: call.state.odd.add(call.body),
    "DELETE /odd": clear_odd,
    "GET /calls": show_calls,
    "GET /state": show_state,
}


def _text(call: Call, name: str) -> str:
    value = call.body.get(name)
    if not isinstance(value, str):
        raise invalid(f"{name} is required and must be a string")
    return value


def _connection(connection: Connection) -> JSON:
    names = ("room", "session_id", "user_id", "user_name", "joined_at", "left_at", "permissions")
    return {name: getattr(connection, name) for name in names}


def _meeting(meeting: Meeting) -> JSON:
    names = ("id", "room", "start_time", "end_time", "max_participants")
    return {name: getattr(meeting, name) for name in names}


def _recording(recording: Recording) -> JSON:
    names = ("id", "room_name", "instance_id", "status", "start_ts", "end_ts", "duration", "s3key")
    return {name: getattr(recording, name) for name in names}
