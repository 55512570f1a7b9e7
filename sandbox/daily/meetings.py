"""Calls in rooms: joining with a token, leaving, ejecting, permissions, presence, the list of calls."""

from collections.abc import Mapping
from typing import Any

from . import checks
from .errors import DailyError, invalid
from .paging import page
from .state import JSON, Connection, Meeting, Room, State, iso, new_id, now

DEFAULT_MAX_PARTICIPANTS = 200
OWNER_PERMISSIONS = {"hasPresence": True, "canSend": True, "canAdmin": True}
DEFAULT_PERMISSIONS = {"hasPresence": True, "canSend": True, "canAdmin": False}


def join(state: State, room: Room, token: JSON) -> Connection:
    """Lets the bearer of a token (its properties, already verified) in, or raises 403."""
    _check_admission(state, room, token)
    moment = now()
    meeting = state.open_meetings.get(room.name) or _open(state, room.name, moment)
    session_id = new_id()
    connection = Connection(
        room=room.name,
        session_id=session_id,
        user_id=token.get("user_id", session_id),
        user_name=token.get("user_name"),
        owner=token.get("is_owner", False),
        permissions=_permissions(room, token),
        joined_at=moment,
        will_eject_at=_ejection(room, token, moment),
    )
    meeting.connections.append(connection)
    _count(state, meeting)
    state.emit("participant.joined", session_id, room.name, _payload(connection))
    return connection


def leave(state: State, room: str, session_id: str) -> Connection:
    meeting = state.open_meetings.get(room)
    for connection in meeting.present() if meeting else []:
        if connection.session_id == session_id:
            _leave(state, connection, now())
            return connection
    raise DailyError(404, f"no session {session_id} in the call of room {room}")


def end(state: State, room: str) -> None:
    if meeting := state.open_meetings.get(room):
        moment = now()
        for connection in meeting.present():
            _leave(state, connection, moment)


def advance(state: State) -> None:
    """Ejects everyone whose time is over."""
    moment = now()
    for meeting in list(state.open_meetings.values()):
        for connection in meeting.present():
            if connection.will_eject_at is not None and connection.will_eject_at <= moment:
                _leave(state, connection, moment)


def eject(state: State, room: str, body: JSON) -> JSON:
    checks.check(body, {"ids": checks.IDS, "user_ids": checks.IDS, "ban": checks.BOOLEAN})
    ids, user_ids = body.get("ids", []), body.get("user_ids", [])
    if not ids and not user_ids:
        raise invalid("ids or user_ids is required")
    meeting = state.open_meetings.get(room)
    if meeting is None:
        return {"ejectedIds": []}
    ejected = [c for c in meeting.present() if c.session_id in ids or c.user_id in user_ids]
    if body.get("ban"):
        meeting.banned_user_ids += [*user_ids, *(connection.user_id for connection in ejected)]
    for connection in ejected:
        _leave(state, connection, now())
    return {"ejectedIds": [connection.session_id for connection in ejected]}


def update_permissions(state: State, room: str, body: JSON) -> JSON:
    changes = body.get("data")
    if not isinstance(changes, dict) or not changes:
        raise invalid("data must be an object keyed by session id or *")
    checks.check(changes, dict.fromkeys(changes, checks.PERMISSION_SET))
    meeting = state.open_meetings.get(room)
    for connection in meeting.present() if meeting else []:
        connection.permissions |= changes.get("*", {}) | changes.get(connection.session_id, {})
    return {}


def presence(state: State, room: str) -> JSON:
    meeting = state.open_meetings.get(room)
    data = [
        {
            "room": room,
            "id": connection.session_id,
            "userId": connection.user_id,
            "userName": connection.user_name,
            "joinTime": iso(connection.joined_at),
            "duration": int(now() - connection.joined_at),
        }
        for connection in (meeting.present() if meeting else [])
    ]
    return {"total_count": len(data), "data": data}


def listed(state: State, query: Mapping[str, str]) -> JSON:
    """GET /meetings: newest first, narrowed by room, start time (`timeframe_*`, unix s) and `ongoing`."""
    earliest = _seconds(query, "timeframe_start", float("-inf"))
    latest = _seconds(query, "timeframe_end", float("inf"))
    ongoing = query.get("ongoing")
    if ongoing not in (None, "true", "false"):
        raise invalid("ongoing must be true or false")
    found = [
        meeting
        for meeting in reversed(state.meetings.values())
        if query.get("room") in (None, meeting.room)
        and earliest <= meeting.start_time <= latest
        and (ongoing is None or (meeting.end_time is None) == (ongoing == "true"))
    ]
    return {"total_count": len(found), "data": [view(m) for m in page(found, query, lambda m: m.id)]}


