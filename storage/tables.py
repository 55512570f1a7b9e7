"""The tables. Constraints say the rules again, so that no code path can break them; each index names its query."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, base
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


class Xid8(UserDefinedType[str]):
    """The number of a transaction, which is never used again."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


base.ischema_names["xid8"] = Xid8  # which SQLAlchemy does not know when it compares tables


def _time(name: str, *, required: bool = False, now: bool = False) -> Column:  # type: ignore[type-arg]
    default = func.now() if now else None
    return Column(name, TIMESTAMP(timezone=True, precision=3), nullable=not (required or now), server_default=default)


def _due() -> list[Column]:  # type: ignore[type-arg]
    """The row's place in the queue of what is due: when to look at it next, which is also the lease of whoever is at
    work on it, by PostgreSQL's clock and to the microsecond, so that a lease is told from every other one; and how
    often that was tried."""
    return [
        Column("due_at", TIMESTAMP(timezone=True)),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
    ]


def _due_index(name: str, where: str = "due_at IS NOT NULL") -> Index:
    return Index(name, "due_at", postgresql_where=text(where))


def _id() -> Column:  # type: ignore[type-arg]
    return Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()"))


def _session_id() -> Column:  # type: ignore[type-arg]
    return Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


_SHOWN = ["recording_enabled", "max_participants", "created_at", "updated_at"]

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
    Column("idempotency_key", Text),
    # Intents, what was asked and is not confirmed, beside what confirms each. `end_requested_at` becomes `ends_at`.
    _time("room_created_at"),
    _time("end_requested_at"),
    _time("closes_at"),
    _time("room_deleted_at"),
    # What Daily must know of the room was changed then, and known at Daily is what was so then.
    _time("room_changed_at"),
    _time("room_updated_at"),
    # What the first create under its idempotency key asked for, where that was changed since.
    Column("created_as", Text),
    _time("live_at"),
    # When Daily last said that nobody was in the room.
    _time("seen_empty_at"),
    # Of the last change that callers can see; 0: none was told yet.
    Column("revision", Integer, nullable=False, server_default=text("0")),
    *_due(),
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
    # A course's, in the same way.
    Index(
        "sessions_by_course",
        "course_id",
        text("starts_at DESC"),
        text("id DESC"),
        postgresql_include=["created_by", "room_name", "status", "ends_at", *_SHOWN],
        postgresql_where=text("room_created_at IS NOT NULL"),
    ),
    # Those that are scheduled or live: few among all that have ended, which are found in the lists above.
    *(
        Index(
            f"sessions_open_by_{name}",
            of,
            "status",
            text("starts_at DESC"),
            text("id DESC"),
            postgresql_include=[other, "room_name", "ends_at", *_SHOWN],
            postgresql_where=text("room_created_at IS NOT NULL AND status <> 'ended'"),
        )
        for name, of, other in (("instructor", "created_by", "course_id"), ("course", "course_id", "created_by"))
    ),
    # What is due, in three lines, so that ten thousand rooms to be removed do not stand before the end of a class.
    _due_index("sessions_due_ends", "end_requested_at IS NOT NULL AND ends_at IS NULL AND due_at IS NOT NULL"),
    _due_index("sessions_due_closings", "ends_at IS NOT NULL AND due_at IS NOT NULL"),
    _due_index("sessions_due", "end_requested_at IS NULL AND ends_at IS NULL AND due_at IS NOT NULL"),
)

participants = Table(
    "participants",
    metadata,
    _id(),
    Column("user_id", Text, nullable=False),
    # The user's id inside Daily, which takes 36 characters at most.
    Column("daily_user_id", Text, nullable=False),
    _session_id(),
    # From their token or, without one, as Daily told it.
    Column("name", Text),
    Column("role", Text, nullable=False),
    Column("was_kicked", Boolean, nullable=False, server_default=text("false")),
    Column("mic_allowed", Boolean, nullable=False, server_default=text("true")),
    Column("camera_allowed", Boolean, nullable=False, server_default=text("true")),
    # Until then a token of somebody who was removed may still let them in.
    _time("watch_until"),
    # Since then Daily may not know what they may do; to the microsecond, so that each change is told from every other.
    Column("unsettled_at", TIMESTAMP(timezone=True)),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    CheckConstraint("role IN ('instructor', 'student')", "role"),
    # One row per person and session: the upsert of every meeting token.
    Index("participants_session_id_user_id", "session_id", "user_id", unique=True),
    # Queries by role, as documented.
    Index("participants_session_id_role", "session_id", "role"),
    # A join names the user by Daily's id. Not unique: an upsert can name one unique key only.
    Index("participants_daily_user_id", "session_id", "daily_user_id"),
    # Pages of a session's participants.
    Index("participants_session_id_created_at", "session_id", "created_at", "id"),
    # Those of whom Daily must be told.
    Index(
        "participants_moderated",
        "session_id",
        postgresql_where=text("was_kicked OR NOT mic_allowed OR NOT camera_allowed OR unsettled_at IS NOT NULL"),
    ),
)

