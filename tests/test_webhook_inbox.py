"""Every event is kept once, and what cannot be applied is no failure: Daily would give up on us after three."""

import json
import uuid

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import Rest, eventually
from tests.events import CLASS, Webhook


@pytest.fixture
def webhook(stack: Stack, rest: Rest, database: psycopg.Connection) -> Webhook:
    return Webhook(stack, rest, database)


def test_an_event_that_comes_again_changes_nothing(webhook: Webhook, rest: Rest) -> None:
    session = rest.create("inbox-replay")
    payload = {"room": session["roomName"], "session_id": str(uuid.uuid4()), "user_id": "sam", "joined_at": CLASS}
    id = webhook.tell("participant.joined", payload)
    webhook.tell("participant.joined", payload, id=id)
    people = rest.call("GET", f"/sessions/{session['roomName']}/participants", "inbox-replay").json()
    assert [person["userId"] for person in people] == ["sam"]


def test_two_events_with_one_id_are_two_events(webhook: Webhook, rest: Rest) -> None:
    """Daily makes ids of the second, or the millisecond, in which something happened, and of whom it happened to."""
    session = rest.create("inbox-twins")
    twins = [
        {"room": session["roomName"], "session_id": str(uuid.uuid4()), "user_id": user, "joined_at": CLASS}
        for user in ("sam", "eve")
    ]
    id = webhook.tell("participant.joined", twins[0])
    webhook.tell("participant.joined", twins[1], id=id)

    def users() -> set[str]:
        people = rest.call("GET", f"/sessions/{session['roomName']}/participants", "inbox-twins").json()
        return {person["userId"] for person in people}

    eventually(lambda: users() == {"sam", "eve"})


def test_an_event_about_an_unknown_room_is_kept_and_done_with(webhook: Webhook) -> None:
    for type in ("meeting.started", "meeting.ended", "participant.joined", "participant.left"):
        webhook.tell(type, {"room": "nobody-knows-it", "session_id": "1"})


def test_an_event_of_an_unknown_kind_is_kept_and_done_with(webhook: Webhook) -> None:
    webhook.tell("waiting-participant.joined", {"room": "r"})


@pytest.mark.parametrize(
    ("type", "payload", "error"),
    [
        ("meeting.started", {}, "no meeting_id"),
        ("participant.left", {}, "no session_id"),
        ("recording.ready-to-download", {}, "no room_name"),
        ("meeting.started", {"meeting_id": "m", "room": "nul \0"}, "odd room"),
        ("meeting.ended", {"meeting_id": "m", "room": "lone surrogate \ud800"}, "odd room"),
    ],
)
def test_an_event_that_cannot_be_understood_is_kept_with_the_reason_and_logged(
    webhook: Webhook, stack: Stack, type: str, payload: dict[str, object], error: str
) -> None:
    id = webhook.send(type, payload)
    kept = webhook.done(id)
    assert json.loads(kept["body"])["payload"] == payload
    assert kept["error"] == f"Unreadable('{error}')"
    log = stack.logs / "server-0.log"
    eventually(lambda: f"event given up type={type} id={id}: {kept['error']}" in log.read_text())


def test_an_event_that_cannot_be_understood_keeps_no_other_of_its_room_waiting(webhook: Webhook, rest: Rest) -> None:
    room = rest.create("inbox-beside")["roomName"]
    odd = webhook.send("participant.joined", {"room": room, "user_id": "eve"})
    webhook.tell("participant.joined", {"room": room, "session_id": str(uuid.uuid4()), "user_id": "sam"})
    assert webhook.done(odd)["error"] == "Unreadable('no session_id')"
    people = rest.call("GET", f"/sessions/{room}/participants", "inbox-beside").json()
    assert [person["userId"] for person in people] == ["sam"]


@pytest.mark.parametrize("time_", [1e300, -1e300, 10**4000, "soon", True, [], {"seconds": 1}], ids=repr)
def test_a_time_that_cannot_be_is_taken_and_never_our_failure(webhook: Webhook, rest: Rest, time_: object) -> None:
    room = rest.create("inbox-times")["roomName"]
    webhook.tell("participant.joined", {"room": room, "session_id": str(uuid.uuid4()), "joined_at": time_})
    webhook.tell("participant.left", {"room": room, "session_id": str(uuid.uuid4()), "duration": time_, "joined_at": 1})
    webhook.tell("meeting.ended", {"room": room, "meeting_id": str(uuid.uuid4()), "end_ts": time_})


@pytest.mark.parametrize(
    "text", ["nul \0", "\ud800", "x" * 100_000, 7, None, ["a"], {"a": 1}], ids=lambda v: repr(v)[:12]
)
def test_a_field_that_is_no_text_is_taken_and_never_our_failure(webhook: Webhook, rest: Rest, text: object) -> None:
    recording = rest.recording("inbox-texts")
    room, id = recording["roomName"], recording["recordingId"]
    odd = [
        webhook.send("participant.joined", {"room": room, "session_id": str(uuid.uuid4()), "user_id": text}),
        webhook.send("recording.error", {"instance_id": text, "room_name": text, "error_msg": text}),
    ]
    webhook.send("recording.started", {"instance_id": text, "recording_id": text})
    ready = {"recording_id": id, "room_name": room, "duration": text, "s3_key": text}
    webhook.tell("recording.ready-to-download", ready)
    assert all("Unreadable" in (webhook.done(id)["error"] or "Unreadable") for id in odd)
