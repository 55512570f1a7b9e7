"""The first tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("course_id", sa.Text(), nullable=False),
        sa.Column("room_name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="scheduled", nullable=False),
        sa.Column("starts_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=False),
        sa.Column("ends_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("recording_enabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("max_participants", sa.Integer(), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("lease_until", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("room_created_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("delete_requested_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("room_deleted_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.CheckConstraint("(status = 'ended') = (ends_at IS NOT NULL)", name=op.f("sessions_ended_check")),
        sa.CheckConstraint("status IN ('scheduled', 'live', 'ended')", name=op.f("sessions_status_check")),
        sa.CheckConstraint("max_participants > 0", name=op.f("sessions_max_participants_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pkey")),
        sa.UniqueConstraint("room_name", name=op.f("sessions_room_name_key")),
    )
    op.create_index(
        "sessions_created_by",
        "sessions",
        ["created_by", sa.literal_column("starts_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "sessions_idempotency_key",
        "sessions",
        ["created_by", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "sessions_unconfirmed",
        "sessions",
        ["id"],
        unique=False,
        postgresql_where=sa.text(
            "room_created_at IS NULL OR (delete_requested_at IS NOT NULL AND room_deleted_at IS NULL)"
        ),
    )
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "received_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("applied_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_events_pkey")),
    )
    op.create_index("webhook_events_received_at", "webhook_events", ["received_at"], unique=False)
    op.create_index(
        "webhook_events_unapplied",
        "webhook_events",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("applied_at IS NULL"),
    )
    op.create_table(
        "connections",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("daily_user_id", sa.Text(), nullable=False),
        sa.Column("joined_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("left_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("polled_joined_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("polled_left_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("connections_session_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("connections_pkey")),
    )
    op.create_index(
        "connections_open",
        "connections",
        ["session_id"],
        unique=False,
        postgresql_where=sa.text("left_at IS NULL AND (polled_left_at IS NULL OR polled_joined_at IS NULL)"),
    )
    op.create_index(
        "connections_session_id_daily_user_id", "connections", ["session_id", "daily_user_id"], unique=False
    )
    op.create_table(
        "participants",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("daily_user_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("was_kicked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("mic_allowed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("camera_allowed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("role IN ('instructor', 'student')", name=op.f("participants_role_check")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("participants_session_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("participants_pkey")),
    )
    op.create_index(
        "participants_session_id_created_at", "participants", ["session_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "participants_session_id_daily_user_id", "participants", ["session_id", "daily_user_id"], unique=True
    )
    op.create_index("participants_session_id_role", "participants", ["session_id", "role"], unique=False)
    op.create_index("participants_session_id_user_id", "participants", ["session_id", "user_id"], unique=True)
    op.create_table(
        "recordings",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("recording_id", sa.Text(), nullable=True),
        sa.Column("s3_key", sa.Text(), nullable=True),
        sa.Column("duration", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), server_default="processing", nullable=False),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("made_live", sa.Boolean(), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("stopped_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("settled_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True, precision=3),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_until", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("stop_requested_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.CheckConstraint("status IN ('processing', 'completed', 'failed')", name=op.f("recordings_status_check")),
        sa.CheckConstraint("duration >= 0", name=op.f("recordings_duration_check")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("recordings_session_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("recordings_pkey")),
    )
    op.create_index("recordings_recording_id", "recordings", ["recording_id"], unique=True)
    op.create_index(
        "recordings_running",
        "recordings",
        ["session_id"],
        unique=True,
        postgresql_where=sa.text("status = 'processing'"),
    )
    op.create_index(
        "recordings_session_id", "recordings", ["session_id", sa.literal_column("created_at DESC")], unique=False
    )
    op.create_index(
        "recordings_unsettled",
        "recordings",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("settled_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("recordings_unsettled", table_name="recordings", postgresql_where=sa.text("settled_at IS NULL"))
    op.drop_index("recordings_session_id", table_name="recordings")
    op.drop_index("recordings_running", table_name="recordings", postgresql_where=sa.text("status = 'processing'"))
    op.drop_index("recordings_recording_id", table_name="recordings")
    op.drop_table("recordings")
    op.drop_index("participants_session_id_user_id", table_name="participants")
    op.drop_index("participants_session_id_role", table_name="participants")
    op.drop_index("participants_session_id_daily_user_id", table_name="participants")
    op.drop_index("participants_session_id_created_at", table_name="participants")
    op.drop_table("participants")
    op.drop_index("connections_session_id_daily_user_id", table_name="connections")
    op.drop_index(
        "connections_open",
        table_name="connections",
        postgresql_where=sa.text("left_at IS NULL AND (polled_left_at IS NULL OR polled_joined_at IS NULL)"),
    )
    op.drop_table("connections")
    op.drop_index(
        "webhook_events_unapplied", table_name="webhook_events", postgresql_where=sa.text("applied_at IS NULL")
    )
    op.drop_index("webhook_events_received_at", table_name="webhook_events")
    op.drop_table("webhook_events")
    op.drop_index(
        "sessions_unconfirmed",
        table_name="sessions",
        postgresql_where=sa.text(
            "room_created_at IS NULL OR (delete_requested_at IS NOT NULL AND room_deleted_at IS NULL)"
        ),
    )
    op.drop_index(
        "sessions_idempotency_key", table_name="sessions", postgresql_where=sa.text("idempotency_key IS NOT NULL")
    )
    op.drop_index("sessions_created_by", table_name="sessions")
    op.drop_table("sessions")
