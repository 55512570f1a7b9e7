"""Rooms: create, read, update, delete, and the rules for their names and properties."""

import re
import secrets
from collections.abc import Mapping
from typing import Any

from . import calls, checks, recordings
from .errors import invalid, room_not_found
from .model import JSON, Room, iso, new_id, now
from .paging import page
from .state import State

NAME = re.compile(r"[A-Za-z0-9_-]+")
MAX_NAME = 128
PRIVACY = {"privacy": checks.one_of("public", "private")}
PROPERTIES = {
    "max_participants": checks.POSITIVE_INT,
    "enable_recording": checks.one_of("cloud", "cloud-audio-only", "local", "raw-tracks"),
    "nbf": checks.UNIX_TIME,
    "exp": checks.UNIX_TIME,
    "eject_at_room_exp": checks.BOOLEAN,
    "eject_after_elapsed": checks.POSITIVE_INT,
    "start_video_off": checks.BOOLEAN,
    "start_audio_off": checks.BOOLEAN,
    "enforce_unique_user_ids": checks.BOOLEAN,
    "permissions": checks.PERMISSION_SET,
    "recordings_bucket": checks.OBJECT,
}
DEFAULTS: JSON = {
    "max_participants": calls.DEFAULT_MAX_PARTICIPANTS,
    "eject_at_room_exp": False,
    "start_video_off": False,
    "start_audio_off": False,
    "enforce_unique_user_ids": False,
}


def view(state: State, room: Room, domain: str) -> JSON:
    shown = {
        "id": room.id,
        "name": room.name,
        "api_created": True,
        "privacy": room.privacy,
        "url": f"https://{domain}.daily.co/{room.name}",
        "created_at": iso(room.created_at),
        "config": room.properties,
    }
    return state.odd.shown(shown, "room", room.name, room.name)


def create(state: State, body: JSON) -> Room:
    name = body.get("name", secrets.token_urlsafe(15))
    _check_name(name)
    checks.check(body, PRIVACY)
    properties = _merged(state, {}, body.get("properties", {}))
    if (existing := state.rooms.get(name)) and not _gone(state, existing):
        raise invalid(f"a room named {name} already exists")
    room = Room(new_id(), name, body.get("privacy", "public"), now(), properties)
    state.rooms.pop(name, None)  # an expired one of this name; the new one goes to the end, as the newest
    state.rooms[name] = room
    return room


def find(state: State, name: str) -> Room:
    room = state.rooms.get(name)
    if room is None or _gone(state, room):
        raise room_not_found(name)
    return room


def listed(state: State, query: Mapping[str, str]) -> tuple[int, list[Room]]:
    rooms = [room for room in reversed(state.rooms.values()) if not _gone(state, room)]
    return len(rooms), list(page(rooms, query, lambda room: room.id))


def update(state: State, name: str, body: JSON) -> Room:
    room = find(state, name)
    checks.check(body, PRIVACY)
    room.properties = _merged(state, room.properties, body.get("properties", {}))
    room.privacy = body.get("privacy", room.privacy)
    return room


def delete(state: State, name: str) -> JSON:
    """Its call goes on unless the setting says otherwise. An expired room answers 404 and says that it is deleted."""
    room = state.rooms.pop(name, None)
    if room is None:
        raise room_not_found(name)
    if _gone(state, room):
        raise room_not_found(name, deleted=True, name=name)
    if state.settings.removal_ends_call:
        calls.end(state, name)
        recordings.stop_all(state, name)
    return {"deleted": True, "name": name}


def _gone(state: State, room: Room) -> bool:
    """Whether it has expired. While its call goes on, an expired room can still be moderated."""
    exp = room.properties.get("exp")
    return exp is not None and exp <= now() and room.name not in state.open_meetings


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise invalid("name must be a non-empty string")
    if not NAME.fullmatch(name):
        raise invalid(f"room name '{name}' contains invalid characters: use A-Z, a-z, 0-9, '-' and '_'")
    if len(name) > MAX_NAME:
        raise invalid(f"room name must be at most {MAX_NAME} characters")


def _merged(state: State, old: JSON, changes: Any) -> JSON:
    """The non-default properties after `changes`, in which null resets a property."""
    if not isinstance(changes, dict):
        raise invalid("properties must be an object")
    checks.check({name: value for name, value in changes.items() if value is not None}, PROPERTIES)
    most = state.settings.max_participants_of_plan
    if (changes.get("max_participants") or 0) > most:
        raise invalid(f"max_participants must be at most {most}")
    if changes.get("exp") is not None and changes["exp"] <= now():
        raise invalid("exp is in the past")
    merged = old | changes
    return {name: value for name, value in merged.items() if value is not None and value != DEFAULTS.get(name)}
