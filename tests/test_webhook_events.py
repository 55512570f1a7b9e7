"""What each of Daily's events changes, in the rows and as REST tells it."""

import uuid
from typing import Any

import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import Rest
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
    row = database.execute(
        "INSERT INTO recordings (session_id, made_live, lease_until) VALUES (%s, true, now() + '1 hour') RETURNING id",
        [session["_id"]],
    ).fetchone()
    assert row is not None
    return session["roomName"], str(row[0])


# Meetings


def test_a_meeting_that_starts_makes_the_session_live(rest: Rest, webhook: Webhook, room: str) -> None:
    webhook.send("meeting.started", {"start_ts": CLASS, "meeting_id": str(uuid.uuid4()), "room": room})
    session = rest.get(room)
    assert (session["status"], session["endsAt"]) == ("live", None)


@pytest.mark.parametrize("type", ["meeting.started", "participant.joined", "participant.left", "meeting.ended"])
def test_a_session_that_has_ended_stays_ended(rest: Rest, webhook: Webhook, room: str, type: str) -> None:
    ended = rest.call("DELETE", f"/sessions/{room}", ME).json()
    webhook.send(type, stay(room))
    assert rest.get(room) == ended


def test_a_meeting_that_ends_closes_the_stays_that_are_open_and_no_others(
    rest: Rest, webhook: Webhook, room: str
) -> None:
    webhook.send("participant.joined", stay(room, user_id="open"))
    webhook.send("participant.left", stay(room, user_id="gone", duration=10.5))
    webhook.send("participant.joined", stay(room, user_id="next", joined_at=CLASS + 61))
    webhook.send("meeting.ended", {"start_ts": CLASS, "end_ts": CLASS + 60.25, "meeting_id": "1", "room": room})
    assert people(rest, room) == [
        ("open", "student", iso(CLASS), iso(CLASS + 60.25)),
        ("gone", "student", iso(CLASS), iso(CLASS + 10.5)),
        ("next", "student", iso(CLASS + 61), None),
    ]
    assert rest.get(room)["status"] == "live"


def test_a_meeting_that_ends_without_its_time_ended_when_the_event_was_told(
    rest: Rest, webhook: Webhook, room: str
) -> None:
    webhook.send("participant.joined", stay(room))
    webhook.send("meeting.ended", {"room": room}, at=CLASS + 7.125)
    assert people(rest, room) == [("sam", "student", iso(CLASS), iso(CLASS + 7.125))]


# Participants


@pytest.mark.parametrize(("owner", "role"), [(True, "instructor"), (False, "student")])
def test_somebody_who_joins_is_a_participant_and_the_session_live(
    rest: Rest, webhook: Webhook, room: str, owner: bool, role: str
) -> None:
    webhook.send("participant.joined", stay(room, owner=owner, joined_at=CLASS + 0.123))
    assert people(rest, room) == [("sam", role, iso(CLASS + 0.123), None)]
    assert rest.get(room)["status"] == "live"


def test_somebody_who_leaves_left_when_the_stay_was_over(rest: Rest, webhook: Webhook, room: str) -> None:
    one = stay(room)
    webhook.send("participant.joined", one)
    webhook.send("participant.left", one | {"duration": 61.457}, at=CLASS + 99)
    assert people(rest, room) == [("sam", "student", iso(CLASS), iso(CLASS + 61.457))]


def test_the_same_join_under_another_event_id_is_one_stay(
    rest: Rest, webhook: Webhook, room: str, database: psycopg.Connection
) -> None:
    one = stay(room)
    for _ in range(2):
        webhook.send("participant.joined", one)
    stays = database.execute("SELECT joined_at, left_at FROM connections WHERE id = %s", [one["session_id"]]).fetchall()
    assert len(stays) == 1
    webhook.send("participant.left", one | {"duration": 5})
    assert people(rest, room) == [("sam", "student", iso(CLASS), iso(CLASS + 5))]


def test_a_join_and_a_leave_of_ids_alone_happened_when_they_were_told(rest: Rest, webhook: Webhook, room: str) -> None:
    bare = {"room": room, "session_id": str(uuid.uuid4())}
    webhook.send("participant.joined", bare, at=CLASS + 1)
    webhook.send("participant.left", bare, at=CLASS + 2)
    assert people(rest, room) == [(bare["session_id"], "student", iso(CLASS + 1), iso(CLASS + 2))]


# Recordings