moderations = Table(
    "moderations",
    metadata,
    # The session in whose room somebody was removed, or may not do everything.
    Column("id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    *_due(),
    _due_index("moderations_due"),
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
    # Who is inside.
    Index("connections_open", "session_id", postgresql_where=text("left_at IS NULL AND polled_left_at IS NULL")),
)

meetings = Table(
    "meetings",
    metadata,
    # Daily's id of one call in a room, from the first join to the last leave.
    Column("id", Text, primary_key=True),
    _session_id(),
    _time("started_at"),
    _time("ended_at"),
    # When its record at Daily was compared with what we were told, after its end.
    _time("compared_at"),
    *_due(),
    # A session's meetings that are not compared yet.
    Index("meetings_session_id", "session_id", postgresql_where=text("compared_at IS NULL")),
    # Meetings that were under way when events were missing.
    Index("meetings_ended_at", "ended_at"),
    _due_index("meetings_due"),
)

recordings = Table(
    "recordings",
    metadata,
    _id(),
    _session_id(),
    # Under which Daily runs it: the id of the row that asked for it, or none for what was started inside the call.
    Column("instance_id", Uuid),
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
    # Until then a request to start it that was not answered may still take effect.
    _time("in_doubt_until"),
    *_due(),
    CheckConstraint("status IN ('processing', 'completed', 'failed')", "status"),
    CheckConstraint("duration >= 0", "duration"),
    # A session's recordings, newest first.
    Index("recordings_session_id", "session_id", text("created_at DESC")),
    # Daily's events and listings name a recording by its id there.
    Index("recordings_recording_id", "recording_id", unique=True),
    # At most one running recording of ours per session.
    Index(
        "recordings_running",
        "session_id",
        unique=True,
        postgresql_where=text("status = 'processing' AND instance_id IS NOT NULL"),
    ),
    # What is due: starts of which it is not known what came, before all that waits for files.
    _due_index("recordings_due_starts", "recording_id IS NULL AND due_at IS NOT NULL"),
    _due_index("recordings_due", "recording_id IS NOT NULL AND due_at IS NOT NULL"),
)

daily_events = Table(
    "daily_events",
    metadata,
    # SHA-256 of the body: Daily gives one id to two events of a second, and several to one.
    Column("digest", LargeBinary, primary_key=True),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    # Which room it is about; none where the event does not say, until that has been found out.
    Column("room_name", Text),
    Column("body", LargeBinary, nullable=False),
    _time("received_at", now=True),
    # No longer due: applied, unless it has an error, with which it was given up.
    Column("due_at", TIMESTAMP(timezone=True), server_default=func.clock_timestamp()),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    # In turn: those that were tried least come first.
    Index("daily_events_due", "attempts", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    # What is old enough to be removed.
    Index("daily_events_received_at", "received_at"),
)

# Written by triggers, with the change itself: see migration 0005.
session_events = Table(
    "session_events",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("at", TIMESTAMP(timezone=True, precision=3), nullable=False, server_default=func.clock_timestamp()),
    Column("type", Text, nullable=False),
    # The whole new state of the one thing that changed.
    Column("state", JSONB, nullable=False),
    Column("transaction", Xid8, nullable=False, server_default=func.pg_current_xact_id()),
    _time("forget_at", required=True),
    # What has been committed since the last look.
    Index("session_events_transaction", "transaction"),
    # What is old enough to be removed.
    Index("session_events_forget_at", "forget_at"),
)

# An event on its way to the product's back end, under the id of its webhook; written with the event where connections
# say so: SET live_sessions.deliver = 'on'. It has failed for good when it is neither due nor delivered.
deliveries = Table(
    "deliveries",
    metadata,
    _id(),
    Column("session_id", Uuid, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("due_at", TIMESTAMP(timezone=True), server_default=func.clock_timestamp()),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _time("delivered_at"),
    Column("error", Text),
    ForeignKeyConstraint(
        ["session_id", "revision"], ["session_events.session_id", "session_events.revision"], ondelete="CASCADE"
    ),
    # They go when their event goes.
    Index("deliveries_session_id_revision", "session_id", "revision", unique=True),
    # What is due of a session.
    Index("deliveries_due", "session_id", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    # Lists, newest first, and what is to be sent again since some time.
    Index("deliveries_created_at", "created_at", "id"),
    Index("deliveries_failed", "created_at", "id", postgresql_where=text("due_at IS NULL AND delivered_at IS NULL")),
)

# The deliveries of one session have one place in the queue, so that those of all sessions have their turns.
outboxes = Table(
    "outboxes",
    metadata,
    # The session.
    Column("id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    *_due(),
    _due_index("outboxes_due"),
)

chores = Table(
    "chores",
    metadata,
    # What must be done once in the deployment, whatever number of processes it has.
    Column("id", Text, primary_key=True),
    # Until when the chore has seen to everything.
    _time("done_until"),
    *_due(),
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
