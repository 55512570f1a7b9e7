"""Calls that meet: whoever comes first, the end is one that each of them could have been told of."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import EXAMPLE, DailyControl, Rest, at_once, eventually, said, waiting_for_locks

ROUNDS = range(3)
ENDED = (400, {"message": "Session has ended"})
NOBODY = (400, {"message": "Recording cannot start until someone has joined the session"})
NOT_STARTED = (500, {"error": "Failed to start session recording"})
NOT_RECORDED = (404, {"message": "This session has not been recorded"})

HOLD_SESSION = "SELECT 1 FROM sessions WHERE room_name = %s FOR UPDATE"
HOLD_RECORDING = """
SELECT 1 FROM recordings JOIN sessions ON sessions.id = session_id WHERE room_name = %s FOR UPDATE OF recordings
"""


class Class:
    """A session of Ada's, and the calls that she makes on it."""

    def __init__(self, rest: Rest, daily: DailyControl) -> None:
        self._rest, self._daily = rest, daily
        self.name: str = rest.create("race-ada")["roomName"]

    def start(self) -> httpx.Response:
        return self._rest.call("POST", f"/sessions/{self.name}/start-recording", "race-ada")

    def stop(self) -> httpx.Response:
        return self._rest.call("POST", f"/sessions/{self.name}/stop-recording", "race-ada")

    def delete(self) -> httpx.Response:
        return self._rest.call("DELETE", f"/sessions/{self.name}", "race-ada")

    def token(self) -> httpx.Response:
        return self._rest.call("POST", f"/sessions/{self.name}/token", "race-sam", "student")

    @property
    def status(self) -> str:
        return str(self._rest.get(self.name)["status"])

    @property
    def rows(self) -> list[str]:
        """The statuses of its recordings."""
        listed = self._rest.call("GET", f"/sessions/{self.name}/recordings", "race-ada").json()
        return [recording["status"] for recording in listed]

    def recordings_at_daily(self) -> list[str]:
        return [recording["status"] for recording in self._daily.recordings(self.name)]

    def is_gone(self) -> bool:
        """It has ended, nothing is recorded, and there is no room."""
        at_rest = {"processing"}.isdisjoint(self.rows) and {"in-progress"}.isdisjoint(self.recordings_at_daily())
        return self.status == "ended" and at_rest and self.name not in self._daily.rooms()


@pytest.fixture
def new_class(rest: Rest, daily: DailyControl) -> Callable[[], Class]:
    return lambda: Class(rest, daily)


@pytest.mark.parametrize("_", ROUNDS)
def test_two_starts_at_once_get_the_same_recording(new_class: Callable[[], Class], _: int) -> None:
    it = new_class()
    first, second = at_once(it.start, it.start)
    assert first.status_code == 200
    assert said(first) == said(second)
    assert it.recordings_at_daily() == ["in-progress"]


@pytest.mark.parametrize("_", ROUNDS)
def test_two_stops_at_once_get_the_same_answer(new_class: Callable[[], Class], _: int) -> None:
    it = new_class()
    started = it.start().json()
    first, second = at_once(it.stop, it.stop)
    assert (first.status_code, first.json()["recordingId"]) == (200, started["recordingId"])
    assert said(first) == said(second)
    assert (it.status, it.rows) == ("ended", ["completed"])


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("_", ROUNDS)
def test_two_deletes_at_once_get_the_same_session(new_class: Callable[[], Class], recorded: bool, _: int) -> None:
    it = new_class()
    if recorded:
        it.start()
    first, second = at_once(it.delete, it.delete)
    assert (first.status_code, first.json()["status"]) == (200, "ended")
    assert said(first) == said(second)
    eventually(it.is_gone)


@pytest.mark.parametrize("_", ROUNDS)
def test_a_start_against_a_delete_leaves_nothing_running(new_class: Callable[[], Class], _: int) -> None:
    it = new_class()
    started, deleted = at_once(it.start, it.delete)
    assert (deleted.status_code, deleted.json()["status"]) == (200, "ended")
    assert started.status_code == 200 or said(started) in (ENDED, NOT_STARTED)
    eventually(it.is_gone)


def test_a_delete_before_daily_has_started_the_recording_wins(
    new_class: Callable[[], Class], daily: DailyControl
) -> None:
    it = new_class()
    daily.fault("delay", "POST", f"/rooms/{it.name}/recordings/start", seconds=1)
    with ThreadPoolExecutor() as threads:
        started = threads.submit(it.start)
        eventually(lambda: it.status == "live")
        deleted = it.delete()
    assert (deleted.status_code, deleted.json()["status"]) == (200, "ended")
    assert said(started.result()) == ENDED
    eventually(it.is_gone)
    assert it.rows == ["completed"]


def test_a_delete_before_the_start_is_confirmed_wins(
    new_class: Callable[[], Class], daily: DailyControl, stack: Stack, database: psycopg.Connection
) -> None:
    it = new_class()
    daily.fault("webhook_drop", type="recording.started")  # which would confirm it too
    daily.fault("delay", "POST", f"/rooms/{it.name}/recordings/start", seconds=1.5)
    with ThreadPoolExecutor() as threads:
        start = threads.submit(it.start)
        eventually(lambda: it.status == "live")
        with database.transaction():
            database.execute(HOLD_SESSION, [it.name])
            delete = threads.submit(it.delete)
            eventually(lambda: len(waiting_for_locks(stack)) == 1)
            eventually(lambda: len(waiting_for_locks(stack)) == 2)  # the start's confirmation, behind the delete
        assert (delete.result().status_code, delete.result().json()["status"]) == (200, "ended")
        assert said(start.result()) == ENDED
    assert it.rows == ["completed"]
    eventually(it.is_gone)


