"""Lists out of an index"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # It keeps writes waiting while it is built. Where that takes too long, build it before, CONCURRENTLY.
    op.create_index(
        "sessions_by_instructor",
        "sessions",
        ["created_by", sa.literal_column("starts_at DESC"), sa.literal_column("id DESC")],
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
        postgresql_where=sa.text("room_created_at IS NOT NULL"),
        if_not_exists=True,
    )
    op.drop_index("sessions_created_by", table_name="sessions")


def downgrade() -> None:
    op.create_index(
        "sessions_created_by",
        "sessions",
        ["created_by", sa.literal_column("starts_at DESC"), sa.literal_column("id DESC")],
    )
    op.drop_index("sessions_by_instructor", table_name="sessions")
