"""What happens in rooms: joining with a token, leaving, ejecting, changing permissions, the end of a call."""

from . import checks, recordings
from .errors import DailyError, invalid
from .model import JSON, Connection, Meeting, Room, new_id, now
from .state import State

DEFAULT_MAX_PARTICIPANTS = 200
OWNER_PERMISSIONS = {"hasPresence": True, "canSend": True, "canReceive": {"base": True}, "canAdmin": True}
DEFAULT_PERMISSIONS = OWNER_PERMISSIONS | {"canAdmin": False}


def join(state: State, room: Room, token: JSON) -> Connection:
    """Lets the bearer of a token (its properties, already verified) in, or raises 403."""
    _check_admission(state, room, token)
    return enter(state, room, token)


def enter(state: State, room: Room, token: JSON) -> Connection:
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
    meeting.inside[session_id] = connection
    _count(state, meeting)
    _watch_ejection(state, connection)
    _tell(state, "participant.joined", connection, _payload(connection))
    return connection


def leave(state: State, room: str, session_id: str) -> Connection:
    meeting = state.open_meetings.get(room)
    connection = meeting.inside.get(session_id) if meeting else None
    if connection is None:
        raise DailyError(404, f"no session {session_id} in the call of room {room}")
    _leave(state, connection, now())
    return connection


def end(state: State, room: str) -> None:
    meeting, moment = state.open_meetings.get(room), now()
    for connection in list(meeting.inside.values()) if meeting else []:
        _leave(state, connection, moment)


def fill(state: State, room: Room, body: JSON) -> JSON:
    """Many join at once, whatever the room's limit; with `quiet` nothing is told."""
    checks.check(body, {"users": checks.POSITIVE_INT, "prefix": checks.STRING, "quiet": checks.BOOLEAN})
    if "users" not in body:
        raise invalid("users is required")
    prefix = body.get("prefix", "user")
    state.quiet = body.get("quiet", False)
    try:
        joined = [enter(state, room, {"user_id": f"{prefix}-{i}"}) for i in range(1, body["users"] + 1)]
    finally:
        state.quiet = False
    return {"session_ids": [connection.session_id for connection in joined]}


def eject(state: State, room: str, body: JSON) -> JSON:
    checks.check(body, {"ids": checks.IDS, "user_ids": checks.IDS, "ban": checks.BOOLEAN})
    ids, user_ids = set(body.get("ids", [])), set(body.get("user_ids", []))
    if not ids and not user_ids:
        raise invalid("ids or user_ids is required")
    meeting = state.open_meetings.get(room)
    if meeting is None:
        return {"ejectedIds": []}
    ejected = [c for c in meeting.inside.values() if c.session_id in ids or c.user_id in user_ids]
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
    for connection in meeting.inside.values() if meeting else []:
        connection.permissions |= changes.get("*", {}) | changes.get(connection.session_id, {})
    return {}


def rearm(state: State) -> None:
    """Watches again what a restart has forgotten."""
    for meeting in state.meetings.values():
        for connection in meeting.inside.values():
            _watch_ejection(state, connection)
        if meeting.end_time and meeting.told_at and meeting.told_at > now():
            _tell_end(state, meeting, meeting.end_time)


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
    if meeting and len(meeting.inside) >= properties.get("max_participants", DEFAULT_MAX_PARTICIPANTS):
        raise DailyError(403, f"room {room.name} is full")


def _open(state: State, room: str, moment: float) -> Meeting:
    meeting = Meeting(new_id(), room, moment)
    state.add_meeting(meeting)
    started = {"start_ts": moment, "meeting_id": meeting.id, "room": room}
    state.emit("meeting.started", meeting.id, room, started, stamp=int(moment))
    return meeting


def _count(state: State, meeting: Meeting) -> None:
    present = len(meeting.inside)
    meeting.max_participants = max(meeting.max_participants, present)
    for recording in state.running(meeting.room):
        recording.idle_since = None
        recording.max_participants = max(recording.max_participants, present)


def _watch_ejection(state: State, connection: Connection) -> None:
    def eject() -> None:
        if connection.left_at is None:
            _leave(state, connection, now())

    if connection.will_eject_at is not None:
        state.at(connection.will_eject_at, eject)


def _leave(state: State, connection: Connection, moment: float) -> None:
    connection.left_at = moment
    duration = round(moment - connection.joined_at, 3)
    _tell(state, "participant.left", connection, _payload(connection) | {"duration": duration})
    meeting = state.open_meetings[connection.room]
    del meeting.inside[connection.session_id]
    if not meeting.inside:
        _close(state, meeting, moment)


def _close(state: State, meeting: Meeting, moment: float) -> None:
    meeting.end_time, meeting.told_at = moment, moment + state.settings.meeting_end_lag
    del state.open_meetings[meeting.room]
    for recording in state.running(meeting.room):
        recording.idle_since = moment
        recordings.watch_idle(state, recording)
    _tell_end(state, meeting, moment)


def _tell_end(state: State, meeting: Meeting, end_ts: float) -> None:
    """At its time: now, unless meetings end late."""

    def tell() -> None:
        ended = {"start_ts": meeting.start_time, "end_ts": end_ts, "meeting_id": meeting.id, "room": meeting.room}
        state.emit("meeting.ended", meeting.id, meeting.room, ended, stamp=int(end_ts))

    if meeting.told_at is None or meeting.told_at <= now():
        tell()
    else:
        state.at(meeting.told_at, tell)


def _tell(state: State, type: str, connection: Connection, payload: JSON) -> None:
    user_id, stamp = connection.user_id, round(now() * 1000)
    state.emit(type, connection.session_id, connection.room, payload, user_id, stamp)


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