def test_a_stop_before_daily_has_started_the_recording_waits_and_stops_it(
    new_class: Callable[[], Class], daily: DailyControl
) -> None:
    it = new_class()
    daily.fault("delay", "POST", f"/rooms/{it.name}/recordings/start", seconds=1)
    with ThreadPoolExecutor() as threads:
        start = threads.submit(it.start)
        eventually(lambda: it.status == "live")
        stopped, started = it.stop(), start.result()
    assert (stopped.status_code, said(started)) == (200, ENDED)
    assert (it.status, it.rows) == ("ended", ["completed"])
    eventually(lambda: [one["id"] for one in daily.recordings(it.name)] == [stopped.json()["recordingId"]])
    eventually(lambda: it.recordings_at_daily() == ["finished"])


@pytest.mark.parametrize("_", ROUNDS)
def test_a_stop_against_a_start_stops_it_or_comes_before_it(new_class: Callable[[], Class], _: int) -> None:
    it = new_class()
    stopped, started = at_once(it.stop, it.start)
    if said(stopped) == NOT_RECORDED and started.status_code == 200:
        assert (it.status, it.recordings_at_daily()) == ("live", ["in-progress"])
        return
    assert said(started) == ENDED
    assert it.status == "ended"
    if said(stopped) == NOT_RECORDED:  # it came before Daily was asked
        assert (it.rows, it.recordings_at_daily()) == (["failed"], [])
    else:
        assert (stopped.status_code, it.rows) == (200, ["completed"])
        eventually(lambda: it.recordings_at_daily() == ["finished"])


@pytest.mark.parametrize("_", ROUNDS)
def test_a_stop_against_a_delete_completes_the_recording_once(new_class: Callable[[], Class], _: int) -> None:
    it = new_class()
    recording = it.start().json()["recordingId"]
    stopped, deleted = at_once(it.stop, it.delete)
    assert (stopped.status_code, stopped.json()["recordingId"]) == (200, recording)
    assert (deleted.status_code, deleted.json()["status"]) == (200, "ended")
    assert it.rows == ["completed"]
    eventually(it.is_gone)
    assert said(it.stop()) == said(stopped)


@pytest.mark.parametrize("_", ROUNDS)
def test_a_token_against_a_delete_is_issued_before_it_or_refused(new_class: Callable[[], Class], _: int) -> None:
    it = new_class()
    issued, deleted = at_once(it.token, it.delete)
    assert deleted.status_code == 200
    assert issued.status_code == 200 or said(issued) == ENDED
    assert said(it.token()) == ENDED
    assert it.is_gone()


def test_no_token_waits_for_a_stop_that_is_being_committed(
    new_class: Callable[[], Class], stack: Stack, database: psycopg.Connection
) -> None:
    it, another = new_class(), new_class()
    it.start()
    with ThreadPoolExecutor() as threads:
        with database.transaction():
            database.execute(HOLD_RECORDING, [it.name])
            stop = threads.submit(it.stop)  # it has locked the session and waits for the recording
            eventually(lambda: waiting_for_locks(stack))
            answers = [said(answer) for answer in at_once(*[it.token, another.token] * 5)]
            assert not stop.done()
        assert stop.result().status_code == 200
    assert answers[::2] == [ENDED] * 5
    assert [status for status, _ in answers[1::2]] == [200] * 5


def test_fifty_tokens_at_once_for_one_user_make_one_participant(new_class: Callable[[], Class], rest: Rest) -> None:
    it = new_class()
    answers = at_once(*[it.token] * 50)
    assert {answer.status_code for answer in answers} == {200}
    [participant] = rest.call("GET", f"/sessions/{it.name}/participants", "race-ada").json()
    assert participant["userId"] == "race-sam"


def test_every_create_of_a_storm_makes_its_own_session_and_room(rest: Rest, daily: DailyControl) -> None:
    before = daily.rooms()
    storm = [lambda: rest.call("POST", "/sessions", "storm-ada", json=EXAMPLE)] * 50
    answers = at_once(*storm)
    assert [answer.status_code for answer in answers] == [201] * 50
    names = {answer.json()["roomName"] for answer in answers}
    assert len(names) == 50
    assert daily.rooms() - before == names
    assert {session["roomName"] for session in rest.call("GET", "/sessions/instructor/storm-ada").json()} == names


def test_of_many_calls_on_one_session_each_gets_a_documented_answer(new_class: Callable[[], Class]) -> None:
    it = new_class()
    answers = at_once(*[it.start, it.stop, it.token, it.delete] * 4)
    starts, stops, tokens, deletes = (answers[i::4] for i in range(4))
    assert {answer.status_code for answer in deletes} == {200}
    assert len({answer.text for answer in deletes}) == 1
    assert all(answer.status_code == 200 or said(answer) == ENDED for answer in tokens)
    assert all(answer.status_code == 200 or said(answer) in (ENDED, NOT_STARTED) for answer in starts)
    assert all(answer.status_code == 200 or said(answer) == NOT_RECORDED for answer in stops)
    assert len({answer.json()["recordingId"] for answer in [*starts, *stops] if answer.status_code == 200}) <= 1
    eventually(it.is_gone)


def test_a_start_whose_recording_failed_before_it_was_confirmed_is_not_acknowledged(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    lesson = Class(rest, daily)
    daily.fault("delay", "GET", "/recordings", seconds=1, times=3)  # upkeep may take some
    with ThreadPoolExecutor(1) as threads:
        start = threads.submit(lesson.start)
        eventually(lambda: daily.recordings(lesson.name))
        fail = (
            "UPDATE recordings SET status = 'failed' WHERE session_id = (SELECT id FROM sessions WHERE room_name = %s)"
        )
        database.execute(fail, [lesson.name])
        assert said(start.result()) == NOT_STARTED
