"""What is known from the outside when all is over: our rows, what Daily saw, what callers were told."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from tests.crash.journal import Journal

SESSIONS = """
SELECT id::text, room_name, course_id, status, starts_at, ends_at, created_by, recording_enabled, max_participants,
    idempotency_key, created_at, room_created_at, end_requested_at, closes_at, room_deleted_at, live_at, due_at
FROM sessions
"""
RECORDINGS = """
SELECT recordings.id::text, room_name, instance_id::text, recording_id, recordings.status, duration, s3_key,
    failure_reason, settled_at, recordings.due_at
FROM recordings JOIN sessions ON sessions.id = session_id
"""
PARTICIPANTS = """
SELECT room_name, user_id, daily_user_id, role, was_kicked, mic_allowed, camera_allowed
FROM participants JOIN sessions ON sessions.id = session_id
"""
CONNECTIONS = """
SELECT connections.id, room_name, daily_user_id, joined_at, left_at, polled_joined_at, polled_left_at
FROM connections JOIN sessions ON sessions.id = session_id
"""
MEETINGS = """
SELECT meetings.id, room_name, compared_at, meetings.due_at FROM meetings JOIN sessions ON sessions.id = session_id
"""
EVENTS = "SELECT id, type, room_name, body, due_at, error FROM daily_events"
CHORES = "SELECT id, due_at FROM chores"
NOW = "SELECT clock_timestamp() AS now"
Rows = list[dict[str, Any]]


@dataclass
class Facts:
    """`state` is the stand-in's /sandbox/state with its `settings`, `now` PostgreSQL's clock."""

    now: datetime
    sessions: Rows
    recordings: Rows
    participants: Rows
    connections: Rows
    meetings: Rows
    events: Rows
    """Each with the `session_id` of the participant, or the `recording_id`, that it tells of; None for any other."""
    chores: Rows
    state: dict[str, Any]
    journal: Journal

    @property
    def session_of(self) -> dict[str, dict[str, Any]]:
        """By the names of their rooms."""
        return {row["room_name"]: row for row in self.sessions}

    @property
    def rooms(self) -> set[str]:
        """At Daily."""
        return {room["name"] for room in self.state["rooms"]}


Found = Iterator[tuple[str, str]]
"""What a rule finds wrong: a room's name, or whatever it is about, and a detail."""
Rule = Callable[[Facts], Found]


def read(database_url: str, daily: httpx.Client, journal: Journal) -> Facts:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        queries = (SESSIONS, RECORDINGS, PARTICIPANTS, CONNECTIONS, MEETINGS, EVENTS, CHORES, NOW)
        *tables, [clock] = (connection.execute(query).fetchall() for query in queries)
    for event in tables[5]:
        payload = json.loads(event.pop("body"))["payload"]
        event |= {name: payload.get(name) if payload else None for name in ("session_id", "recording_id")}
    state = daily.get("/sandbox/state").json() | {"settings": daily.get("/sandbox/settings").json()}
    return Facts(clock["now"], *tables, state, journal)


def seconds(time: datetime | None) -> float | None:
    """Unix seconds, to the millisecond."""
    return None if time is None else round(time.timestamp(), 3)
