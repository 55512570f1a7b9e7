"""The end of a class that was asked for comes, whatever else happens to its recording."""

import psycopg
import pytest

from tests.clients import DailyControl, Rest, eventually
from tests.faults.steps import (
    ENDED,
    FAILED_STOP,
    OF_ROOM,
    STOP,
    call,
    enter,
    entries,
    eventually_ended,
    has_ended,
    is_completed,
    make_due,
    refuse_after_a_lost_answer,
    running,
    said_to,
    stays,
)

FAILED_DELETE = (500, {"error": "Failed to delete session"})


@pytest.fixture
def forgettable(rest: Rest, daily: DailyControl) -> str:
    """A room whose stop was asked for and not confirmed, and whose recording is completed by Daily's own event."""
    room = str(rest.recording()["roomName"])
    refuse_after_a_lost_answer(daily, room)
    assert said_to(rest, "stop", room) == FAILED_STOP
    eventually(lambda: is_completed(rest, room))
    return room


def test_a_stop_is_not_forgotten_when_daily_tells_of_the_file_before_its_outcome_is_committed(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, forgettable: str
) -> None:
    daily.clear_faults()
    eventually_ended(rest, database, forgettable)
    asked = database.execute("SELECT end_requested_at = ends_at FROM sessions WHERE room_name = %s", [forgettable])
    assert asked.fetchone() == (True,)
    assert [one["status"] for one in daily.recordings(forgettable)] == ["finished"]


def test_nothing_begins_in_a_session_whose_stop_is_pending(rest: Rest, daily: DailyControl, forgettable: str) -> None:
    assert said_to(rest, "start", forgettable) == ENDED
    assert said_to(rest, "token", forgettable, "sam", "student") == ENDED
    assert len(daily.recordings(forgettable)) == 1


def test_a_stop_that_is_repeated_ends_the_session_though_its_recording_was_over(
    rest: Rest, daily: DailyControl, forgettable: str
) -> None:
    daily.clear_faults()
    answer = call(rest, "stop", forgettable)
    assert answer.status_code == 200
    assert answer.json() == call(rest, "stop", forgettable).json()
    assert has_ended(rest, forgettable)


def test_a_stop_is_not_forgotten_when_daily_tells_that_the_recording_failed(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.recording()
    room = session["roomName"]
    daily.fault("status", "POST", STOP.format(room), status=503, times=None)
    assert said_to(rest, "stop", room) == FAILED_STOP
    daily.fail_recording(session["recordingId"])
    eventually(lambda: [one["status"] for one in entries(rest, room)] == ["failed"])
    daily.clear_faults()
    eventually_ended(rest, database, room)


def test_a_stop_is_not_forgotten_when_daily_ends_the_recording_by_itself(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.recording()
    room = session["roomName"]
    daily.fault("status", "POST", STOP.format(room), status=503, times=None)
    assert said_to(rest, "stop", room) == FAILED_STOP
    daily.end_recording(session["recordingId"])
    eventually(lambda: is_completed(rest, room))
    daily.clear_faults()
    eventually_ended(rest, database, room)


def test_a_delete_is_not_forgotten_when_everybody_leaves_and_the_recording_is_over_before_its_outcome_is_committed(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording()["roomName"]
    sam = enter(rest, daily, room, "sam")
    refuse_after_a_lost_answer(daily, room)
    daily.fault("status", "DELETE", f"/rooms/{room}", status=503, times=None)
    assert said_to(rest, "delete", room) == FAILED_DELETE
    daily.leave(room, sam["session_id"])
    eventually(lambda: is_completed(rest, room) and stays(rest, room)["sam"][1])
    daily.clear_faults()
    eventually_ended(rest, database, room)
    make_due(database, room)
    eventually(lambda: room not in daily.rooms())


def test_what_daily_records_on_though_it_said_that_there_was_nothing_to_stop_is_stopped(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    """A stop is over when Daily shows that it is, not when one was answered."""
    room = rest.recording()["roomName"]
    daily.fault("status", "POST", STOP.format(room), status=400, times=2)
    assert call(rest, "stop", room).status_code == 200
    assert len(running(daily, room)) == 1
    database.execute(f"UPDATE recordings SET stopped_at = stopped_at - interval '2 min' WHERE {OF_ROOM}", [room])
    make_due(database, room)
    eventually(lambda: running(daily, room) == [])
