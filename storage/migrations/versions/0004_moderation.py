"""Moderation, changes of a session, lists of a course"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

TIME = postgresql.TIMESTAMP(timezone=True, precision=3)
DUE = postgresql.TIMESTAMP(timezone=True)
SHOWN = ["recording_enabled", "max_participants", "created_at", "updated_at"]


def upgrade() -> None:
    op.add_column("sessions", sa.Column("room_changed_at", TIME))
    op.add_column("sessions", sa.Column("room_updated_at", TIME))
    op.add_column("sessions", sa.Column("created_as", sa.Text()))
    # They keep writes waiting while they are built. Where that takes too long, build them before, CONCURRENTLY.
    newest_first: list[Any] = [sa.literal_column("starts_at DESC"), sa.literal_column("id DESC")]
    op.create_index(
        "sessions_by_course",
        "sessions",
        ["course_id", *newest_first],
        postgresql_include=["created_by", "room_name", "status", "ends_at", *SHOWN],
        postgresql_where=sa.text("room_created_at IS NOT NULL"),
        if_not_exists=True,
    )
    for name, of, other in (("instructor", "created_by", "course_id"), ("course", "course_id", "created_by")):
        op.create_index(
            f"sessions_open_by_{name}",
            "sessions",
            [of, "status", *newest_first],
            postgresql_include=[other, "room_name", "ends_at", *SHOWN],
            postgresql_where=sa.text("room_created_at IS NOT NULL AND status <> 'ended'"),
            if_not_exists=True,
        )
    op.add_column("participants", sa.Column("name", sa.Text()))
    op.add_column("participants", sa.Column("watch_until", TIME))
    op.add_column("participants", sa.Column("unsettled_at", DUE))
    op.create_index(
        "participants_moderated",
        "participants",
        ["session_id"],
        postgresql_where=sa.text("was_kicked OR NOT mic_allowed OR NOT camera_allowed OR unsettled_at IS NOT NULL"),
    )
    op.create_table(
        "moderations",
        sa.Column("id", sa.Uuid(), sa.ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("due_at", DUE),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )
    op.create_index("moderations_due", "moderations", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_table("moderations")
    op.drop_index("participants_moderated", table_name="participants")
    for name in ("unsettled_at", "watch_until", "name"):
        op.drop_column("participants", name)
    for name in ("sessions_open_by_course", "sessions_open_by_instructor", "sessions_by_course"):
        op.drop_index(name, table_name="sessions")
    for name in ("created_as", "room_updated_at", "room_changed_at"):
        op.drop_column("sessions", name)
