"""What each of Daily's events changes, in the rows and as REST tells it."""

import uuid
from datetime import datetime
from typing import Any

import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from server.upkeep.inbox import PATIENT
from tests.clients import DailyControl, Rest
from tests.events import CLASS, Webhook

ME = "events-instructor"


@pytest.fixture
def webhook(stack: Stack, rest: Rest, database: psycopg.Connection) -> Webhook:
    return Webhook(stack, rest, database)


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


def stay(room: str, **fields: object) -> dict[str, Any]:
    """The payload of a join: somebody's new stay in the room, from the class's first second."""
    return {
        "room": room,
        "session_id": str(uuid.uuid4()),
        "user_id": "sam",
        "user_name": "Sam",
        "joined_at": CLASS,
        "will_eject_at": None,
        "owner": False,
        "permissions": {"hasPresence": True, "canSend": True, "canAdmin": False},
    } | fields


def meeting(room: str) -> dict[str, Any]:
    return {"meeting_id": str(uuid.uuid4()), "room": room}


def people(rest: Rest, room: str) -> list[tuple[str, str, str | None, str | None]]:
    """User, role, and the times of joining and leaving."""
    told = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return [(one["userId"], one["role"], one.get("joinedAt"), one.get("leftAt")) for one in told]


def entry(rest: Rest, room: str) -> dict[str, Any]:
    """The one recording of the session."""
    [one] = rest.call("GET", f"/sessions/{room}/recordings", ME).json()
    return dict(one)


def starting(rest: Rest, database: psycopg.Connection) -> tuple[str, str]:
    """A room whose recording was asked for and not confirmed yet, and our id of that recording."""
    session = rest.create(ME)
    id = str(uuid.uuid4())
    database.execute(
        "INSERT INTO recordings (id, instance_id, session_id, made_live, due_at)"
        " VALUES (%s, %s, %s, true, now() + '1 hour')",
        [id, id, session["_id"]],
    )
    return session["roomName"], id


# Meetings


def test_a_meeting_that_starts_makes_the_session_live(rest: Rest, webhook: Webhook, room: str) -> None:
    webhook.tell("meeting.started", {"start_ts": CLASS} | meeting(room))
    session = rest.get(room)
    assert (session["status"], session["endsAt"]) == ("live", None)


@pytest.mark.parametrize("type", ["meeting.started", "participant.joined", "participant.left", "meeting.ended"])
def test_a_session_that_has_ended_stays_ended(rest: Rest, webhook: Webhook, room: str, type: str) -> None:
    ended = rest.call("DELETE", f"/sessions/{room}", ME).json()
    webhook.tell(type, stay(room, meeting_id=str(uuid.uuid4())))
    assert rest.get(room) == ended


def test_a_meeting_that_ends_closes_the_stays_that_are_open_and_no_others(
    rest: Rest, webhook: Webhook, room: str
) -> None:
    webhook.tell("participant.joined", stay(room, user_id="open"))
    webhook.tell("participant.left", stay(room, user_id="gone", duration=10.5))
    webhook.tell("participant.joined", stay(room, user_id="next", joined_at=CLASS + 61))
    webhook.tell("meeting.ended", {"start_ts": CLASS, "end_ts": CLASS + 60.25} | meeting(room))
    assert people(rest, room) == [
        ("open", "student", iso(CLASS), iso(CLASS + 60.25)),
        ("gone", "student", iso(CLASS), iso(CLASS + 10.5)),
        ("next", "student", iso(CLASS + 61), None),
    ]
    assert rest.get(room)["status"] == "live"


def test_a_meeting_that_ends_without_its_time_ended_when_the_event_was_told(
    rest: Rest, webhook: Webhook, room: str
) -> None:
    webhook.tell("participant.joined", stay(room))
    webhook.tell("meeting.ended", meeting(room), at=CLASS + 7.125)
    assert people(rest, room) == [("sam", "student", iso(CLASS), iso(CLASS + 7.125))]


# Participants


@pytest.mark.parametrize(("owner", "role"), [(True, "instructor"), (False, "student")])
def test_somebody_who_joins_is_a_participant_and_the_session_live(
    rest: Rest, webhook: Webhook, room: str, owner: bool, role: str
) -> None:
    webhook.tell("participant.joined", stay(room, owner=owner, joined_at=CLASS + 0.123))
    assert people(rest, room) == [("sam", role, iso(CLASS + 0.123), None)]
    assert rest.get(room)["status"] == "live"


