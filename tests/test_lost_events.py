"""A room of which no event has told is closed like any other, and a chore's failures are counted since it was done."""

import time

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


def test_a_recording_that_is_told_of_makes_its_session_live_though_its_joins_were_lost(
    rest: Rest, daily: DailyControl
) -> None:
    room = rest.create("untold")["roomName"]
    for type in ("meeting.started", "participant.joined"):
        daily.fault("webhook_drop", type=type, room=room)
    token = rest.call("POST", f"/sessions/{room}/token", "untold").json()["token"]
    pressed = daily.press_record(room, daily.join(room, token)["session_id"])
    eventually(lambda: rest.get(room)["status"] == "live")
    started = rest.call("POST", f"/sessions/{room}/start-recording", "untold").json()
    assert started["recordingId"] == pressed["id"]


def test_what_was_recorded_just_before_the_end_is_found_when_daily_lists_it(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.settings(listing_lag=3.0)
    session = rest.create("untold")
    room = session["roomName"]
    daily.fault("webhook_drop", room=room, times=None)
    token = rest.call("POST", f"/sessions/{room}/token", "untold").json()["token"]
    inside = daily.join(room, token)["session_id"]
    made = "UPDATE sessions SET room_created_at = now() - interval '1 h' WHERE id = %s"
    database.execute(made, [session["_id"]])
    pressed = daily.press_record(room, inside)
    assert rest.call("DELETE", f"/sessions/{room}", "untold").status_code == 200
    rows = "SELECT recording_id FROM recordings WHERE session_id = %s"
    eventually(lambda: database.execute(rows, [session["_id"]]).fetchall() == [(pressed["id"],)])


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


def test_a_stay_that_began_and_ended_within_one_second_is_closed_though_its_leave_was_lost(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    """Daily's records have whole seconds: the meeting seems to have ended before somebody came."""
    daily.settings(min_stay=10.0)
    session = rest.create("untold")
    room = session["roomName"]
    for type in ("participant.left", "meeting.ended"):
        daily.fault("webhook_drop", type=type, room=room)
    token = rest.call("POST", f"/sessions/{room}/token", "untold").json()["token"]
    eventually(lambda: 0.1 < time.time() % 1 < 0.5)
    daily.leave(room, daily.join(room, token)["session_id"])
    told = """
    UPDATE meetings SET due_at = clock_timestamp() WHERE session_id = %s AND EXISTS (
        SELECT FROM connections WHERE connections.session_id = meetings.session_id
    )
    """
    eventually(lambda: database.execute(told, [session["_id"]]).rowcount == 1)
    compared = "SELECT FROM meetings WHERE session_id = %s AND compared_at IS NOT NULL"
    eventually(lambda: database.execute(compared, [session["_id"]]).rowcount == 1)
    closed = "SELECT polled_left_at IS NOT NULL FROM connections WHERE session_id = %s"
    assert database.execute(closed, [session["_id"]]).fetchall() == [(True,)]
