"""Times are Daily's, or those of the request; no clock of a server of ours decides what is done, or when."""

import ast
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.events import PATH, event, signature
from tests.faults.steps import (
    FAILED_STOP,
    OF_ROOM,
    STOP,
    call,
    enter,
    entries,
    eventually_ended,
    is_completed,
    refuse_after_a_lost_answer,
    said_to,
    stays,
)


def asked_at(database: psycopg.Connection, room: str) -> str:
    """When the end was asked for."""
    row = database.execute("SELECT end_requested_at FROM sessions WHERE room_name = %s", [room]).fetchone()
    assert row is not None
    return str(row[0].astimezone(UTC).isoformat(timespec="milliseconds")).replace("+00:00", "Z")


def seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "not-told"])
def test_a_stop_that_is_finished_late_has_the_times_of_daily_or_of_the_request(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, is_told: bool
) -> None:
    room = rest.recording()["roomName"]
    if not is_told:
        daily.fault("webhook_drop", type="recording.ready-to-download", room=room)
    refuse_after_a_lost_answer(daily, room)
    assert said_to(rest, "stop", room) == FAILED_STOP
    [at_daily] = eventually(lambda: [one for one in daily.recordings(room) if one["status"] == "finished"])
    if is_told:
        eventually(lambda: is_completed(rest, room))
    daily.clear_faults()
    make_late(database, room)
    eventually_ended(rest, database, room)
    stopped, told = said_to(rest, "stop", room)[1], said_to(rest, "recording", room)[1]
    start = int(at_daily["start_ts"])
    assert rest.get(room)["endsAt"] == asked_at(database, room)
    assert told["stoppedAt"] == stopped["stoppedAt"] == iso(start + at_daily["duration"])
    assert told["duration"] == stopped["duration"] == at_daily["duration"]
    assert told["startedAt"] == iso(start)


def make_late(database: psycopg.Connection, room: str) -> None:
    """As if the stop had been asked for a minute and a half ago, and Daily had recorded until then."""
    late = "- interval '90 s'"
    database.execute(f"UPDATE sessions SET end_requested_at = end_requested_at {late} WHERE room_name = %s", [room])


def test_a_stop_and_what_is_shown_of_the_recording_afterwards_say_the_same(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording()["roomName"]
    stopped = call(rest, "stop", room).json()
    assert stopped["stoppedAt"] == asked_at(database, room) == rest.get(room)["endsAt"]
    eventually(lambda: said_to(rest, "recording", room)[1]["status"] == "finished")
    told = said_to(rest, "recording", room)[1]
    assert (told["stoppedAt"], told["duration"]) == (stopped["stoppedAt"], stopped["duration"])
    assert told["duration"] == int(seconds_between(told["startedAt"], told["stoppedAt"]))
    assert call(rest, "stop", room).json() == stopped


def test_who_joins_after_the_end_was_not_in_the_class(rest: Rest, daily: DailyControl) -> None:
    room = rest.recording()["roomName"]
    eve = call(rest, "token", room, "eve", "student").json()["token"]
    sam = enter(rest, daily, room, "sam")
    eventually(lambda: stays(rest, room)["sam"][0])
    assert call(rest, "stop", room).status_code == 200
    late = daily.join(room, eve)
    daily.leave(room, late["session_id"])
    daily.leave(room, sam["session_id"])
    eventually(lambda: stays(rest, room)["sam"][1])
    assert stays(rest, room)["eve"] == (None, None)
    assert stays(rest, room)["sam"][0] <= rest.get(room)["endsAt"]


@pytest.mark.parametrize("ahead", [-600, 600], ids=["behind", "ahead"])
def test_a_caller_whose_token_was_signed_by_a_clock_that_differs_from_ours_is_let_in(
    stack: Stack, rest: Rest, http: httpx.Client, ahead: int
) -> None:
    room = rest.create()["roomName"]
    issued = datetime.now(UTC) + timedelta(seconds=ahead)
    claims = {"id": "sam", "name": "Sam", "role": "student", "iat": issued, "exp": issued + timedelta(hours=1)}
    token = jwt.encode(claims, stack.environment["LIVE_SESSIONS_JWT_SECRET"], algorithm="HS256")
    answer = http.post(f"/sessions/{room}/token", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("ahead", [-600, 600], ids=["behind", "ahead"])
def test_daily_s_events_are_taken_though_its_clock_differs_from_ours(
    stack: Stack, rest: Rest, http: httpx.Client, ahead: int
) -> None:
    room = rest.create()["roomName"]
    moment = round(time.time() + ahead, 3)
    payload = {"room": room, "user_id": "sam", "session_id": f"clock-{moment}", "joined_at": moment, "owner": False}
    body = json.dumps(event("participant.joined", payload, at=moment)).encode()
    secret, stamp = stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"], str(int(moment))
    signed = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": signature(secret, stamp, body)}
    assert http.post(PATH, content=body, headers=signed | {"Content-Type": "application/json"}).status_code == 200
    eventually(lambda: stays(rest, room).get("sam") == (iso(moment), None))


@pytest.mark.parametrize("ahead", [-600, 600], ids=["behind", "ahead"])
def test_a_stop_of_a_recording_whose_times_are_by_another_clock_is_not_repeated(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, ahead: int
) -> None:
    """One server's clock once decided that a stop was old, and asked again after a second."""
    room = rest.create()["roomName"]
    daily.odd("recording", room=room, set={"start_ts": int(time.time()) + ahead})
    assert call(rest, "start", room).status_code == 200
    before = daily.calls("POST /rooms/:name/recordings/stop")
    daily.settings(processing_seconds=3)
    assert call(rest, "stop", room).status_code == 200
    database.execute(f"UPDATE recordings SET due_at = clock_timestamp() WHERE {OF_ROOM}", [room])
    eventually(lambda: entries(rest, room)[0].get("s3Key"))
    assert is_completed(rest, room)
    assert daily.calls("POST /rooms/:name/recordings/stop") - before == 1


def test_no_clock_of_a_server_decides_when_something_is_due(repository: Path) -> None:
    """What is due is so by PostgreSQL's clock; a server's own tells only when a token expires that it signs, how long a
    link is good where Daily does not say what time it is, when a message was sent, a state told or an event late, and
    whether it differs from PostgreSQL's."""
    readers = set()
    for path in [*repository.glob("server/**/*.py"), *repository.glob("storage/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
                readers.add(str(path.relative_to(repository)))
    assert readers == {
        "server/daily/tokens.py",
        "server/daily/client.py",
        "server/receiver.py",
        "server/usecases/room_events.py",
        "server/usecases/watching.py",
        "server/readiness.py",
    }


CLOCKS = {"time.time", "datetime.now", "datetime.utcnow", "datetime.today", "datetime.datetime.now", "time.time_ns"}


def test_an_end_that_was_asked_for_long_ago_or_ahead_of_time_is_finished(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    for shift in ("- interval '10 min'", "+ interval '10 min'"):
        room = rest.recording()["roomName"]
        daily.fault("status", "POST", STOP.format(room), status=503, times=4)
        assert said_to(rest, "stop", room) == FAILED_STOP
        database.execute(
            f"UPDATE sessions SET end_requested_at = end_requested_at {shift} WHERE room_name = %s", [room]
        )
        database.execute(f"UPDATE recordings SET created_at = created_at {shift} WHERE {OF_ROOM}", [room])
        eventually_ended(rest, database, room)
