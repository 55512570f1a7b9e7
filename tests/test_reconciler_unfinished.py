"""What a crash left half done is finished by the reconciler, as soon as nobody works on it any more."""

import uuid

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.passes import at_daily, at_end, entry, reconcile

ME = "unfinished-instructor"


@pytest.fixture
def start_untold(daily: DailyControl) -> None:
    daily.fault("webhook_drop", type="recording.started", times=None)


def unconfirmed(rest: Rest, database: psycopg.Connection, age: str) -> tuple[str, str]:
    """A room whose start of a recording was committed so long ago and never confirmed, and the recording's own id."""
    session = rest.create(ME)
    database.execute("UPDATE sessions SET status = 'live' WHERE id = %s", [session["_id"]])
    row = database.execute(
        "INSERT INTO recordings (session_id, made_live, lease_until, created_at)"
        " VALUES (%s, true, now() + '1 hour', now() - %s::interval) RETURNING id",
        [session["_id"], age],
    ).fetchone()
    assert row is not None
    return session["roomName"], str(row[0])


def give_up(database: psycopg.Connection, id: str, ago: str = "1 s") -> None:
    """The process that worked on the start is gone."""
    database.execute("UPDATE recordings SET lease_until = now() - %s::interval WHERE id = %s", [ago, id])


@pytest.mark.usefixtures("start_untold")
def test_an_unconfirmed_start_is_adopted_when_daily_runs_it(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room, id = unconfirmed(rest, database, age="0 s")
    at_daily(stack, "POST", f"/v1/rooms/{room}/recordings/start", instanceId=id)
    give_up(database, id)
    reconcile(stack, room)
    [running] = daily.recordings(room)
    assert (entry(rest, ME, room)["recordingId"], entry(rest, ME, room)["status"]) == (running["id"], "processing")
    assert rest.get(room)["status"] == "live"


@pytest.mark.usefixtures("start_untold")
def test_a_start_that_is_adopted_after_the_session_ended_is_asked_to_stop(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    room, id = unconfirmed(rest, database, age="0 s")
    at_daily(stack, "POST", f"/v1/rooms/{room}/recordings/start", instanceId=id)
    database.execute("UPDATE sessions SET status = 'ended', ends_at = now() WHERE room_name = %s", [room])
    give_up(database, id)
    reconcile(stack, room)
    row = database.execute("SELECT stop_requested_at IS NOT NULL FROM recordings WHERE id = %s", [id]).fetchone()
    assert row == (True,)


def test_an_unconfirmed_start_that_daily_never_saw_has_failed_and_the_session_is_scheduled(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    room, id = unconfirmed(rest, database, age="1 min")
    give_up(database, id, ago="1 s")  # what was asked last may yet have its effect
    reconcile(stack, room)
    assert entry(rest, ME, room)["status"] == "processing"

    give_up(database, id, ago="7 s")
    reconcile(stack, room)
    told = entry(rest, ME, room)
    assert (told["status"], told["failureReason"]) == ("failed", "Daily never started the recording")
    assert rest.get(room)["status"] == "scheduled"


def test_a_start_that_somebody_still_works_on_is_left_alone(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    room, _ = unconfirmed(rest, database, age="1 min")
    reconcile(stack, room)
    assert (entry(rest, ME, room)["status"], rest.get(room)["status"]) == ("processing", "live")


def test_an_unfinished_stop_is_finished(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    database.execute(
        "UPDATE recordings SET stop_requested_at = now() - interval '1 min' WHERE session_id = %s", [session["_id"]]
    )
    reconcile(stack, room)
    assert (entry(rest, ME, room)["status"], rest.get(room)["status"]) == ("completed", "ended")
    assert at_end(daily, room)["id"] == session["recordingId"]


def test_an_unfinished_delete_is_finished(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording(ME)["roomName"]
    database.execute("UPDATE sessions SET delete_requested_at = now() - interval '1 min' WHERE room_name = %s", [room])
    reconcile(stack, room)
    assert (entry(rest, ME, room)["status"], rest.get(room)["status"]) == ("completed", "ended")
    assert room not in daily.rooms()


def test_a_create_that_was_given_up_is_taken_back(
    stack: Stack, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = f"abandoned-{uuid.uuid4()}"
    at_daily(stack, "POST", "/v1/rooms", name=room)
    database.execute(
        "INSERT INTO sessions (course_id, room_name, starts_at, created_by, lease_until)"
        " VALUES ('c', %s, now(), 'ada', now() - interval '1 hour')",
        [room],
    )
    reconcile(stack, room)
    gone = "SELECT count(*) FROM sessions WHERE room_name = %s"
    eventually(lambda: database.execute(gone, [room]).fetchone() == (0,) and room not in daily.rooms())
