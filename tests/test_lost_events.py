"""A room of which no event has told is closed like any other, and a chore's failures are counted since it was done."""

import psycopg

from tests.clients import DailyControl, Rest, eventually


def test_what_was_recorded_in_a_room_of_which_no_event_told_is_a_recording_of_its_session(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.create("untold")
    room = session["roomName"]
    daily.fault("webhook_drop", room=room, times=None)
    token = rest.call("POST", f"/sessions/{room}/token", "untold").json()["token"]
    pressed = daily.press_record(room, daily.join(room, token)["session_id"])
    assert rest.call("DELETE", f"/sessions/{room}", "untold").status_code == 200
    rows = "SELECT recording_id FROM recordings WHERE session_id = %s"
    assert database.execute(rows, [session["_id"]]).fetchall() == [(pressed["id"],)]
    assert [one["end_ts"] for one in daily.recordings(room)] != [None]


def test_nobody_comes_back_into_a_room_of_which_no_event_told_while_it_is_closed(
    rest: Rest, daily: DailyControl
) -> None:
    session = rest.create("untold")
    room = session["roomName"]
    daily.fault("webhook_drop", room=room, times=None)
    token = rest.call("POST", f"/sessions/{room}/token", "untold").json()["token"]
    daily.join(room, token)
    before = daily.calls("POST /rooms/:name")
    assert rest.call("DELETE", f"/sessions/{room}", "untold").status_code == 200
    assert daily.calls("POST /rooms/:name") == before + 1  # which locks its door


def test_the_failures_of_a_chore_are_counted_since_it_was_last_done(
    stack: object, database: psycopg.Connection
) -> None:
    database.execute("UPDATE chores SET attempts = 9, due_at = clock_timestamp() WHERE id = 'webhook'")
    count = "SELECT attempts FROM chores WHERE id = 'webhook'"
    eventually(lambda: database.execute(count).fetchone() == (0,))


def test_a_recording_that_daily_does_not_list_yet_is_stopped_before_its_room_is_removed(
    rest: Rest, daily: DailyControl
) -> None:
    daily.settings(listing_lag=60.0)
    session = rest.recording("late-button")
    room = session["roomName"]
    token = rest.call("POST", f"/sessions/{room}/token", "late-button").json()["token"]
    inside = daily.join(room, token)["session_id"]
    assert rest.call("POST", f"/sessions/{room}/stop-recording", "late-button").status_code == 200
    daily.press_record(room, inside)
    assert rest.call("DELETE", f"/sessions/{room}", "late-button").status_code == 200
    assert [one["end_ts"] is None for one in daily.recordings(room)] == [False, False]


def test_whom_neither_an_event_nor_presence_tells_is_put_out_of_a_room_that_is_closed(
    rest: Rest, daily: DailyControl
) -> None:
    daily.settings(presence_lag=20.0)
    room = rest.create("untold")["roomName"]
    daily.fault("webhook_drop", room=room, times=None)
    token = rest.call("POST", f"/sessions/{room}/token", "sam", role="student").json()["token"]
    daily.join(room, token)
    assert rest.call("DELETE", f"/sessions/{room}", "untold").status_code == 200
    assert [stay["left_at"] is None for stay in daily.of_room(room)["connections"]] == [False]