def test_a_recording_that_starts_is_known_by_dailys_id(
    rest: Rest, webhook: Webhook, database: psycopg.Connection
) -> None:
    room, instance = starting(rest, database)
    id = str(uuid.uuid4())
    webhook.send("recording.started", {"instance_id": instance, "recording_id": id, "start_ts": int(CLASS)})
    row = database.execute("SELECT started_at FROM recordings WHERE id = %s", [instance]).fetchone()
    assert row is not None
    assert row[0].timestamp() == CLASS
    assert (entry(rest, room)["recordingId"], entry(rest, room)["status"]) == (id, "processing")


def test_a_recording_started_by_somebody_else_changes_nothing(rest: Rest, webhook: Webhook) -> None:
    for instance in (str(uuid.uuid4()), "c3df927c-f738-4471-a2b7-066fa7e95a6b", None, "no uuid"):
        kept = webhook.kept(webhook.send("recording.started", {"instance_id": instance, "recording_id": "theirs"}))
        assert kept is not None
        assert kept["applied"]


def test_a_stored_recording_has_its_key_and_dailys_duration(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    room, id = session["roomName"], session["recordingId"]
    ready = {"recording_id": id, "room_name": room, "status": "finished", "max_participants": 2, "tracks": []}
    webhook.send("recording.ready-to-download", ready | {"start_ts": int(CLASS), "duration": 3600.9, "s3_key": "a/b/1"})
    told = entry(rest, room)
    assert (told["status"], told["duration"], told["s3Key"]) == ("completed", 3600, "a/b/1")
    assert told["recordingId"] == id
    assert rest.get(room)["status"] == "live"


def test_a_stored_recording_keeps_the_time_at_which_it_was_stopped(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    stopped = rest.call("POST", f"/sessions/{room}/stop-recording", ME).json()
    ready = {"recording_id": session["recordingId"], "room_name": room, "start_ts": int(CLASS), "duration": 9}
    webhook.send("recording.ready-to-download", ready)
    told = rest.call("GET", f"/sessions/{room}/recording", ME).json()
    assert told["stoppedAt"] == stopped["stoppedAt"]


def test_a_stored_recording_of_ids_alone_is_completed(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    webhook.send("recording.ready-to-download", {"recording_id": session["recordingId"]}, at=CLASS + 1)
    told = entry(rest, session["roomName"])
    assert told["status"] == "completed"
    assert told.keys().isdisjoint({"duration", "s3Key", "failureReason"})


def test_a_recording_that_fails_says_why(rest: Rest, webhook: Webhook, database: psycopg.Connection) -> None:
    session = rest.recording(ME)
    room, our_id = session["roomName"], entry(rest, session["roomName"])["_id"]
    error = {"action": "cloud-recording-err", "error_msg": "disk full", "instance_id": our_id, "room_name": room}
    webhook.send("recording.error", error | {"timestamp": str(int(CLASS))})
    assert (entry(rest, room)["status"], entry(rest, room)["failureReason"]) == ("failed", "disk full")
    told = rest.call("GET", f"/sessions/{room}/recording", ME).json()
    assert (told["recordingId"], told["status"]) == (session["recordingId"], "failed")
    assert told.keys().isdisjoint({"downloadLink", "accessLink", "duration"})


def test_a_recording_that_fails_without_a_reason_has_one_all_the_same(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    webhook.send("recording.error", {"instance_id": entry(rest, session["roomName"])["_id"]})
    assert entry(rest, session["roomName"])["failureReason"] == "Daily reported an error"


def test_a_file_that_comes_after_a_failure_outweighs_it(rest: Rest, webhook: Webhook) -> None:
    session = rest.recording(ME)
    room = session["roomName"]
    webhook.send("recording.error", {"instance_id": entry(rest, room)["_id"], "error_msg": "hiccup"})
    webhook.send("recording.ready-to-download", {"recording_id": session["recordingId"], "duration": 4})
    told = entry(rest, room)
    assert (told["status"], told["duration"]) == ("completed", 4)
    assert "failureReason" not in told


def test_a_file_of_a_recording_that_is_not_known_yet_waits_for_its_start(
    rest: Rest, webhook: Webhook, database: psycopg.Connection
) -> None:
    room, instance = starting(rest, database)
    id = str(uuid.uuid4())
    early = webhook.send("recording.ready-to-download", {"recording_id": id, "room_name": room, "duration": 5})
    kept = webhook.kept(early)
    assert kept is not None
    assert kept["error"] == "NotYet('no recording of this session has that id')"
    webhook.send("recording.started", {"instance_id": instance, "recording_id": id, "start_ts": int(CLASS)})
    assert entry(rest, room)["recordingId"] == id
