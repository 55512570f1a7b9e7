"""Idempotency-Key: a create is safe to repeat, whatever became of the one before and of whoever sent it."""

import threading
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.clients import EXAMPLE, DailyControl, Rest, at_once, eventually
from tests.faults.steps import call

CREATES = "POST /rooms"
REUSED = (400, {"error": "Idempotency-Key was used before with another request"})
ENDED = (400, {"message": "Session has ended"})
FAILED = (500, {"error": "Failed to create session room"})


@pytest.fixture
def key() -> str:
    return str(uuid4())


def create(rest: Rest, key: str, **changes: Any) -> tuple[int, Any]:
    headers = {"Idempotency-Key": key}
    answer = rest.call("POST", "/sessions", f"owner-of-{key}", json=EXAMPLE | changes, headers=headers)
    return answer.status_code, answer.json()


def created(rest: Rest, key: str) -> list[str]:
    sessions = rest.call("GET", f"/sessions/instructor/owner-of-{key}").json()
    return [session["roomName"] for session in sessions]


def leave_under_way(rest: Rest, daily: DailyControl, key: str, seconds: float) -> None:
    """A create by somebody who goes away while Daily takes its time."""
    daily.fault("delay", "POST", "/rooms", seconds=seconds)
    before = daily.calls(CREATES)

    def ask() -> None:
        with suppress(httpx.HTTPError):
            headers = {"Idempotency-Key": key}
            rest.call("POST", "/sessions", f"owner-of-{key}", json=EXAMPLE, headers=headers, timeout=0.3)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: daily.calls(CREATES) > before)
    thread.join()


def test_a_create_whose_caller_has_gone_away_is_answered_when_it_is_repeated(
    rest: Rest, daily: DailyControl, key: str
) -> None:
    leave_under_way(rest, daily, key, seconds=2)
    before = daily.calls(CREATES)
    status, session = create(rest, key)
    assert (status, session["status"]) == (201, "scheduled")
    assert created(rest, key) == [session["roomName"]]
    assert session["roomName"] in daily.rooms()
    assert daily.calls(CREATES) == before  # it waited for the work that was under way


def test_a_create_whose_caller_has_gone_away_and_never_comes_back_is_finished(
    rest: Rest, daily: DailyControl, key: str
) -> None:
    leave_under_way(rest, daily, key, seconds=1)
    [room] = eventually(lambda: created(rest, key))
    assert room in daily.rooms()


def test_another_body_under_a_key_is_refused_at_once_and_takes_nothing(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, key: str
) -> None:
    leave_under_way(rest, daily, key, seconds=2)
    lease = "SELECT due_at FROM sessions WHERE idempotency_key = %s"
    before = database.execute(lease, [key]).fetchone()
    assert create(rest, key, courseId="another") == REUSED
    assert database.execute(lease, [key]).fetchone() == before
    assert created(rest, key) == []
    status, session = create(rest, key)
    assert (status, created(rest, key)) == (201, [session["roomName"]])


def test_another_body_under_the_key_of_a_create_that_failed_takes_nothing(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, key: str
) -> None:
    daily.fault("status", "POST", "/rooms", status=503, times=4)
    assert create(rest, key) == FAILED
    assert create(rest, key, maxParticipants=7) == REUSED
    before = daily.calls(CREATES)
    status, session = create(rest, key)
    assert (status, session["maxParticipants"], daily.calls(CREATES) - before) == (201, 50, 1)


def test_five_creates_at_once_under_one_key_make_one_session(rest: Rest, daily: DailyControl, key: str) -> None:
    daily.fault("delay", "POST", "/rooms", seconds=0.5)
    answers = at_once(*[lambda: create(rest, key)] * 5)
    assert [status for status, _ in answers] == [201] * 5
    assert len({session["roomName"] for _, session in answers}) == 1
    assert len(created(rest, key)) == 1


@pytest.mark.parametrize("end", ["delete", "stop"])
def test_a_key_used_again_after_its_session_has_ended_makes_no_session_and_says_so(
    rest: Rest, key: str, end: str
) -> None:
    _, session = create(rest, key)
    room = session["roomName"]
    if end == "stop":
        assert call(rest, "start", room, f"owner-of-{key}").status_code == 200
    assert call(rest, end, room, f"owner-of-{key}").status_code == 200
    assert create(rest, key) == ENDED
    assert created(rest, key) == [room]


def test_a_key_used_again_while_its_session_is_being_deleted_makes_no_session(
    rest: Rest, daily: DailyControl, key: str
) -> None:
    _, session = create(rest, key)
    daily.fault("status", "DELETE", f"/rooms/{session['roomName']}", status=503, times=4)
    assert call(rest, "delete", session["roomName"], f"owner-of-{key}").status_code == 500
    assert create(rest, key) == ENDED
