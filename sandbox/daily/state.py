"""What the stand-in knows: rooms, meetings, recordings and the webhook, in memory and in one JSON file.

Times are unix seconds with millisecond precision. What happens is told to the webhook through `State.emit`.
"""

import asyncio
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
SAVE_EVERY = 1.0


def now() -> float:
    return round(time.time(), 3)


def iso(moment: float) -> str:
    """Daily's text form: 2019-01-26T09:01:22.000Z."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Room:
    id: str
    name: str
    privacy: str
    created_at: float
    properties: JSON


@dataclass
class Connection:
    """One participant's stay in a call; the same user may have several at once."""

    room: str
    session_id: str
    user_id: str
    user_name: str | None
    owner: bool
    permissions: JSON
    joined_at: float
    will_eject_at: float | None
    left_at: float | None = None


@dataclass
class Meeting:
    """One call in a room: from the first join until the last leave."""

    id: str
    room: str
    start_time: float
    end_time: float | None = None
    max_participants: int = 0
    banned_user_ids: list[str] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    def present(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.left_at is None]


@dataclass
class Recording:
    """`in-progress` while it runs and, with `end_ts`, is processed; then `finished` or `canceled`."""

    id: str
    room_name: str
    instance_id: str
    layout: JSON
    start_ts: float
    max_duration: float
    min_idle_timeout: float
    s3key: str
    mtg_session_id: str | None
    max_participants: int
    status: str = "in-progress"
    idle_since: float | None = None
    end_ts: float | None = None
    duration: int | None = None


@dataclass
class Webhook:
    uuid: str
    url: str
    hmac: str
    event_types: list[str]
    retry_type: str
    created_at: float
    updated_at: float
    state: str = "ACTIVE"
    failed_count: int = 0
    last_moment_pushed: float | None = None


@dataclass
class Event:
    """One webhook event; `subject` is the id of what it is about, `room` only labels it in our own log."""

    type: str
    subject: str
    room: str
    payload: JSON
    event_ts: float


class State:
    """Everything that is remembered. `open_*` index what still goes on: the clock looks at no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.domain_id = new_id()
        self.rooms: dict[str, Room] = {}
        self.meetings: dict[str, Meeting] = {}
        self.recordings: dict[str, Recording] = {}
        self.webhook: Webhook | None = None
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.changed = True
        self.saved_at = 0.0
        if path.exists():
            self._load(json.loads(path.read_text()))
        self.open_meetings = {m.room: m for m in self.meetings.values() if m.end_time is None}
        self.open_recordings = {r.id: r for r in self.recordings.values() if r.status == "in-progress"}

    def _load(self, saved: JSON) -> None:
        self.domain_id = saved["domain_id"]
        self.rooms = {row["name"]: Room(**row) for row in saved["rooms"]}
        for row in saved["meetings"]:
            connections = [Connection(**connection) for connection in row["connections"]]
            self.meetings[row["id"]] = Meeting(**row | {"connections": connections})
        self.recordings = {row["id"]: Recording(**row) for row in saved["recordings"]}
        self.webhook = Webhook(**saved["webhook"]) if saved["webhook"] else None
        self.changed = False

    def save(self) -> None:
        """Writes the file if anything changed; a reader sees the old one or the new one, never a half."""
        if not self.changed:
            return
        self.changed = False
        self.saved_at = time.monotonic()
        content = {
            "domain_id": self.domain_id,
            "rooms": list(self.rooms.values()),
            "meetings": list(self.meetings.values()),
            "recordings": list(self.recordings.values()),
            "webhook": self.webhook,
        }
        draft = self.path.with_name(self.path.name + ".new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content, default=vars))
        os.replace(draft, self.path)

    def save_if_due(self) -> None:
        if time.monotonic() - self.saved_at >= SAVE_EVERY:
            self.save()

    def emit(self, event_type: str, subject: str, room: str, payload: JSON) -> None:
        self.changed = True
        self.events.put_nowait(Event(event_type, subject, room, payload, now()))
