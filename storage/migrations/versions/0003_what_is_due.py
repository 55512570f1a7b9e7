"""What is due"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

TIME = postgresql.TIMESTAMP(timezone=True, precision=3)
DUE = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    # The servers of 1.0 do not run on it: they are stopped first, and what they left unfinished is taken along.
    _sessions()
    _recordings()
    _participants()
    _meetings()
    _events()
    op.create_table(
        "chores",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("done_until", TIME),
        *_due(),
    )
    op.create_table(
        "daily_domains",
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        sa.Column("domain_id", sa.Text(), nullable=False),
    )
    op.create_table(
        "daily_budgets",
        sa.Column("class", sa.Text(), primary_key=True),
        sa.Column("free_at", DUE, nullable=False),
    )


def _due() -> list[sa.Column[Any]]:
    return [
        sa.Column("due_at", DUE),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
    ]


def _due_index(name: str, table: str, where: str = "due_at IS NOT NULL") -> None:
    op.create_index(name, table, ["due_at"], postgresql_where=sa.text(where))


def _sessions() -> None:
    for name in ("end_requested_at", "closes_at", "live_at"):
        op.add_column("sessions", sa.Column(name, TIME))
    for column in _due():
        op.add_column("sessions", column)
    # What stands open is looked at in the minutes that follow, not all at once.
    op.execute("""
        UPDATE sessions SET
            end_requested_at = coalesce(ends_at, delete_requested_at, (
                SELECT max(stop_requested_at) FROM recordings
                WHERE recordings.session_id = sessions.id AND recordings.status = 'processing'
            )),
            closes_at = CASE WHEN delete_requested_at IS NOT NULL OR ends_at IS NOT NULL THEN now() END,
            live_at = CASE WHEN status = 'live' THEN updated_at END,
            due_at = CASE WHEN room_deleted_at IS NULL THEN clock_timestamp() + random() * interval '10 minutes' END
        WHERE room_deleted_at IS NULL OR end_requested_at IS NULL
    """)
    op.drop_index("sessions_unconfirmed", table_name="sessions")
    op.drop_column("sessions", "lease_until")
    op.drop_column("sessions", "delete_requested_at")
    _due_index(
        "sessions_due_ends", "sessions", "end_requested_at IS NOT NULL AND ends_at IS NULL AND due_at IS NOT NULL"
    )
    _due_index("sessions_due_closings", "sessions", "ends_at IS NOT NULL AND due_at IS NOT NULL")
    _due_index("sessions_due", "sessions", "end_requested_at IS NULL AND ends_at IS NULL AND due_at IS NOT NULL")


def _recordings() -> None:
    op.add_column("recordings", sa.Column("instance_id", sa.Uuid()))
    op.add_column("recordings", sa.Column("in_doubt_until", TIME))
    for column in _due():
        op.add_column("recordings", column)
    op.execute("""
        UPDATE recordings SET
            instance_id = id,
            due_at = CASE WHEN settled_at IS NULL THEN clock_timestamp() + random() * interval '10 minutes' END
    """)
    op.drop_index("recordings_running", table_name="recordings")
    op.drop_index("recordings_unsettled", table_name="recordings")
    op.drop_column("recordings", "lease_until")
    op.drop_column("recordings", "stop_requested_at")
    op.create_index(
        "recordings_running",
        "recordings",
        ["session_id"],
        unique=True,
        postgresql_where=sa.text("status = 'processing' AND instance_id IS NOT NULL"),
    )
    _due_index("recordings_due_starts", "recordings", "recording_id IS NULL AND due_at IS NOT NULL")
    _due_index("recordings_due", "recordings", "recording_id IS NOT NULL AND due_at IS NOT NULL")


def _participants() -> None:
    op.drop_index("participants_session_id_daily_user_id", table_name="participants")
    op.create_index("participants_daily_user_id", "participants", ["session_id", "daily_user_id"])
    op.drop_index("connections_open", table_name="connections")
    op.create_index(
        "connections_open",
        "connections",
        ["session_id"],
        postgresql_where=sa.text("left_at IS NULL AND polled_left_at IS NULL"),
    )


def _meetings() -> None:
    op.create_table(
        "meetings",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("session_id", sa.Uuid(), sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
        *(sa.Column(name, TIME) for name in ("started_at", "ended_at", "compared_at")),
        *_due(),
    )
    op.create_index("meetings_session_id", "meetings", ["session_id"], postgresql_where=sa.text("compared_at IS NULL"))
    op.create_index("meetings_ended_at", "meetings", ["ended_at"])
    _due_index("meetings_due", "meetings")


def _events() -> None:
    op.create_table(
        "daily_events",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("room_name", sa.Text()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("due_at", DUE, server_default=sa.func.clock_timestamp()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("error", sa.Text()),
    )
    op.execute("""
        INSERT INTO daily_events (id, type, body, received_at)
        SELECT id, type, convert_to(body::text, 'UTF8'), received_at FROM webhook_events WHERE applied_at IS NULL
    """)
    op.drop_table("webhook_events")
    _due_index("daily_events_due", "daily_events")
    op.create_index(
        "daily_events_room_name",
        "daily_events",
        ["room_name", "received_at"],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("daily_events_received_at", "daily_events", ["received_at"])


def downgrade() -> None:
    raise NotImplementedError("back to 1.0: restore the backup")
