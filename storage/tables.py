"""The tables. Constraints say the rules again, so that no code path can break them; each index names its query."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _time(name: str, *, required: bool = False, now: bool = False) -> Column:  # type: ignore[type-arg]
    default = func.now() if now else None
    return Column(name, TIMESTAMP(timezone=True, precision=3), nullable=not (required or now), server_default=default)


def _id() -> Column:  # type: ignore[type-arg]
    return Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()"))


def _session_id() -> Column:  # type: ignore[type-arg]
    return Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


sessions = Table(
    "sessions",
    metadata,
    _id(),
    Column("course_id", Text, nullable=False),
    Column("room_name", Text, nullable=False, unique=True),
    Column("status", Text, nullable=False, server_default="scheduled"),
    _time("starts_at", required=True),
    _time("ends_at"),
    Column("created_by", Text, nullable=False),
    Column("recording_enabled", Boolean, nullable=False, server_default=text("false")),
    Column("max_participants", Integer),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    # Intents: what was asked and is not confirmed. A create is being worked on until lease_until.
    Column("idempotency_key", Text),
    _time("lease_until"),
    _time("room_created_at"),
    _time("delete_requested_at"),
    _time("room_deleted_at"),
    CheckConstraint("status IN ('scheduled', 'live', 'ended')", "status"),
    CheckConstraint("(status = 'ended') = (ends_at IS NOT NULL)", "ended"),
    CheckConstraint("max_participants > 0", "max_participants"),
    # A repeated create finds what the first one made.
    Index(
        "sessions_idempotency_key",
        "created_by",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    # An instructor's sessions, newest first, page by page, with all that a list shows: a thousand rows lie on twenty or
    # thirty pages of it, and on a thousand pages of the table.
    Index(
        "sessions_by_instructor",
        "created_by",
        text("starts_at DESC"),
        text("id DESC"),
        postgresql_include=[
            "course_id",
            "room_name",
            "status",
            "ends_at",
            "recording_enabled",
            "max_participants",
            "created_at",
            "updated_at",
        ],
        postgresql_where=text("room_created_at IS NOT NULL"),
    ),
    # The reconciler's unfinished creates and deletes.
    Index(
        "sessions_unconfirmed",
        "id",
        postgresql_where=text(
            "room_created_at IS NULL OR (delete_requested_at IS NOT NULL AND room_deleted_at IS NULL)"
        ),
    ),
)

participants = Table(
    "participants",
    metadata,
    _id(),
    Column("user_id", Text, nullable=False),
    # The user's id inside Daily, which takes 36 characters at most.
    Column("daily_user_id", Text, nullable=False),
    _session_id(),
    Column("role", Text, nullable=False),
    Column("was_kicked", Boolean, nullable=False, server_default=text("false")),
    Column("mic_allowed", Boolean, nullable=False, server_default=text("true")),
    Column("camera_allowed", Boolean, nullable=False, server_default=text("true")),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    CheckConstraint("role IN ('instructor', 'student')", "role"),
    # One row per person and session: the upsert of every meeting token.
    Index("participants_session_id_user_id", "session_id", "user_id", unique=True),
    # Queries by role, as documented.
    Index("participants_session_id_role", "session_id", "role"),
    # A join names the user by Daily's id.
    Index("participants_session_id_daily_user_id", "session_id", "daily_user_id", unique=True),
    # Pages of a session's participants.
    Index("participants_session_id_created_at", "session_id", "created_at", "id"),
)

connections = Table(
    "connections",
    metadata,
    Column("id", Text, primary_key=True),
    _session_id(),
    Column("daily_user_id", Text, nullable=False),
    # Exact, each written by its own webhook.
    _time("joined_at"),
    _time("left_at"),
    # From Daily's meeting records, where a webhook was lost.
    _time("polled_joined_at"),
    _time("polled_left_at"),
    # A participant's stays.
    Index("connections_session_id_daily_user_id", "session_id", "daily_user_id"),
    # Rooms in which somebody still seems to be, or left nobody knows when.
    Index(
        "connections_open",
        "session_id",
        postgresql_where=text("left_at IS NULL AND (polled_left_at IS NULL OR polled_joined_at IS NULL)"),
    ),
)

recordings = Table(
    "recordings",
    metadata,
    _id(),
    _session_id(),
    Column("recording_id", Text),
    Column("s3_key", Text),
    Column("duration", Integer),
    Column("status", Text, nullable=False, server_default="processing"),
    Column("failure_reason", Text),
    # Whether this start made the session live, so that a start that fails can give `scheduled` back.
    Column("made_live", Boolean, nullable=False),
    _time("started_at"),
    _time("stopped_at"),
    _time("settled_at"),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    # Intents: a start is being worked on until lease_until.
    _time("lease_until"),
    _time("stop_requested_at"),
    CheckConstraint("status IN ('processing', 'completed', 'failed')", "status"),
    CheckConstraint("duration >= 0", "duration"),
    # A session's recordings, newest first.
    Index("recordings_session_id", "session_id", text("created_at DESC")),
    # Daily's events and listings name a recording by its id there.
    Index("recordings_recording_id", "recording_id", unique=True),
    # At most one running recording per session.
    Index("recordings_running", "session_id", unique=True, postgresql_where=text("status = 'processing'")),
    # The reconciler's unfinished recordings.
    Index("recordings_unsettled", "created_at", postgresql_where=text("settled_at IS NULL")),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("body", JSON, nullable=False),
    _time("received_at", now=True),
    _time("applied_at"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    # Events that could not be applied yet.
    Index("webhook_events_unapplied", "received_at", postgresql_where=text("applied_at IS NULL")),
    # What is old enough to be removed.
    Index("webhook_events_received_at", "received_at"),
)

daily_budgets = Table(
    "daily_budgets",
    metadata,
    # A class of Daily's endpoints, and the moment of the next request to it that nobody has taken yet.
    Column("class", Text, primary_key=True),
    Column("free_at", TIMESTAMP(timezone=True), nullable=False),
)

daily_domains = Table(
    "daily_domains",
    metadata,
    # Of Daily's address and API key, which shows nothing of the key.
    Column("fingerprint", Text, primary_key=True),
    Column("domain_id", Text, nullable=False),
)
