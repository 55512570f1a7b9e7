"""Recordings come to their end whatever Daily did not tell: what upkeep finds when it asks for one by its id."""

import uuid

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.due import at_daily, at_end, becomes, entry, is_due
from tests.events import Webhook

ME = "upkeep-instructor"
LOOK = "GET /recordings/:id"
pytestmark = pytest.mark.usefixtures("nothing_told")


@pytest.fixture
def nothing_told(daily: DailyControl) -> None:
    """While a test runs, Daily tells nothing of recordings: what comes out is found by asking."""
    for type in ("recording.started", "recording.ready-to-download", "recording.error"):
        daily.fault("webhook_drop", type=type, times=None)


@pytest.fixture
def recorded(rest: Rest) -> str:
    """The room of a session that is being recorded."""
    return str(rest.recording(ME)["roomName"])


def stop(rest: Rest, room: str) -> dict[str, object]:
    answer = rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def change(database: psycopg.Connection, room: str, change: str) -> None:
    query = f"UPDATE recordings SET {change} FROM sessions WHERE session_id = sessions.id AND room_name = %s"
    assert database.execute(query, [room]).rowcount == 1


def test_a_file_of_which_no_event_came_is_found(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    told = stop(rest, recorded)
    stored = at_end(daily, recorded)
    is_due(database, "recordings", recorded)
    found = eventually(lambda: one if "s3Key" in (one := entry(rest, ME, recorded)) else {})
    assert (found["status"], found["s3Key"], found["duration"]) == ("completed", stored["s3key"], told["duration"])


def test_a_recording_that_daily_ended_is_completed_and_its_session_lives_on(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    id = entry(rest, ME, recorded)["recordingId"]
    at_daily(stack, "POST", f"/sandbox/recordings/{id}/end")
    stored = at_end(daily, recorded)
    is_due(database, "recordings", recorded)
    assert becomes(rest, ME, recorded, "completed")["duration"] == stored["duration"]
    assert rest.get(recorded)["status"] == "live"

    stopped = stop(rest, recorded)
    assert (stopped["recordingId"], stopped["duration"]) == (id, stored["duration"])
    assert rest.get(recorded)["status"] == "ended"


def test_a_recording_that_daily_cancelled_has_failed(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    at_daily(stack, "POST", f"/sandbox/recordings/{entry(rest, ME, recorded)['recordingId']}/fail")
    at_end(daily, recorded, "canceled")
    is_due(database, "recordings", recorded)
    assert becomes(rest, ME, recorded, "failed")["failureReason"] == "Daily cancelled the recording"


def test_a_recording_that_daily_has_not_known_for_a_minute_has_failed(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    at_daily(stack, "DELETE", f"/v1/recordings/{entry(rest, ME, recorded)['recordingId']}")
    before = daily.calls(LOOK)
    is_due(database, "recordings", recorded)
    eventually(lambda: daily.calls(LOOK) > before)
    assert entry(rest, ME, recorded)["status"] == "processing"

    minute_ago = "now() - interval '61 s'"
    change(database, recorded, f"created_at = {minute_ago}, started_at = {minute_ago}, due_at = clock_timestamp()")
    assert becomes(rest, ME, recorded, "failed")["failureReason"] == "Daily does not know the recording"


def test_a_recording_that_daily_will_not_speak_of_keeps_no_other_waiting(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    mute = rest.recording(ME)
    daily.fault("status", "GET", f"/recordings/{mute['recordingId']}", status=403, times=None)
    is_due(database, "recordings", mute["roomName"])
    stop(rest, recorded)
    stored = at_end(daily, recorded)
    is_due(database, "recordings", recorded)
    eventually(lambda: entry(rest, ME, recorded).get("s3Key") == stored["s3key"])
    assert entry(rest, ME, mute["roomName"])["status"] == "processing"


def test_a_stopped_recording_that_daily_still_runs_is_stopped_again(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    stopped = "status = 'completed', duration = 5, stopped_at = now() - interval '61 s'"
    change(database, recorded, f"{stopped}, due_at = clock_timestamp()")
    assert at_end(daily, recorded)["id"] == entry(rest, ME, recorded)["recordingId"]


def test_a_recording_without_a_file_a_day_after_its_stop_has_failed(
    rest: Rest, database: psycopg.Connection, recorded: str
) -> None:
    stopped = "status = 'completed', duration = 5, stopped_at = now() - interval '25 h'"
    change(database, recorded, f"{stopped}, due_at = clock_timestamp()")
    assert becomes(rest, ME, recorded, "failed")["failureReason"] == "Daily stored no file"


# What comes about late, or was not asked for


def failed_start(rest: Rest, database: psycopg.Connection, room: str) -> str:
    """Our id of a start that was given up, under which Daily may record yet."""
    id = str(uuid.uuid4())
    database.execute(
        "INSERT INTO recordings (id, instance_id, session_id, made_live, status, settled_at, failure_reason)"
        " VALUES (%s, %s, %s, false, 'failed', now(), 'Daily never started the recording')",
        [id, id, rest.get(room)["_id"]],
    )
    return id


def begin_late(stack: Stack, daily: DailyControl, room: str, instance: str) -> str:
    """Daily records under an instance of ours after all, and tells so; its id there."""
    daily.clear_faults()
    before = {one["id"] for one in daily.recordings(room)}
    at_daily(stack, "POST", f"/v1/rooms/{room}/recordings/start", instanceId=instance)
    [begun] = [one["id"] for one in daily.recordings(room) if one["id"] not in before]
    return str(begun)


def test_a_start_that_comes_about_after_it_had_failed_is_a_recording_of_the_session(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = str(rest.create(ME)["roomName"])
    id = begin_late(stack, daily, room, failed_start(rest, database, room))
    found = becomes(rest, ME, room, "processing")
    assert found["recordingId"] == id
    assert "failureReason" not in found

    assert stop(rest, room)["recordingId"] == id
    assert at_end(daily, room)["id"] == id
    assert (entry(rest, ME, room)["status"], rest.get(room)["status"]) == ("completed", "ended")


def test_a_start_that_comes_about_late_beside_the_next_one_is_stopped_and_the_next_one_goes_on(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    daily.settings(streaming_instances=2)
    wanted = entry(rest, ME, recorded)["recordingId"]
    late = begin_late(stack, daily, recorded, failed_start(rest, database, recorded))
    assert at_end(daily, recorded)["id"] == late
    is_due(database, "recordings", recorded)
    statuses = lambda: {one["recordingId"]: one["status"] for one in listed(rest, recorded)}  # noqa: E731
    eventually(lambda: statuses() == {wanted: "processing", late: "completed"})
    assert {one["id"]: one["status"] for one in daily.recordings(recorded)} == {
        wanted: "in-progress",
        late: "finished",
    }


def test_a_second_recording_of_one_start_beside_the_next_start_is_stopped_and_the_next_one_goes_on(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, recorded: str
) -> None:
    daily.settings(streaming_instances=2)
    wanted = entry(rest, ME, recorded)["recordingId"]
    first = failed_start(rest, database, recorded)
    database.execute("UPDATE recordings SET recording_id = 'its first one' WHERE id = %s", [first])
    late = begin_late(stack, daily, recorded, first)
    assert at_end(daily, recorded)["id"] == late
    is_due(database, "recordings", recorded)
    statuses = lambda: {one["recordingId"]: one["status"] for one in listed(rest, recorded)}  # noqa: E731
    eventually(lambda: (statuses()[wanted], statuses()[late]) == ("processing", "completed"))


def test_a_late_recording_that_was_taken_for_the_next_starts_is_stopped_under_its_own_instance(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = str(rest.create(ME)["roomName"])
    earlier, later = failed_start(rest, database, room), failed_start(rest, database, room)
    late = at_daily(stack, "POST", f"/v1/rooms/{room}/recordings/start", instanceId=earlier)
    assert late.json()["status"] == "sent"
    [begun] = daily.recordings(room)
    taken = "status = 'processing', settled_at = NULL, failure_reason = NULL, started_at = now(), recording_id = %s"
    database.execute(f"UPDATE recordings SET {taken} WHERE id = %s", [begun["id"], later])

    told = {"recording_id": begun["id"], "instance_id": earlier, "start_ts": begun["start_ts"]}
    Webhook(stack, rest, database).tell("recording.started", told)
    rows = "SELECT id::text, status, instance_id::text FROM recordings WHERE recording_id = %s"
    assert database.execute(rows, [begun["id"]]).fetchall() == [(later, "processing", earlier)]
    before = daily.calls("POST /rooms/:name/recordings/stop")
    assert stop(rest, room)["recordingId"] == begun["id"]
    assert (at_end(daily, room)["id"], daily.calls("POST /rooms/:name/recordings/stop")) == (begun["id"], before + 1)


def listed(rest: Rest, room: str) -> list[dict[str, str]]:
    return list(rest.call("GET", f"/sessions/{room}/recordings", ME).json())


def test_a_recording_of_which_nothing_was_told_is_stopped_and_told_of_when_its_session_ends(
    rest: Rest, daily: DailyControl
) -> None:
    daily.fault("webhook_drop", times=None)
    room = str(rest.create(ME)["roomName"])
    daily.join(room, rest.call("POST", f"/sessions/{room}/token", ME).json()["token"])
    pressed = daily.press_record(room)
    assert rest.call("DELETE", f"/sessions/{room}", ME).status_code == 200
    assert at_end(daily, room)["id"] == pressed["id"]
    assert entry(rest, ME, room)["recordingId"] == pressed["id"]
    assert room not in daily.rooms()
