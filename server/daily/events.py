"""Daily's events: whether they are signed, what the inbox keeps beside them, and what each one tells, typed.

Daily stops sending after three answers that are not 200, so that nothing that is signed is refused: `envelope` takes
whatever comes, and what cannot be understood is found by `read`, when the event is applied."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from server.daily.model import Stay
from server.daily.wire import (
    Item,
    Unreadable,
    given_id,
    is_id,
    later,
    mapping,
    name_of,
    optional_id,
    optional_seconds,
    optional_time,
    text,
    user_of,
)

MAX_BODY = 1 << 20
MAX_TYPE = 128
MAX_REASON = 500
PING = {"test": "test"}
SOUND, PICTURE = ("audio", "screenAudio"), ("video", "screenVideo")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the inbox keeps beside the raw body; all of it can be stored."""

    id: str
    """The event's own, or `sha256:` and the hash of its body where it has none that can be stored and is its alone."""
    type: str
    """Empty when unknown."""
    subject: str | None
    """The name of the room that it is about; `recording.started` names none."""
    at: datetime | None
    """Its own time; None where it has none."""


@dataclass(frozen=True, slots=True)
class MeetingStarted:
    room: str
    meeting_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MeetingEnded:
    room: str
    meeting_id: str
    started_at: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Joined:
    room: str
    stay: Stay
    is_owner: bool
    can_send: frozenset[str] | bool | None
    """All, nothing, or these of Daily's media (`video`, `audio`, `screenVideo`, …); None when Daily does not say."""

    def may_send(self, *, mic_allowed: bool, camera_allowed: bool) -> bool:
        """Whether Daily says that they joined with exactly these permissions."""
        if self.can_send is None:
            return False
        if isinstance(self.can_send, bool):
            return mic_allowed == camera_allowed == self.can_send
        sound, picture = [word in self.can_send for word in SOUND], [word in self.can_send for word in PICTURE]
        return sound == [mic_allowed] * len(SOUND) and picture == [camera_allowed] * len(PICTURE)


@dataclass(frozen=True, slots=True)
class Left:
    room: str
    connection_id: str
    user_id: str
    user_name: str | None
    joined_at: datetime | None
    left_at: datetime
    is_owner: bool


@dataclass(frozen=True, slots=True)
class RecordingStarted:
    recording_id: str
    instance_id: UUID | None
    at: datetime


@dataclass(frozen=True, slots=True)
class RecordingReady:
    room: str
    recording_id: str
    started_at: datetime | None
    duration: int | None
    """Whole seconds."""
    s3_key: str | None
    at: datetime
    """When Daily told so, which is later than the recording's end."""


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """`recording.error`, which names a recording by its instance alone."""

    room: str | None
    instance_id: UUID | None
    reason: str
    at: datetime


Event = MeetingStarted | MeetingEnded | Joined | Left | RecordingStarted | RecordingReady | RecordingFailed


