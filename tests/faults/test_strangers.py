"""Daily's own Record button, and other applications on the domain: what is a session's, and what is not ours."""

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.faults.steps import (
    call,
    enter,
    entries,
    eventually_ended,
    inside,
    make_chore_due,
    make_due,
    running,
    said_to,
    stays,
    warnings,
)

NOT_RECORDED = (404, {"message": "This session has not been recorded"})
STOPS = "POST /rooms/:name/recordings/stop"


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create()["roomName"])


@pytest.mark.parametrize("lag", [0, 2])
def test_a_start_beside_somebody_s_recording_gets_that_one_and_stop_stops_it(
    rest: Rest, daily: DailyControl, room: str, lag: int
) -> None:
    daily.settings(listing_lag=lag)
    ada = enter(rest, daily, room, "ada", "instructor")
    theirs = daily.press_record(room, ada["session_id"])
    assert said_to(rest, "start", room)[1]["recordingId"] == theirs["id"]
    status, stopped = said_to(rest, "stop", room)
    assert (status, stopped["recordingId"]) == (200, theirs["id"])
    assert (running(daily, room), rest.get(room)["status"]) == ([], "ended")
    eventually(lambda: [one["status"] for one in entries(rest, room) if one["recordingId"]] == ["completed"])


def test_a_start_beside_somebody_s_recording_that_no_event_told_of_gets_that_one_and_stop_stops_it(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    daily.fault("webhook_drop", type="recording.started")
    theirs = daily.press_record(room)
    assert said_to(rest, "start", room)[1]["recordingId"] == theirs["id"]
    assert call(rest, "stop", room).status_code == 200
    assert running(daily, room) == []


def test_a_session_in_which_somebody_records_is_being_recorded_where_daily_takes_two_at_once_too(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    daily.settings(streaming_instances=2)
    theirs = daily.press_record(room)
    eventually(lambda: [one["recordingId"] for one in entries(rest, room)] == [theirs["id"]])
    assert said_to(rest, "start", room)[1]["recordingId"] == theirs["id"]
    assert running(daily, room) == [theirs["id"]]


def test_stop_stops_what_somebody_records_beside_ours(rest: Rest, daily: DailyControl) -> None:
    daily.settings(streaming_instances=2)
    room = rest.recording()["roomName"]
    daily.press_record(room)
    eventually(lambda: len(entries(rest, room)) == 2)
    assert call(rest, "stop", room).status_code == 200
    assert running(daily, room) == []
    eventually(lambda: [one["status"] for one in entries(rest, room)] == ["completed"] * 2)


def test_a_start_is_not_answered_with_somebody_s_recording_that_is_listed_before_its_own(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    """Theirs runs and no event told of it; ours is listed late."""
    daily.settings(streaming_instances=2)
    daily.fault("webhook_drop", type="recording.started")
    theirs = daily.press_record(room)
    daily.settings(listing_lag=1)
    started = said_to(rest, "start", room)
    [ours] = [one["id"] for one in daily.recordings(room) if one["id"] != theirs["id"]]
    assert (started[0], started[1]["recordingId"]) == (200, ours)


def test_stop_stops_what_somebody_began_to_record_after_ours_was_over(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    ours = said_to(rest, "start", room)[1]["recordingId"]
    daily.end_recording(ours)
    daily.fault("webhook_drop", type="recording.started")
    daily.press_record(room)
    assert call(rest, "stop", room).status_code == 200
    assert running(daily, room) == []


def test_what_somebody_records_with_the_button_is_a_recording_of_the_session_and_is_not_cut(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    ada = enter(rest, daily, room, "ada", "instructor")
    theirs = daily.press_record(room, ada["session_id"])
    eventually(lambda: call(rest, "recording", room).status_code == 200)
    before = daily.calls(STOPS)
    make_due(database, room)
    eventually(lambda: not due(database, room))
    assert (running(daily, room), daily.calls(STOPS) - before) == ([theirs["id"]], 0)
    assert said_to(rest, "recording", room)[1]["recordingId"] == theirs["id"]
    daily.press_stop(room)
    eventually(lambda: said_to(rest, "recording", room)[1].get("downloadLink"))
    assert rest.get(room)["status"] == "live"


def due(database: psycopg.Connection, room: str) -> bool:
    """Whether a recording of the room waits to be looked at."""
    query = (
        "SELECT EXISTS (SELECT FROM recordings JOIN sessions ON sessions.id = session_id"
        " WHERE room_name = %s AND recordings.due_at <= clock_timestamp() + interval '30 s')"
    )
    row = database.execute(query, [room]).fetchone()
    assert row is not None
    return bool(row[0])


def test_what_somebody_recorded_with_the_button_is_known_by_its_file_when_no_event_told_of_its_start(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    daily.fault("webhook_drop", type="recording.started")
    theirs = daily.press_record(room)
    assert said_to(rest, "recording", room) == NOT_RECORDED
    daily.press_stop(room)
    eventually(lambda: call(rest, "recording", room).status_code == 200)
    assert said_to(rest, "recording", room)[1]["recordingId"] == theirs["id"]


def test_the_button_pressed_in_two_rooms_in_the_same_second_makes_two_recordings(
    rest: Rest, daily: DailyControl
) -> None:
    """Daily makes the ids of their events of the instance, which is the same in all rooms, and of the second."""
    rooms = [rest.create()["roomName"] for _ in range(6)]
    pressed = [daily.press_record(room)["id"] for room in rooms]
    for room, theirs in zip(rooms, pressed, strict=True):
        eventually(lambda room=room, theirs=theirs: [one["recordingId"] for one in entries(rest, room)] == [theirs])
    for room in rooms:
        daily.press_stop(room)
    for room in rooms:
        eventually(lambda room=room: [one["status"] for one in entries(rest, room)] == ["completed"])


def test_what_somebody_records_after_a_stop_is_stopped_when_the_session_is_looked_after(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.recording()
    room = session["roomName"]
    ada = enter(rest, daily, room, "ada", "instructor")
    assert call(rest, "stop", room).status_code == 200
    daily.press_record(room, ada["session_id"])
    eventually(lambda: len(entries(rest, room)) == 2)
    make_due(database, room)
    eventually(lambda: running(daily, room) == [])


def test_what_somebody_records_after_a_stop_and_no_event_tells_of_is_stopped_when_the_room_is_closed(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording()["roomName"]
    ada = enter(rest, daily, room, "ada", "instructor")
    assert call(rest, "stop", room).status_code == 200
    daily.fault("webhook_drop", type="recording.started")
    daily.press_record(room, ada["session_id"])
    make_due(database, room)
    eventually(lambda: room not in daily.rooms())
    assert (running(daily, room), inside(daily, room)) == ([], [])


def test_delete_stops_what_somebody_records_with_the_button(rest: Rest, daily: DailyControl, room: str) -> None:
    daily.fault("webhook_drop", type="recording.started")
    daily.press_record(room)
    assert call(rest, "delete", room).status_code == 200
    assert (running(daily, room), rest.get(room)["status"]) == ([], "ended")


def test_other_applications_rooms_calls_and_recordings_are_left_alone_and_no_warning_tells_of_them(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    logged = len(warnings(stack))
    theirs = daily.others(events=[{"type": "participant.joined", "id": "odd|id", "payload": {"room": "not ours"}}])
    room = rest.recording()["roomName"]
    make_chore_due(database, "meetings")
    assert call(rest, "stop", room).status_code == 200
    eventually(lambda: waiting_events(database) == 0)
    eventually(lambda: said_to(rest, "recording", room)[1].get("downloadLink"))
    assert running(daily, theirs["room"]) == [theirs["recording"]]
    assert len(inside(daily, theirs["room"])) == 2
    assert theirs["room"] in daily.rooms()
    assert stays(rest, room) == {}
    assert warnings(stack)[logged:] == []
    daily.press_stop(theirs["room"])


def waiting_events(database: psycopg.Connection) -> int:
    row = database.execute("SELECT count(*) FROM daily_events WHERE due_at IS NOT NULL").fetchone()
    assert row is not None
    return int(row[0])


def test_a_session_ends_though_another_application_s_recording_runs_in_a_room_beside_it(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    theirs = daily.others()
    room = rest.recording()["roomName"]
    assert call(rest, "stop", room).status_code == 200
    eventually_ended(rest, database, room)
    assert running(daily, theirs["room"]) == [theirs["recording"]]
    daily.press_stop(theirs["room"])
