"""The nouns, as they are stored. All times are aware, in UTC, with whole milliseconds."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class SessionStatus(StrEnum):
    SCHEDULED = "scheduled"
    LIVE = "live"
    ENDED = "ended"


class RecordingStatus(StrEnum):
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Role(StrEnum):
    INSTRUCTOR = "instructor"
    STUDENT = "student"


class Of(StrEnum):
    """Whose sessions a list has: those with this id in this column."""

    INSTRUCTOR = "created_by"
    COURSE = "course_id"


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a caller asks for when they create a session."""

    course_id: str
    starts_at: datetime
    recording_enabled: bool
    max_participants: int | None


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """What a caller asks to change of a session; None is left as it is."""

    course_id: str | None
    starts_at: datetime | None
    recording_enabled: bool | None
    max_participants: int | None
    """0: no limit of ours."""


@dataclass(frozen=True, slots=True)
class Session:
    id: UUID
    course_id: str
    room_name: str
    status: SessionStatus
    starts_at: datetime
    ends_at: datetime | None
    created_by: str
    recording_enabled: bool
    max_participants: int | None
    created_at: datetime
    updated_at: datetime
    room_created_at: datetime | None
    """When Daily confirmed the room. Until then the session is an intent that no caller sees."""
    end_requested_at: datetime | None
    """As of when the session is to end, asked for by whoever or whatever: what `ends_at` becomes."""
    closes_at: datetime | None
    """When everybody is put out and the room is removed."""
    room_deleted_at: datetime | None
    live_at: datetime | None
    seen_empty_at: datetime | None
    """When Daily last said that nobody was in the room."""
    due_at: datetime | None
    """See `storage.queue`."""
    room_changed_at: datetime | None = None
    """When something of it changed last that Daily must know."""
    room_updated_at: datetime | None = None
    """Daily knows what was so then."""
    created_as: str | None = None
    """What the first create asked for, where that was changed since."""


class SessionRow(NamedTuple):
    """A session as it is read by the thousand: a row that goes straight into a message. Times are milliseconds since
    1970."""

    id: str
    course_id: str
    room_name: str
    status: str
    starts_at: int
    ends_at: int | None
    created_by: str
    recording_enabled: bool
    max_participants: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Recording:
    id: UUID
    session_id: UUID
    instance_id: UUID | None
    """Under which Daily runs it: the id of the row that asked for it; None for what was started inside the call."""
    recording_id: str | None
    """Daily's id; None until Daily has confirmed the start."""
    s3_key: str | None
    duration: int | None
    status: RecordingStatus
    failure_reason: str | None
    started_at: datetime | None
    stopped_at: datetime | None
    settled_at: datetime | None
    """When Daily's last word came: the file is stored, or there will be none."""
    in_doubt_until: datetime | None
    """Until then a request to start it that was not answered may still take effect."""
    due_at: datetime | None
    """See `storage.queue`."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Participant:
    id: UUID
    user_id: str
    session_id: UUID
    role: Role
    joined_at: datetime | None
    left_at: datetime | None
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Permitted:
    """A participant, by the id inside Daily, and what they may do."""

    id: UUID
    session_id: UUID
    daily_user_id: str
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool


@dataclass(frozen=True, slots=True)
class Recognised(Permitted):
    """Whom a room knows by that id."""

    has_name: bool


@dataclass(frozen=True, slots=True)
class Moderated(Permitted):
    """A participant as Daily must know them."""

    unsettled_at: datetime | None
    """Since when it is not certain that Daily knows."""
    all_sent: bool
    """Nothing that was sent about them before that can be under way any more."""


@dataclass(frozen=True, slots=True)
class Moderation:
    """The room of the session with this id is to be looked at: somebody was removed, or may not do everything."""

    id: UUID
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attended:
    """A participant who was there, with the stays of each device: when it joined and left, which may be yet to come."""

    id: UUID
    user_id: str
    name: str | None
    role: Role
    created_at: datetime
    stays: list[tuple[datetime, datetime | None]]


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides whether, and how, a user may enter a room."""

    status: SessionStatus
    end_requested_at: datetime | None
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool


@dataclass(frozen=True, slots=True)
class Connection:
    """One stay of one device in a room, under the id that Daily gives it."""

    id: str
    daily_user_id: str
    joined_at: datetime | None
    left_at: datetime | None
    is_owner: bool = False
    user_name: str | None = None


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What we were told of who is in a room."""

    inside: list[Connection]
    last_left_at: datetime | None


@dataclass(frozen=True, slots=True)
class Meeting:
    """One call in a room, from the first join to the last leave, under Daily's id."""

    id: str
    session_id: UUID
    started_at: datetime | None
    ended_at: datetime | None
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Chore:
    id: str
    done_until: datetime | None
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """A change of a session, or of its participants or recordings, that was committed."""

    session_id: UUID
    revision: int
    """Counts the session's events, from 1 and without gaps."""
    at: datetime
    type: str
    """`session.` created, updated, live, ended or closed: its room is removed for good, of which no caller is told.
    `participant.` joined, left, updated, removed or readmitted. `recording.` started, completed or failed: what it is
    now, again when something else of it changed."""
    state: SessionRow | Participant | Recording
    """The one thing that changed, as it was then. A recording has only what callers see of it, and never its file."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Of the session with this id something is to be delivered to the product's back end."""

    id: UUID
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A session event on its way to the product's back end."""

    id: UUID
    """Of its webhook, the same with every try."""
    event: SessionEvent
    room_name: str
    attempts: int
    due_at: datetime
    """Until then it is ours; see `storage.queue`."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a try to deliver."""

    delivery: Delivery
    error: str | None
    """None: it was delivered."""
    pause: timedelta | None = None
    """Until the next try; None: there will be none."""


class DeliveryRow(NamedTuple):
    """A delivery, for people."""

    id: UUID
    at: datetime
    type: str
    room_name: str
    revision: int
    attempts: int
    due_at: datetime | None
    delivered_at: datetime | None
    error: str | None


class Follow(NamedTuple):
    """Who asks for the present state of a session that they follow."""

    room_name: str
    after_revision: int
    """The last that they know of; 0: nothing yet."""
    everything: bool
    """Its recordings and participants too."""


@dataclass(frozen=True, slots=True)
class Present:
    """A session at one moment, for who follows it."""

    id: UUID
    session: SessionRow
    revision: int
    closed: bool
    """Its room is removed for good: nothing more will happen."""
    missed: list[SessionEvent] | None
    """What came after the revision that was asked for, oldest first and without gaps: some hundreds at the most, and
    the fewer the more ask at once, though there may be more up to `revision`. None where not all is kept, or there
    never was such a revision: then what there is now is to be told."""
    recording: Recording | None
    """The latest, where everything was asked for and nothing is known of what was missed; so it is with `inside`."""
    inside: list[Participant]


@dataclass(frozen=True, slots=True)
class Event:
    """One of Daily's events; `body` is what Daily sent, and `digest` its SHA-256."""

    digest: bytes
    id: str
    type: str
    room_name: str | None
    body: bytes
    received_at: datetime
    attempts: int
