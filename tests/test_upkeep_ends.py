"""What a crash left half done is finished by upkeep, as soon as nobody works on it any more."""

import uuid
from datetime import datetime

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.due import at_daily, at_end, becomes, entry, is_due

ME = "unfinished-instructor"


@pytest.fixture
def start_untold(daily: DailyControl) -> None:
    daily.fault("webhook_drop", type="recording.started", times=None)


def unconfirmed(rest: Rest, database: psycopg.Connection, age: str = "0 s", due: str = "1 hour") -> tuple[str, str]:
    """A room whose start of a recording was committed so long ago and never confirmed, and the recording's own id."""
    session, id = rest.create(ME), str(uuid.uuid4())
    database.execute("UPDATE sessions SET status = 'live', live_at = now() WHERE id = %s", [session["_id"]])
    database.execute(
        "INSERT INTO recordings (id, instance_id, session_id, made_live, created_at, due_at)"
        " VALUES (%s, %s, %s, true, now() - %s::interval, clock_timestamp() + %s::interval)",
        [id, id, session["_id"], age, due],
    )
    return session["roomName"], id


def ask_to_end(database: psycopg.Connection, room: str, *, at_once: bool = False) -> datetime:
    """As a call did a minute ago, whose process is gone; when that was."""
    closes_at = "clock_timestamp()" if at_once else "clock_timestamp() + interval '5 min'"
    query = (
        "UPDATE sessions SET end_requested_at = now() - interval '1 min', due_at = clock_timestamp(),"
        f" closes_at = {closes_at} WHERE room_name = %s RETURNING end_requested_at"
    )
    row = database.execute(query, [room]).fetchone()
    assert row is not None
    return row[0]


# Starts


@pytest.mark.usefixtures("start_untold")
def test_an_unconfirmed_start_is_adopted_when_daily_runs_it(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room, id = unconfirmed(rest, database)
    at_daily(stack, "POST", f"/v1/rooms/{room}/recordings/start", instanceId=id)
    is_due(database, "recordings", room)
    eventually(lambda: entry(rest, ME, room)["recordingId"])
    [running] = daily.recordings(room)
    assert (entry(rest, ME, room)["recordingId"], entry(rest, ME, room)["status"]) == (running["id"], "processing")
    assert rest.get(room)["status"] == "live"


def test_an_unconfirmed_start_that_daily_never_saw_is_gone_on_with(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room, id = unconfirmed(rest, database)
    is_due(database, "recordings", room)
    eventually(lambda: entry(rest, ME, room)["recordingId"])
    [running] = daily.recordings(room)
    found = entry(rest, ME, room)
    assert (found["_id"], found["recordingId"], found["status"]) == (id, running["id"], "processing")


def test_a_start_that_did_not_come_about_in_two_minutes_has_failed_and_the_session_is_scheduled(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room, _ = unconfirmed(rest, database, age="121 s")
    is_due(database, "recordings", room)
    assert becomes(rest, ME, room, "failed")["failureReason"] == "Daily never started the recording"
    assert rest.get(room)["status"] == "scheduled"
    assert daily.recordings(room) == []


def test_a_start_that_somebody_still_works_on_is_left_alone(rest: Rest, database: psycopg.Connection) -> None:
    room, _ = unconfirmed(rest, database, age="121 s", due="20 s")
    other, _ = unconfirmed(rest, database, age="121 s", due="0 s")
    becomes(rest, ME, other, "failed")
    assert (entry(rest, ME, room)["status"], rest.get(room)["status"]) == ("processing", "live")


# Ends


def test_an_unfinished_stop_is_finished_as_of_when_it_was_asked_for(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    asked_at = ask_to_end(database, room)
    ended = eventually(lambda: one if (one := rest.get(room))["status"] == "ended" else {})
    assert datetime.fromisoformat(ended["endsAt"]) == asked_at
    assert entry(rest, ME, room)["status"] == "completed"
    assert at_end(daily, room)["id"] == session["recordingId"]
    assert room in daily.rooms()


@pytest.mark.usefixtures("start_untold")
def test_a_start_that_was_under_way_is_stopped_with_the_session_that_is_to_end(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room, id = unconfirmed(rest, database)
    at_daily(stack, "POST", f"/v1/rooms/{room}/recordings/start", instanceId=id)
    ask_to_end(database, room)
    is_due(database, "recordings", room)
    eventually(lambda: rest.get(room)["status"] == "ended")
    assert at_end(daily, room)
    assert (entry(rest, ME, room)["status"], entry(rest, ME, room)["failureReason"]) == ("failed", "The session ended")


def test_an_unfinished_delete_is_finished(rest: Rest, daily: DailyControl, database: psycopg.Connection) -> None:
    room = rest.recording(ME)["roomName"]
    ask_to_end(database, room, at_once=True)
    eventually(lambda: rest.get(room)["status"] == "ended" and room not in daily.rooms())
    assert entry(rest, ME, room)["status"] == "completed"


def test_after_its_closing_time_a_stopped_session_has_no_room_and_nobody_in_it(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording(ME)["roomName"]
    token = rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"]
    daily.join(room, token)
    assert rest.call("POST", f"/sessions/{room}/stop-recording", ME).status_code == 200
    assert room in daily.rooms()
    is_due(database, "sessions", room)
    eventually(lambda: room not in daily.rooms())
    assert [stay for stay in daily.of_room(room)["connections"] if stay["left_at"] is None] == []


def test_a_create_that_was_given_up_is_taken_back(
    stack: Stack, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = f"abandoned-{uuid.uuid4()}"
    at_daily(stack, "POST", "/v1/rooms", name=room)
    database.execute(
        "INSERT INTO sessions (course_id, room_name, starts_at, created_by, due_at)"
        " VALUES ('c', %s, now(), 'ada', clock_timestamp())",
        [room],
    )
    gone = "SELECT count(*) FROM sessions WHERE room_name = %s"
    eventually(lambda: database.execute(gone, [room]).fetchone() == (0,) and room not in daily.rooms())
