"""Callers who do the same at the same moment, and transactions that stand in each other's way: nobody sees an error."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.clients import at_once, eventually, waiting_for_locks
from tests.faults.steps import OF_ROOM, Own, call, enter, has_ended, own_stack, stays

LONG_ID = "student-with-an-id-that-is-longer-than-daily-takes-it"


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """Three servers on one database."""
    with own_stack(workers=3) as running:
        yield running


@pytest.mark.parametrize("user", ["sam", LONG_ID])
def test_a_double_click_on_join_is_answered_twice_with_several_processes(own: Own, user: str) -> None:
    for _ in range(10):
        room = own.rest.create()["roomName"]
        answers = at_once(*[lambda room=room: call(own.rest, "token", room, user, "student")] * 6)
        assert [answer.status_code for answer in answers] == [200] * 6
        assert list(stays(own.rest, room)) == [user]


def test_a_class_that_joins_at_once_and_clicks_twice_is_answered(own: Own) -> None:
    room = own.rest.create()["roomName"]
    users = [f"user-{number // 2}" for number in range(120)]
    with ThreadPoolExecutor(30) as threads:
        answers = list(threads.map(lambda user: call(own.rest, "token", room, user, "student").status_code, users))
    assert answers == [200] * len(users)
    assert len(stays(own.rest, room)) == 60


def test_a_join_that_daily_tells_of_beside_the_click_is_one_participant(own: Own) -> None:
    room = own.rest.create()["roomName"]
    token = call(own.rest, "token", room, "sam", "student").json()["token"]
    at_once(
        lambda: own.daily.join(room, token),
        lambda: own.daily.join(room, token),
        *[lambda: call(own.rest, "token", room, "sam", "instructor")] * 4,
    )
    eventually(lambda: stays(own.rest, room)["sam"][0])
    assert list(stays(own.rest, room)) == ["sam"]


def test_a_call_that_postgresql_picks_to_break_a_deadlock_is_answered_all_the_same(own: Own) -> None:
    """Somebody's psql holds the recording that the stop wants, and wants the session that the stop holds."""
    room = own.rest.recording()["roomName"]
    with psycopg.connect(own.stack.database_url) as psql:
        psql.execute("SET deadlock_timeout = '1 min'")
        psql.execute(f"SELECT FROM recordings WHERE {OF_ROOM} FOR UPDATE", [room])
        with ThreadPoolExecutor(1) as threads:
            stop = threads.submit(call, own.rest, "stop", room)
            eventually(lambda: waiting_for_locks(own.stack))
            psql.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [room])
            assert not has_ended(own.rest, room)
            psql.rollback()
            assert stop.result().status_code == 200
    assert has_ended(own.rest, room)
    logs = [server.log.read_text() for server in own.stack.servers]
    assert sum("Traceback" in log for log in logs) == 0


def test_two_stops_and_a_delete_at_once_are_all_answered(own: Own) -> None:
    room = own.rest.recording()["roomName"]
    enter(own.rest, own.daily, room, "sam")
    answers = at_once(*[lambda verb=verb: call(own.rest, verb, room) for verb in ("stop", "stop", "delete")])
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == answers[1].json()
    assert room not in own.daily.rooms()


def test_starts_at_once_with_several_processes_make_one_recording(own: Own) -> None:
    room = own.rest.create()["roomName"]
    answers = at_once(*[lambda: call(own.rest, "start", room)] * 6)
    [at_daily] = own.daily.recordings(room)
    assert [(answer.status_code, answer.json()["recordingId"]) for answer in answers] == [(200, at_daily["id"])] * 6