def is_signed(secret: str | None, signature: str, timestamp: str, body: bytes) -> bool:
    """Whether Daily signed it with this base64 secret, however long ago. Without a secret nothing is signed."""
    try:
        key = base64.b64decode(secret or "", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    ours = hmac.new(key, _bytes(timestamp) + b"." + body, hashlib.sha256).digest()
    return hmac.compare_digest(base64.b64encode(ours), _bytes(signature)) and bool(key)


def is_ping(body: bytes) -> bool:
    """Whether it is Daily's test message, which is no event."""
    return len(body) < 100 and _parsed(body) == PING


def envelope(body: bytes) -> Envelope:
    """Of whatever bytes; never raises."""
    event = _object(_parsed(body))
    id, type, payload = event.get("id"), event.get("type"), _object(event.get("payload"))
    rooms = (payload.get("room"), payload.get("room_name"))
    return Envelope(
        id=id if isinstance(id, str) and is_id(id) else f"sha256:{hashlib.sha256(body).hexdigest()}",
        type=text(type, MAX_TYPE) or "",
        subject=next((room for room in rooms if isinstance(room, str) and is_id(room)), None),
        at=optional_time(event, "event_ts"),
    )


def read(body: bytes, received_at: datetime) -> Event | None:
    """What the event tells; None for a kind that we do not follow. Where it has no time of its own, it is that of its
    receipt. Raises wire.Unreadable when it does not say whom or what it is about."""
    event = mapping(_parsed(body))
    type = event.get("type")
    reader = READERS.get(type) if isinstance(type, str) else None
    if reader is None:
        return None
    return reader(mapping(event.get("payload")), optional_time(event, "event_ts") or received_at)


def _parsed(body: bytes) -> Any:
    """None for what is no JSON, or more of it than any event has."""
    try:
        return json.loads(body) if len(body) <= MAX_BODY else None
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _bytes(header: str) -> bytes:
    return header.encode(errors="replace")


def _meeting_started(payload: Item, at: datetime) -> Event:
    id = given_id(payload, "meeting_id")
    return MeetingStarted(given_id(payload, "room"), id, optional_time(payload, "start_ts") or at)


def _meeting_ended(payload: Item, at: datetime) -> Event:
    room, id = given_id(payload, "room"), given_id(payload, "meeting_id")
    return MeetingEnded(room, id, optional_time(payload, "start_ts"), optional_time(payload, "end_ts") or at)


def _joined(payload: Item, at: datetime) -> Event:
    id = given_id(payload, "session_id")
    joined_at = optional_time(payload, "joined_at") or at
    user = user_of(payload, "user_id", id)
    stay = Stay(id, user, name_of(payload, "user_name", user), joined_at, None)
    can_send = _can_send(_object(payload.get("permissions")).get("canSend"))
    return Joined(given_id(payload, "room"), stay, payload.get("owner") is True, can_send)


def _left(payload: Item, at: datetime) -> Event:
    id = given_id(payload, "session_id")
    user = user_of(payload, "user_id", id)
    joined_at, duration = optional_time(payload, "joined_at"), optional_seconds(payload, "duration")
    return Left(
        room=given_id(payload, "room"),
        connection_id=id,
        user_id=user,
        user_name=name_of(payload, "user_name", user),
        joined_at=joined_at,
        left_at=at if joined_at is None or duration is None else later(joined_at, duration),
        is_owner=payload.get("owner") is True,
    )


def _recording_started(payload: Item, at: datetime) -> Event:
    id = given_id(payload, "recording_id")
    return RecordingStarted(id, _instance(payload), optional_time(payload, "start_ts") or at)


def _recording_ready(payload: Item, at: datetime) -> Event:
    duration = optional_seconds(payload, "duration")
    return RecordingReady(
        room=given_id(payload, "room_name"),
        recording_id=given_id(payload, "recording_id"),
        started_at=optional_time(payload, "start_ts"),
        duration=None if duration is None else int(duration),
        s3_key=text(payload.get("s3_key")),
        at=at,
    )


def _recording_failed(payload: Item, at: datetime) -> Event:
    room, instance = optional_id(payload, "room_name"), _instance(payload)
    if room is None and instance is None:
        raise Unreadable("neither room_name nor instance_id")
    reason = text(payload.get("error_msg"), MAX_REASON) or "Daily reported an error"
    return RecordingFailed(room, instance, reason, optional_time(payload, "timestamp") or at)


def _instance(payload: Item) -> UUID | None:
    try:
        return UUID(str(payload.get("instance_id")))
    except ValueError:
        return None


def _can_send(value: object) -> frozenset[str] | bool | None:
    if isinstance(value, list):
        return frozenset(word for word in value if isinstance(word, str))
    return value if isinstance(value, bool) else None


READERS: dict[str, Callable[[Item, datetime], Event]] = {
    "meeting.started": _meeting_started,
    "meeting.ended": _meeting_ended,
    "participant.joined": _joined,
    "participant.left": _left,
    "recording.started": _recording_started,
    "recording.ready-to-download": _recording_ready,
    "recording.error": _recording_failed,
}
EVENT_TYPES = frozenset(READERS)
OTHER = "other"


def known(type: str) -> str:
    """The type, or `other` for one that we do not follow."""
    return type if type in EVENT_TYPES else OTHER
