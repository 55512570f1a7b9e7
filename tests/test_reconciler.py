"""Sessions and recordings come to their end whatever was lost: what the reconciler finds and sets right."""

import uuid

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.passes import at_daily, at_end, entry, reconcile

ME = "reconciled-instructor"
pytestmark = pytest.mark.usefixtures("nothing_told")


@pytest.fixture
def nothing_told(daily: DailyControl, strays: object) -> None:
    """While a test runs, Daily tells nothing of recordings: what comes out is found by asking."""
    for type in ("recording.started", "recording.ready-to-download", "recording.error"):
        daily.fault("webhook_drop", type=type, times=None)


@pytest.fixture(scope="module")
def strays(stack: Stack, rest: Rest) -> dict[str, str]:
    """Rooms in which Daily records what nobody wants. They come first: a stray is left alone for as long as it could be
    the work of a call."""
    rooms = {}
    for name in ("nobody asked", "beside ours"):
        rooms[name] = rest.create(ME)["roomName"] if name == "nobody asked" else rest.recording(ME)["roomName"]
        at_daily(stack, "POST", f"/v1/rooms/{rooms[name]}/recordings/start")
    for name, instance in (("start failed", str(uuid.uuid4())), ("failed and told", str(uuid.uuid4()))):
        session = rest.create(ME)
        rooms[name] = session["roomName"]
        with psycopg.connect(stack.database_url, autocommit=True) as database:
            database.execute(
                "INSERT INTO recordings (id, session_id, made_live, status, settled_at, failure_reason)"
                " VALUES (%s, %s, false, 'failed', now(), 'Daily never started the recording')",
                [instance, session["_id"]],
            )
        if name == "start failed":
            at_daily(stack, "POST", "/sandbox/faults", fault="webhook_drop", type="recording.started")
        at_daily(stack, "POST", f"/v1/rooms/{rooms[name]}/recordings/start", instanceId=instance)
    eventually(lambda: entry(rest, ME, rooms["failed and told"]).get("recordingId"))
    return rooms


# What Daily did not tell


def test_a_file_of_which_no_event_came_is_found(stack: Stack, rest: Rest, daily: DailyControl) -> None:
    room = rest.recording(ME)["roomName"]
    rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    stored = at_end(daily, room)
    reconcile(stack, room)
    told = entry(rest, ME, room)
    assert (told["status"], told["s3Key"], told["duration"]) == ("completed", stored["s3key"], stored["duration"])


def test_a_recording_that_daily_ended_is_completed_and_its_session_lives_on(
    stack: Stack, rest: Rest, daily: DailyControl
) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    at_daily(stack, "POST", f"/sandbox/recordings/{session['recordingId']}/end")
    stored = at_end(daily, room)
    reconcile(stack, room)
    assert (entry(rest, ME, room)["status"], entry(rest, ME, room)["duration"]) == ("completed", stored["duration"])
    assert rest.get(room)["status"] == "live"

    stopped = rest.call("POST", f"/sessions/{room}/stop-recording", ME).json()
    assert (stopped["recordingId"], stopped["duration"]) == (session["recordingId"], stored["duration"])
    assert rest.get(room)["status"] == "ended"


def test_a_recording_that_daily_cancelled_has_failed(stack: Stack, rest: Rest, daily: DailyControl) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    at_daily(stack, "POST", f"/sandbox/recordings/{session['recordingId']}/fail")
    at_end(daily, room, "canceled")
    reconcile(stack, room)
    told = entry(rest, ME, room)
    assert (told["status"], told["failureReason"]) == ("failed", "Daily cancelled the recording")


def test_a_recording_that_daily_has_not_known_for_a_minute_has_failed(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    at_daily(stack, "DELETE", f"/v1/recordings/{session['recordingId']}")
    reconcile(stack, room)
    assert entry(rest, ME, room)["status"] == "processing"

    database.execute(
        "UPDATE recordings SET created_at = now() - interval '61 s' WHERE session_id = %s", [session["_id"]]
    )
    reconcile(stack, room)
    told = entry(rest, ME, room)
    assert (told["status"], told["failureReason"]) == ("failed", "Daily does not know the recording")


def test_a_recording_that_daily_will_not_speak_of_keeps_no_other_waiting(
    stack: Stack, rest: Rest, daily: DailyControl
) -> None:
    mute, room = rest.recording(ME), rest.recording(ME)["roomName"]
    at_daily(stack, "DELETE", f"/v1/recordings/{mute['recordingId']}")
    daily.fault("status", "GET", f"/recordings/{mute['recordingId']}", status=403, times=None)
    rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    stored = at_end(daily, room)
    reconcile(stack, room)
    assert entry(rest, ME, room)["s3Key"] == stored["s3key"]


def test_a_stopped_recording_that_daily_still_runs_is_stopped_again(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    session = rest.recording(ME)
    database.execute(
        "UPDATE recordings SET status = 'completed', duration = 5, stopped_at = now() - interval '1 min'"
        " WHERE session_id = %s",
        [session["_id"]],
    )
    reconcile(stack, session["roomName"])
    assert at_end(daily, session["roomName"])["id"] == session["recordingId"]


def test_a_recording_without_a_file_a_day_after_its_stop_has_failed(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    session = rest.recording(ME)
    database.execute(
        "UPDATE recordings SET status = 'completed', duration = 5, stopped_at = now() - interval '25 h'"
        " WHERE session_id = %s",
        [session["_id"]],
    )
    reconcile(stack, session["roomName"])
    told = entry(rest, ME, session["roomName"])
    assert (told["status"], told["failureReason"]) == ("failed", "Daily stored no file")


# What nobody asked for


@pytest.mark.parametrize("name", ["nobody asked", "beside ours", "start failed", "failed and told"])
def test_a_recording_that_nobody_wants_is_stopped(
    rest: Rest, daily: DailyControl, strays: dict[str, str], name: str
) -> None:
    stray = at_end(daily, strays[name], seconds=40)  # by the stack's own leader
    assert stray["duration"] >= 10
    if name == "beside ours":
        assert entry(rest, ME, strays[name])["status"] == "processing"


def test_a_start_that_came_about_after_it_had_failed_is_completed_in_the_end(
    stack: Stack, rest: Rest, daily: DailyControl, strays: dict[str, str]
) -> None:
    room = strays["failed and told"]
    stored = at_end(daily, room, seconds=40)
    reconcile(stack, room)
    told = entry(rest, ME, room)
    assert (told["status"], told["s3Key"], told["duration"]) == ("completed", stored["s3key"], stored["duration"])
    assert "failureReason" not in told