def test_somebody_who_leaves_left_when_the_stay_was_over(rest: Rest, webhook: Webhook, room: str) -> None:
    one = stay(room)
    webhook.tell("participant.joined", one)
    webhook.tell("participant.left", one | {"duration": 61.457}, at=CLASS + 99)
    assert people(rest, room) == [("sam", "student", iso(CLASS), iso(CLASS + 61.457))]


def test_the_same_join_under_another_event_id_is_one_stay(
    rest: Rest, webhook: Webhook, room: str, database: psycopg.Connection
) -> None:
    one = stay(room)
    for _ in range(2):
        webhook.tell("participant.joined", one)
    stays = database.execute("SELECT joined_at, left_at FROM connections WHERE id = %s", [one["session_id"]]).fetchall()
    assert len(stays) == 1
    webhook.tell("participant.left", one | {"duration": 5})
    assert people(rest, room) == [("sam", "student", iso(CLASS), iso(CLASS + 5))]


def test_a_join_and_a_leave_of_ids_alone_happened_when_they_were_told(rest: Rest, webhook: Webhook, room: str) -> None:
    bare = {"room": room, "session_id": str(uuid.uuid4())}
    webhook.tell("participant.joined", bare, at=CLASS + 1)
    webhook.tell("participant.left", bare, at=CLASS + 2)
    assert people(rest, room) == [(bare["session_id"], "student", iso(CLASS + 1), iso(CLASS + 2))]


# Recordings


def test_a_recording_that_starts_is_known_by_dailys_id(
    rest: Rest, webhook: Webhook, database: psycopg.Connection
) -> None:
    room, instance = starting(rest, database)
    id = str(uuid.uuid4())
    webhook.tell("recording.started", {"instance_id": instance, "recording_id": id, "start_ts": int(CLASS)})
    row = database.execute("SELECT started_at FROM recordings WHERE id = %s", [instance]).fetchone()
    assert row is not None
    assert row[0].timestamp() == CLASS
    assert (entry(rest, room)["recordingId"], entry(rest, room)["status"]) == (id, "processing")


def test_a_recording_in_a_room_of_another_application_changes_nothing(webhook: Webhook, daily: DailyControl) -> None:
    theirs = daily.others()["recording"]
    for instance in (str(uuid.uuid4()), "c3df927c-f738-4471-a2b7-066fa7e95a6b", None, "no uuid"):
        webhook.tell("recording.started", {"instance_id": instance, "recording_id": theirs})


