"""What Daily keeps, as plain records, and the forms of its ids and times."""

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

JSON = dict[str, Any]
ID_PREFIX = {
    "meeting.started": "met-sta",
    "meeting.ended": "met-end",
    "participant.joined": "ptcpt-join",
    "participant.left": "ptcpt-left",
    "recording.started": "rec-sta",
    "recording.ready-to-download": "rec-rtd",
    "recording.error": "rec-err",
}
EVENT_TYPES = tuple(ID_PREFIX)


def now() -> float:
    return round(time.time(), 3)


def iso(moment: float) -> str:
    """Daily's text form: 2019-01-26T09:01:22.000Z."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    return str(uuid.uuid4())


def event_id(type: str, label: str, stamp: int) -> str:
    return f"{ID_PREFIX[type]}-{label}-{stamp}"


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
    """One call in a room: from the first join until the last leave, of which Daily tells at `told_at`."""

    id: str
    room: str
    start_time: float
    end_time: float | None = None
    told_at: float | None = None
    max_participants: int = 0
    banned_user_ids: list[str] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    inside: dict[str, Connection] = field(init=False)

    def __post_init__(self) -> None:
        self.inside = {one.session_id: one for one in self.connections if one.left_at is None}


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
    started_by: str | None = None
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
    """One webhook event: `message` is its body; the record it is `about` and its `room` only label it for our log."""

    type: str
    about: str | None
    room: str
    message: JSON
