"""What is due is come to, however much that cannot be done stands before it."""

import json
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from server.upkeep.queue import AT_ONCE
from tests.clients import eventually, waiting_for_locks
from tests.events import PATH, event, signature
from tests.faults.steps import FAILED_STOP, STOP, Own, entries, eventually_ended, has_ended, own_stack, said_to

STUCK = AT_ONCE + 8


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    with own_stack() as running:
        yield running


@pytest.fixture(autouse=True)
def as_usual(own: Own) -> Iterator[None]:
    yield
    own.daily.reset()


def insert_stuck(own: Own, sessions: str, recordings: str = "") -> str:
    """So many sessions, due for longer than any other, as the SQL says; their owner."""
    owner = f"stuck-{uuid4()}"
    own.database.execute(
        "INSERT INTO sessions (course_id, room_name, starts_at, created_by, recording_enabled, status, room_created_at,"
        " due_at, end_requested_at, ends_at, live_at)"
        " SELECT 'c', 'stuck-' || gen_random_uuid(), now(), %s, true, made.*"
        f" FROM generate_series(1, %s), LATERAL ({sessions}) AS made",
        [owner, STUCK],
    )
    if recordings:
        own.database.execute(
            "INSERT INTO recordings (id, instance_id, session_id, made_live, status, recording_id, due_at)"
            f" SELECT id, id, id, true, made.* FROM sessions, LATERAL ({recordings}) AS made WHERE created_by = %s",
            [owner],
        )
    return owner


LONG_AGO = "now() - interval '1 h'"


def test_a_stop_is_finished_behind_many_ends_that_cannot_be(own: Own) -> None:
    own.daily.fault("status", "GET", "/recordings/*", status=500, times=None)
    owner = insert_stuck(
        own,
        f"SELECT 'live', now(), {LONG_AGO}, now(), NULL::timestamptz, now()",
        "SELECT 'processing', gen_random_uuid()::text, NULL::timestamptz",
    )
    room = own.rest.recording()["roomName"]
    own.daily.fault("status", "POST", STOP.format(room), status=503, times=4)
    assert said_to(own.rest, "stop", room) == FAILED_STOP
    own.database.execute("UPDATE sessions SET due_at = clock_timestamp() WHERE room_name = %s", [room])
    eventually(lambda: has_ended(own.rest, room), 40)
    ended = "SELECT count(*) FROM sessions WHERE created_by = %s AND ends_at IS NOT NULL"
    assert own.database.execute(ended, [owner]).fetchone() == (0,)
    own.database.execute("DELETE FROM sessions WHERE created_by = %s", [owner])


def test_a_stop_is_finished_though_many_rooms_cannot_be_removed(own: Own) -> None:
    own.daily.fault("status", "DELETE", "/rooms/*", status=500, times=None)
    owner = insert_stuck(own, f"SELECT 'ended', now(), {LONG_AGO}, now(), now(), NULL::timestamptz")
    room = own.rest.recording()["roomName"]
    own.daily.fault("status", "POST", STOP.format(room), status=503, times=4)
    assert said_to(own.rest, "stop", room) == FAILED_STOP
    eventually_ended(own.rest, own.database, room)
    own.database.execute("DELETE FROM sessions WHERE created_by = %s", [owner])


def test_a_recording_is_recognised_behind_many_events_of_recordings_that_nobody_knows(own: Own) -> None:
    secret = own.stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]
    for number in range(30):
        payload = {"recording_id": f"unknown-{number}", "instance_id": str(uuid4()), "start_ts": int(time.time())}
        body = json.dumps(event("recording.started", payload)).encode()
        signed = {"X-Webhook-Timestamp": "1", "X-Webhook-Signature": signature(secret, "1", body)}
        assert own.rest.call("POST", PATH, content=body, headers=signed).status_code == 200
    room = own.rest.create()["roomName"]
    theirs = own.daily.press_record(room)
    eventually(lambda: [one["recordingId"] for one in entries(own.rest, room)] == [theirs["id"]])


def test_events_of_a_room_are_applied_behind_hundreds_of_a_room_that_somebody_has_locked(own: Own) -> None:
    busy, room = (own.rest.create()["roomName"] for _ in range(2))
    with psycopg.connect(own.stack.database_url) as idle:
        idle.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [busy])
        own.database.execute(
            "INSERT INTO daily_events (digest, id, type, room_name, body, due_at)"
            " SELECT sha256(number::text::bytea), 'x', 'x', %s, '{}', now() - interval '1 h'"
            " FROM generate_series(1, 1500) AS number",
            [busy],
        )
        theirs = own.daily.press_record(room)
        eventually(lambda: [one["recordingId"] for one in entries(own.rest, room)] == [theirs["id"]])
        own.daily.press_stop(room)
        eventually(lambda: [one["status"] for one in entries(own.rest, room)] == ["completed"])


def test_events_of_a_room_are_applied_beside_one_of_which_somebody_has_locked_a_row(own: Own) -> None:
    session, room = own.rest.recording(), own.rest.create()["roomName"]
    with psycopg.connect(own.stack.database_url) as idle:
        idle.execute("SELECT FROM recordings WHERE recording_id = %s FOR UPDATE", [session["recordingId"]])
        own.daily.end_recording(session["recordingId"])
        eventually(lambda: waiting_for_locks(own.stack))
        theirs = own.daily.press_record(room)
        eventually(
            lambda: [one["recordingId"] for one in entries(own.rest, room)] == [theirs["id"]], 6
        )  # PostgreSQL waits 8 s
    eventually(lambda: [one["status"] for one in entries(own.rest, session["roomName"])] == ["completed"])