def test_a_stored_recording_has_its_key_and_dailys_duration(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    room, id = session["roomName"], session["recordingId"]
    ready = {"recording_id": id, "room_name": room, "status": "finished", "max_participants": 2, "tracks": []}
    webhook.tell("recording.ready-to-download", ready | {"start_ts": int(CLASS), "duration": 3600.9, "s3_key": "a/b/1"})
    told = entry(rest, room)
    assert (told["status"], told["duration"], told["s3Key"]) == ("completed", 3600, "a/b/1")
    assert told["recordingId"] == id
    assert rest.get(room)["status"] == "live"


@pytest.mark.parametrize("differs_by", [4.9, -4.9, 0])
def test_a_stored_recording_keeps_the_times_that_were_told_when_it_was_stopped(
    rest: Rest, webhook: Webhook, daily: DailyControl, differs_by: float
) -> None:
    daily.fault("webhook_drop", type="recording.ready-to-download", times=None)
    session = rest.recording(ME)
    room = session["roomName"]
    stopped = rest.call("POST", f"/sessions/{room}/stop-recording", ME).json()
    end = datetime.fromisoformat(stopped["stoppedAt"]).timestamp() + differs_by
    ready = {"recording_id": session["recordingId"], "room_name": room, "start_ts": end - 9, "duration": 9}
    webhook.tell("recording.ready-to-download", ready)
    told = rest.call("GET", f"/sessions/{room}/recording", ME).json()
    assert (told["stoppedAt"], told["duration"]) == (stopped["stoppedAt"], stopped["duration"])


def test_a_stored_recording_that_ended_at_another_time_has_dailys(
    rest: Rest, webhook: Webhook, daily: DailyControl
) -> None:
    daily.fault("webhook_drop", type="recording.ready-to-download", times=None)
    session = rest.recording(ME)
    room = session["roomName"]
    rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    ready = {"recording_id": session["recordingId"], "room_name": room, "start_ts": int(CLASS), "duration": 9}
    webhook.tell("recording.ready-to-download", ready)
    told = rest.call("GET", f"/sessions/{room}/recording", ME).json()
    assert (told["startedAt"], told["stoppedAt"], told["duration"]) == (iso(CLASS), iso(CLASS + 9), 9)


def test_a_stored_recording_of_ids_alone_is_completed(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    ready = {"recording_id": session["recordingId"], "room_name": session["roomName"]}
    webhook.tell("recording.ready-to-download", ready, at=CLASS + 1)
    told = entry(rest, session["roomName"])
    assert told["status"] == "completed"
    assert told.keys().isdisjoint({"duration", "s3Key", "failureReason"})


def test_a_recording_that_fails_says_why(rest: Rest, webhook: Webhook, database: psycopg.Connection) -> None:
    session = rest.recording(ME)
    room, our_id = session["roomName"], entry(rest, session["roomName"])["_id"]
    error = {"action": "cloud-recording-err", "error_msg": "disk full", "instance_id": our_id, "room_name": room}
    webhook.tell("recording.error", error | {"timestamp": str(int(CLASS))})
    assert (entry(rest, room)["status"], entry(rest, room)["failureReason"]) == ("failed", "disk full")
    told = rest.call("GET", f"/sessions/{room}/recording", ME).json()
    assert (told["recordingId"], told["status"]) == (session["recordingId"], "failed")
    assert told.keys().isdisjoint({"downloadLink", "accessLink", "duration"})


def test_a_recording_that_fails_without_a_reason_has_one_all_the_same(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    webhook.tell("recording.error", {"instance_id": entry(rest, session["roomName"])["_id"]})
    assert entry(rest, session["roomName"])["failureReason"] == "Daily reported an error"


def test_a_file_that_comes_after_a_failure_outweighs_it(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    webhook.tell("recording.error", {"instance_id": entry(rest, room)["_id"], "error_msg": "hiccup"})
    ready = {"recording_id": session["recordingId"], "room_name": room, "duration": 4}
    webhook.tell("recording.ready-to-download", ready)
    told = entry(rest, room)
    assert (told["status"], told["duration"]) == ("completed", 4)
    assert "failureReason" not in told


def test_a_file_of_a_recording_that_is_not_known_yet_waits_for_its_start(
    rest: Rest, webhook: Webhook, database: psycopg.Connection
) -> None:
    room, instance = starting(rest, database)
    id = str(uuid.uuid4())
    early = webhook.send("recording.ready-to-download", {"recording_id": id, "room_name": room, "duration": 5})
    assert webhook.put_off(early)["error"] == "it waits for another event"
    webhook.tell("recording.started", {"instance_id": instance, "recording_id": id, "start_ts": int(CLASS)})
    assert webhook.done(early)["error"] is None
    told = entry(rest, room)
    assert (told["recordingId"], told["status"], told["duration"]) == (id, "completed", 5)


def test_a_start_that_is_told_after_its_file_leaves_the_recording_completed(
    rest: Rest, webhook: Webhook, database: psycopg.Connection
) -> None:
    room, instance = starting(rest, database)
    id = str(uuid.uuid4())
    ready = {"recording_id": id, "room_name": room, "start_ts": int(CLASS), "duration": 5, "s3_key": "a/b"}
    early = webhook.send("recording.ready-to-download", ready)
    webhook.put_off(early)
    no_patience = "UPDATE daily_events SET attempts = %s, due_at = clock_timestamp() WHERE id = %s"
    database.execute(no_patience, [PATIENT, early])
    assert webhook.done(early)["error"] is None

    webhook.tell("recording.started", {"instance_id": instance, "recording_id": id, "start_ts": int(CLASS)})
    told = entry(rest, room)
    assert (told["_id"], told["recordingId"]) == (instance, id)
    assert (told["status"], told["duration"], told["s3Key"]) == ("completed", 5, "a/b")
