"""What each endpoint of Daily's API does; the stand-in's own control surface is in control.py.

The keys of `API` are the routes as Daily writes them; /sandbox/state counts calls under the same text.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import calls, meetings, recordings, rooms, webhooks
from .delivery import Delivery
from .faults import Faults
from .limits import Limits
from .model import JSON, now
from .settings import Settings
from .state import State
from .tokens import Tokens

LINK_SECONDS = 3600


@dataclass
class Daily:
    """The parts that the handlers work on; `defaults` are the settings that it was started with."""

    domain: str
    defaults: Settings
    state: State
    tokens: Tokens
    faults: Faults
    delivery: Delivery
    limits: Limits = field(default_factory=Limits)
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
    return {"total_count": total, "data": [rooms.view(call.state, room, call.daily.domain) for room in found]}


def create_room(call: Call) -> JSON:
    return rooms.view(call.state, rooms.create(call.state, call.body), call.daily.domain)


def get_room(call: Call) -> JSON:
    return rooms.view(call.state, rooms.find(call.state, call.path["name"]), call.daily.domain)


def update_room(call: Call) -> JSON:
    return rooms.view(call.state, rooms.update(call.state, call.path["name"], call.body), call.daily.domain)


def create_token(call: Call) -> JSON:
    return {"token": call.daily.tokens.create(call.body.get("properties", {}))}


def read_token(call: Call) -> JSON:
    return call.daily.tokens.shown(call.path["token"], ignore_nbf=call.query.get("ignoreNbf") == "true")


def start_recording(call: Call) -> JSON:
    recordings.start(call.state, call.daily.domain, call.room, call.body)
    return {"status": "sent"}


def stop_recording(call: Call) -> JSON:
    recordings.stop(call.state, call.room, call.body)
    return {"status": "sent"}


def access_link(call: Call) -> JSON:
    recording = recordings.find(call.state, call.path["id"])
    expires = int(now()) + LINK_SECONDS
    return {
        "download_link": f"{call.origin}/sandbox/files/{recording.id}.mp4?expires={expires}",
        "expires": expires,
    }


def list_webhooks(call: Call) -> list[JSON]:
    return [webhooks.view(call.state, webhook) for webhook in call.state.webhooks.values()]


async def create_webhook(call: Call) -> JSON:
    return webhooks.view(call.state, await webhooks.create(call.state, call.daily.delivery, call.body))


def get_webhook(call: Call) -> JSON:
    return webhooks.view(call.state, webhooks.find(call.state, call.path["uuid"]))


async def update_webhook(call: Call) -> JSON:
    webhook = await webhooks.update(call.state, call.daily.delivery, call.path["uuid"], call.body)
    return webhooks.view(call.state, webhook)


API: dict[str, Handler] = {
    "GET /": domain,
    "GET /rooms": list_rooms,
    "POST /rooms": create_room,
    "GET /rooms/:name": get_room,
    "POST /rooms/:name": update_room,
    "DELETE /rooms/:name": lambda call: rooms.delete(call.state, call.path["name"]),
    "GET /rooms/:name/presence": lambda call: meetings.presence(call.state, call.room),
    "POST /rooms/:name/eject": lambda call: calls.eject(call.state, call.room, call.body),
    "POST /rooms/:name/update-permissions": lambda call: calls.update_permissions(call.state, call.room, call.body),
    "POST /rooms/:name/recordings/start": start_recording,
    "POST /rooms/:name/recordings/stop": stop_recording,
    "POST /meeting-tokens": create_token,
    "GET /meeting-tokens/:token": read_token,
    "GET /recordings": lambda call: recordings.listed(call.state, call.query),
    "GET /recordings/:id": lambda call: recordings.view(call.state, recordings.find(call.state, call.path["id"])),
    "DELETE /recordings/:id": lambda call: recordings.delete(call.state, call.path["id"]),
    "GET /recordings/:id/access-link": access_link,
    "GET /presence": lambda call: meetings.domain_presence(call.state),
    "GET /meetings": lambda call: meetings.listed(call.state, call.query),
    "GET /meetings/:id": lambda call: meetings.view(call.state, meetings.find(call.state, call.path["id"])),
    "GET /meetings/:id/participants": lambda call: meetings.participants(call.state, call.path["id"], call.query),
    "GET /webhooks": list_webhooks,
    "POST /webhooks": create_webhook,
    "GET /webhooks/:uuid": get_webhook,
    "POST /webhooks/:uuid": update_webhook,
    "DELETE /webhooks/:uuid": lambda call: webhooks.delete(call.state, call.path["uuid"]),
}
