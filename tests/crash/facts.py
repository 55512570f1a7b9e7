"""What is known from the outside when all is over: our rows, what Daily saw, what callers were told."""

from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from tests.crash.journal import Journal

SESSIONS = """
SELECT id::text, room_name, course_id, status, starts_at, created_by, recording_enabled, max_participants,
    idempotency_key, room_created_at, delete_requested_at, room_deleted_at
FROM sessions
"""
RECORDINGS = """
SELECT recordings.id::text, room_name, recording_id, recordings.status, duration, s3_key, failure_reason
FROM recordings JOIN sessions ON sessions.id = session_id
"""
PARTICIPANTS = """
SELECT room_name, user_id, daily_user_id, role, first_join, last_leave
FROM participants JOIN sessions ON sessions.id = session_id
LEFT JOIN (
    SELECT session_id, daily_user_id,
        min(coalesce(joined_at, polled_joined_at)) AS first_join,
        CASE WHEN bool_and(coalesce(left_at, polled_left_at) IS NOT NULL)
            THEN max(coalesce(left_at, polled_left_at)) END AS last_leave
    FROM connections GROUP BY session_id, daily_user_id
) AS stays USING (session_id, daily_user_id)
"""
Rows = list[dict[str, Any]]


@dataclass
class Facts:
    """`state` is the stand-in's /sandbox/state."""

    sessions: Rows
    recordings: Rows
    participants: Rows
    state: dict[str, Any]
    journal: Journal


def read(database_url: str, daily: httpx.Client, journal: Journal) -> Facts:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        sessions, recordings, participants = (
            connection.execute(query).fetchall() for query in (SESSIONS, RECORDINGS, PARTICIPANTS)
        )
    return Facts(sessions, recordings, participants, daily.get("/sandbox/state").json(), journal)