def view(meeting: Meeting) -> JSON:
    moment = now()
    return {
        "id": meeting.id,
        "room": meeting.room,
        "start_time": meeting.start_time,
        "duration": round((meeting.end_time or moment) - meeting.start_time, 3),
        "ongoing": meeting.end_time is None,
        "max_participants": meeting.max_participants,
        "participants": [
            {
                "user_id": connection.user_id,
                "user_name": connection.user_name,
                "participant_id": connection.session_id,
                "join_time": connection.joined_at,
                "duration": round((connection.left_at or moment) - connection.joined_at, 3),
            }
            for connection in meeting.connections
        ],
    }


def _check_admission(state: State, room: Room, token: JSON) -> None:
    moment, properties = now(), room.properties
    meeting = state.open_meetings.get(room.name)
    if token.get("room_name", room.name) != room.name:
        raise DailyError(403, f"the token is not for room {room.name}")
    if properties.get("exp", moment + 1) <= moment:
        raise DailyError(403, f"room {room.name} has expired")
    if properties.get("nbf", moment) > moment:
        raise DailyError(403, f"room {room.name} is not open yet")
    if meeting and token.get("user_id") in meeting.banned_user_ids:
        raise DailyError(403, "this user has been banned from the call")
    if meeting and len(meeting.present()) >= properties.get("max_participants", DEFAULT_MAX_PARTICIPANTS):
        raise DailyError(403, f"room {room.name} is full")


def _open(state: State, room: str, moment: float) -> Meeting:
    meeting = Meeting(new_id(), room, moment)
    state.meetings[meeting.id] = state.open_meetings[room] = meeting
    started = {"start_ts": moment, "meeting_id": meeting.id, "room": room}
    state.emit("meeting.started", meeting.id, room, started)
    return meeting


def _count(state: State, meeting: Meeting) -> None:
    present = len(meeting.present())
    meeting.max_participants = max(meeting.max_participants, present)
    for recording in state.open_recordings.values():
        if recording.room_name == meeting.room and recording.end_ts is None:
            recording.idle_since = None
            recording.max_participants = max(recording.max_participants, present)


def _leave(state: State, connection: Connection, moment: float) -> None:
    connection.left_at = moment
    duration = round(moment - connection.joined_at, 3)
    left = _payload(connection) | {"duration": duration}
    state.emit("participant.left", connection.session_id, connection.room, left)
    meeting = state.open_meetings[connection.room]
    if not meeting.present():
        _close(state, meeting, moment)


def _close(state: State, meeting: Meeting, moment: float) -> None:
    meeting.end_time = moment
    del state.open_meetings[meeting.room]
    for recording in state.open_recordings.values():
        if recording.room_name == meeting.room:
            recording.idle_since = moment
    ended = {"start_ts": meeting.start_time, "end_ts": moment, "meeting_id": meeting.id, "room": meeting.room}
    state.emit("meeting.ended", meeting.id, meeting.room, ended)


def _payload(connection: Connection) -> JSON:
    return {
        "room": connection.room,
        "user_id": connection.user_id,
        "user_name": connection.user_name,
        "session_id": connection.session_id,
        "joined_at": connection.joined_at,
        "will_eject_at": connection.will_eject_at,
        "owner": connection.owner,
        "permissions": dict(connection.permissions),
    }


def _permissions(room: Room, token: JSON) -> JSON:
    if token.get("is_owner"):
        return dict(OWNER_PERMISSIONS)
    return {**DEFAULT_PERMISSIONS, **room.properties.get("permissions", {}), **token.get("permissions", {})}


def _ejection(room: Room, token: JSON, joined_at: float) -> float | None:
    properties = room.properties
    moments = [joined_at + rule["eject_after_elapsed"] for rule in (properties, token) if "eject_after_elapsed" in rule]
    if properties.get("eject_at_room_exp") and "exp" in properties:
        moments.append(properties["exp"])
    if token.get("eject_at_token_exp") and "exp" in token:
        moments.append(token["exp"])
    return min(moments, default=None)


def _seconds(query: Mapping[str, str], name: str, default: Any) -> float:
    try:
        return float(query.get(name, default))
    except ValueError:
        raise invalid(f"{name} must be a number (unix seconds)") from None
