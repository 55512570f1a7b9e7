"""What each endpoint does: Daily's API (`API`) and the stand-in's own control surface (`CONTROL`).

The keys are the routes as Daily writes them; /sandbox/state counts calls under the same text.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import meetings, recordings, rooms, webhooks
from .delivery import Delivery
from .errors import DailyError, invalid
from .faults import Faults
from .state import JSON, Connection, Recording, State, now
from .tokens import Tokens

LINK_SECONDS = 3600


@dataclass
class Daily:
    """The parts that the handlers work on."""

    domain: str
    state: State
    tokens: Tokens
    faults: Faults
    delivery: Delivery
    calls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request: `path` and `query` by name, `body` {} when empty, `origin` the stand-in's own URL."""

    daily: Daily
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: JSON
    origin: str

    @property
    def state(self) -> State:
        return self.daily.state

    @property
    def room(self) -> str:
        """The name in the path, of a room that exists."""
        return rooms.find(self.state, self.path["name"]).name


Handler = Callable[[Call], Any | Awaitable[Any]]


def domain(call: Call) -> JSON:
    return {"domain_name": call.daily.domain, "domain_id": call.state.domain_id, "config": {}}


def list_rooms(call: Call) -> JSON:
    total, found = rooms.listed(call.state, call.query)
    return {"total_count": total, "data": [rooms.view(room, call.daily.domain) for room in found]}


def create_room(call: Call) -> JSON:
    return rooms.view(rooms.create(call.state, call.body), call.daily.domain)


def get_room(call: Call) -> JSON:
    return rooms.view(rooms.find(call.state, call.path["name"]), call.daily.domain)


def update_room(call: Call) -> JSON:
    return rooms.view(rooms.update(call.state, call.path["name"], call.body), call.daily.domain)


def create_token(call: Call) -> JSON:
    return {"token": call.daily.tokens.create(call.body.get("properties", {}))}


def read_token(call: Call) -> JSON:
    return call.daily.tokens.read(call.path["token"], ignore_nbf=call.query.get("ignoreNbf") == "true")


def access_link(call: Call) -> JSON:
    recording = recordings.find(call.state, call.path["id"])
    expires = int(now()) + LINK_SECONDS
    return {
        "download_link": f"{call.origin}/sandbox/files/{recording.id}.mp4?expires={expires}",
        "expires": expires,
    }


def list_webhooks(call: Call) -> list[JSON]:
    webhook = call.state.webhook
    return [webhooks.view(webhook, call.state.domain_id)] if webhook else []


async def create_webhook(call: Call) -> JSON:
    return webhooks.view(await webhooks.create(call.state, call.daily.delivery, call.body), call.state.domain_id)


def get_webhook(call: Call) -> JSON:
    return webhooks.view(webhooks.find(call.state, call.path["uuid"]), call.state.domain_id)


async def update_webhook(call: Call) -> JSON:
    webhook = await webhooks.update(call.state, call.daily.delivery, call.path["uuid"], call.body)
    return webhooks.view(webhook, call.state.domain_id)


API: dict[str, Handler] = {
    "GET /": domain,
    "GET /rooms": list_rooms,
    "POST /rooms": create_room,
    "GET /rooms/:name": get_room,
    "POST /rooms/:name": update_room,
    "DELETE /rooms/:name": lambda call: rooms.delete(call.state, call.path["name"]),
    "GET /rooms/:name/presence": lambda call: meetings.presence(call.state, call.room),
    "POST /rooms/:name/eject": lambda call: meetings.eject(call.state, call.room, call.body),
    "POST /rooms/:name/update-permissions": lambda call: meetings.update_permissions(call.state, call.room, call.body),
    "POST /rooms/:name/recordings/start": lambda call: recordings.start(
        call.state, call.daily.domain, call.room, call.body
    ),
    "POST /rooms/:name/recordings/stop": lambda call: recordings.stop(call.state, call.room, call.body),
    "POST /meeting-tokens": create_token,
    "GET /meeting-tokens/:token": read_token,
    "GET /recordings": lambda call: recordings.listed(call.state, call.query),
    "GET /recordings/:id": lambda call: recordings.view(recordings.find(call.state, call.path["id"])),
    "DELETE /recordings/:id": lambda call: recordings.delete(call.state, call.path["id"]),
    "GET /recordings/:id/access-link": access_link,
    "GET /meetings": lambda call: meetings.listed(call.state, call.query),
    "GET /webhooks": list_webhooks,
    "POST /webhooks": create_webhook,
    "GET /webhooks/:uuid": get_webhook,
    "POST /webhooks/:uuid": update_webhook,
    "DELETE /webhooks/:uuid": lambda call: webhooks.delete(call.state, call.path["uuid"]),
}


def join(call: Call) -> JSON:
    room = rooms.find(call.state, call.path["name"])
    connection = meetings.join(call.state, room, call.daily.tokens.read(_text(call, "token")))
    return {name: getattr(connection, name) for name in ("session_id", "user_id", "user_name", "joined_at")}


def leave(call: Call) -> JSON:
    connection = meetings.leave(call.state, call.room, _text(call, "session_id"))
    return _connection(connection)


def set_fault(call: Call) -> JSON:
    return call.daily.faults.add(call.body)


def clear_faults(call: Call) -> JSON:
    call.daily.faults.clear()
    return {"faults": []}


def show_state(call: Call) -> JSON:
    state = call.state
    webhook = state.webhook
    return {
        "rooms": [rooms.view(room, call.daily.domain) for room in state.rooms.values()],
        "recordings": [_recording(recording) for recording in state.recordings.values()],
        "connections": [_connection(c) for meeting in state.meetings.values() for c in meeting.connections],
        "meetings": [meetings.view(meeting) for meeting in state.meetings.values()],
        "webhook": webhooks.view(webhook, state.domain_id) if webhook else None,
        "calls": call.daily.calls,
        "deliveries": list(call.daily.delivery.log),
    }


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
    "POST /recordings/:id/fail": lambda call: _recording(recordings.fail(call.state, call.path["id"], call.body)),
    "POST /recordings/:id/end": lambda call: _recording(recordings.end(call.state, call.path["id"])),
    "GET /faults": lambda call: {"faults": call.daily.faults.listed()},
    "POST /faults": set_fault,
    "DELETE /faults": clear_faults,
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


def _recording(recording: Recording) -> JSON:
    names = ("id", "room_name", "instance_id", "status", "start_ts", "end_ts", "duration", "s3key")
    return {name: getattr(recording, name) for name in names}
