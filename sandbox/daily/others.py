"""Other applications on the same domain: their rooms, calls, recordings, webhooks and events."""

from typing import Any

from . import calls, checks, recordings, rooms, webhooks
from .errors import invalid
from .model import JSON, Event, new_id
from .state import State

BODY: dict[str, checks.Check] = {
    "room": checks.STRING,
    "users": ("a list of user ids", checks.is_strings),
    "recording": checks.BOOLEAN,
    "webhook": checks.STRING,
    "events": ("a list of objects", lambda v: isinstance(v, list) and all(isinstance(each, dict) for each in v)),
}
USERS = ["someone else|1", "jürgen@example.org"]


def appear(state: State, domain: str, body: JSON) -> JSON:
    """A room with a running call and, unless told otherwise, a recording; a webhook and events as asked.

    The events go to every webhook as they are given, whatever they are. Answers what there is now.
    """
    if unknown := body.keys() - BODY.keys():
        raise invalid(f"unknown field {min(unknown)}; known are {', '.join(BODY)}")
    checks.check(body, BODY)
    webhook = webhooks.create_foreign(state, body["webhook"]) if "webhook" in body else None
    room = rooms.create(
        state, {"name": body.get("room", f"other-{new_id()}"), "properties": {"enable_recording": "cloud"}}
    )
    stays = [calls.enter(state, room, {"user_id": user}) for user in body.get("users", USERS)]
    recorded = body.get("recording", True)
    recording = recordings.start(state, domain, room.name, {}) if recorded else None
    for message in body.get("events", []):
        state.listener(Event(_text(message.get("type")), None, room.name, message))
    return {
        "room": room.name,
        "session_ids": [stay.session_id for stay in stays],
        "recording": recording.id if recording else None,
        "webhook": webhook.uuid if webhook else None,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
