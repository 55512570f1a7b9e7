"""What is known from the outside when all is over: our rows, what Daily saw, what callers were told, and what the API
shows of the sessions that somebody follows."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import Any

import grpc
import httpx
import psycopg
from psycopg.rows import dict_row

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import bearer
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
CHANGES = """
SELECT room_name, session_events.revision, type, state FROM session_events JOIN sessions ON sessions.id = session_id
ORDER BY room_name, session_events.revision
"""
NOW = "SELECT clock_timestamp() AS now"
Rows = list[dict[str, Any]]
Noun = pb.LiveSession | pb.SessionParticipant | pb.Recording
SERVICE_CONFIG = files("live_sessions.v1").joinpath("service_config.json").read_text()


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
    changes: dict[str, Rows]
    """By room, what is to be told to those who follow its session, and `session.closed`; in order."""
    shown: dict[str, list[Noun]]
    """By room, of each session that somebody follows: itself, its participants, and its recordings, latest first, of
    which Daily knows or that failed."""

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


def read(stack: Stack, daily: httpx.Client, journal: Journal) -> Facts:
    with psycopg.connect(stack.database_url, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        queries = (SESSIONS, RECORDINGS, PARTICIPANTS, CONNECTIONS, MEETINGS, EVENTS, CHORES, CHANGES, NOW)
        *tables, changes, [clock] = (connection.execute(query).fetchall() for query in queries)
    for event in tables[5]:
        payload = json.loads(event.pop("body"))["payload"]
        event |= {name: payload.get(name) if payload else None for name in ("session_id", "recording_id")}
    state = daily.get("/sandbox/state").json() | {"settings": daily.get("/sandbox/settings").json()}
    by_room = {room: list(rows) for room, rows in groupby(changes, itemgetter("room_name"))}
    return Facts(clock["now"], *tables, state, journal, by_room, _shown(stack, journal))


def _shown(stack: Stack, journal: Journal) -> dict[str, list[Noun]]:
    instructors = {one.room: one.instructor for one in list(journal.watched) if one.instructor is not None}
    options = [("grpc.enable_http_proxy", 0), ("grpc.service_config", SERVICE_CONFIG)]
    with grpc.insecure_channel(stack.grpc_proxy, options) as channel:
        stub = LiveSessionsStub(channel)
        return {room: _of_room(stub, room, stack.token(id, id, "instructor")) for room, id in instructors.items()}


def _of_room(stub: LiveSessionsStub, room: str, token: str) -> list[Noun]:
    me = bearer(token)
    session = stub.GetLiveSession(rpc.GetLiveSessionRequest(session_name=room))
    people = stub.ListSessionParticipants(rpc.ListSessionParticipantsRequest(session_name=room), metadata=me)
    recordings = stub.ListSessionRecordings(rpc.ListSessionRecordingsRequest(session_name=room), metadata=me)
    run = [one for one in recordings.recordings if one.recording_id or one.status == pb.Recording.failed]
    for one in run:
        one.ClearField("s3_key")  # nobody is told where a file lies
    return [session, *people.participants, *sorted(run, key=_age, reverse=True)]


def _age(recording: pb.Recording) -> tuple[datetime, str]:
    return recording.created_at.ToDatetime(), recording.id


def seconds(time: datetime | None) -> float | None:
    """Unix seconds, to the millisecond."""
    return None if time is None else round(time.timestamp(), 3)
