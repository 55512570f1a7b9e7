"""Every event is kept once, and what cannot be applied is no failure: Daily would give up on us after three."""

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
    id = webhook.send("participant.joined", payload)
    webhook.send("participant.joined", payload | {"user_id": "eve"}, id=id)
    people = rest.call("GET", f"/sessions/{session['roomName']}/participants", "inbox-replay").json()
    assert [person["userId"] for person in people] == ["sam"]
    kept = webhook.kept(id)
    assert kept is not None
    assert kept["body"]["payload"]["user_id"] == "sam"


def test_an_event_about_an_unknown_room_is_kept_and_done_with(webhook: Webhook) -> None:
    for type in ("meeting.started", "meeting.ended", "participant.joined", "participant.left"):
        kept = webhook.kept(webhook.send(type, {"room": "nobody-knows-it", "session_id": "1"}))
        assert kept is not None
        assert (kept["applied"], kept["error"]) == (True, None)


def test_an_event_of_an_unknown_kind_is_kept_and_done_with(webhook: Webhook) -> None:
    kept = webhook.kept(webhook.send("waiting-participant.joined", {"room": "r"}))
    assert kept is not None
    assert (kept["applied"], kept["error"]) == (True, None)


@pytest.mark.parametrize(
    ("type", "payload", "error"),
    [
        ("meeting.started", {}, "KeyError('room')"),
        ("participant.left", {}, "KeyError('room')"),
        ("recording.ready-to-download", {}, "KeyError('recording_id')"),
        ("meeting.started", {"room": "nul \0"}, "NUL"),
        ("meeting.ended", {"room": "lone surrogate \ud800"}, "UnicodeEncodeError"),
    ],
)
def test_an_event_that_cannot_be_applied_is_kept_with_the_reason_and_logged(
    webhook: Webhook, stack: Stack, type: str, payload: dict[str, object], error: str
) -> None:
    id = webhook.send(type, payload)
    kept = webhook.kept(id)
    assert kept is not None
    assert kept["body"]["payload"] == payload
    assert (kept["applied"], kept["attempts"] >= 1) == (False, True)
    assert error in kept["error"]
    log = stack.logs / "server-0.log"
    eventually(lambda: f"webhook event kept id={id} type={type}: " in log.read_text())


@pytest.mark.parametrize("time_", [1e300, -1e300, 10**4000, "soon", True, [], {"seconds": 1}], ids=repr)
def test_a_time_that_cannot_be_is_taken_and_never_our_failure(webhook: Webhook, rest: Rest, time_: object) -> None:
    name = rest.create("inbox-times")["roomName"]
    webhook.send("participant.joined", {"room": name, "session_id": str(uuid.uuid4()), "joined_at": time_})
    webhook.send("participant.left", {"room": name, "session_id": str(uuid.uuid4()), "duration": time_, "joined_at": 1})
    webhook.send("meeting.ended", {"room": name, "end_ts": time_})


@pytest.mark.parametrize(
    "text", ["nul \0", "\ud800", "x" * 100_000, 7, None, ["a"], {"a": 1}], ids=lambda v: repr(v)[:12]
)
def test_a_field_that_is_no_text_is_taken_and_never_our_failure(webhook: Webhook, rest: Rest, text: object) -> None:
    recording = rest.recording("inbox-texts")
    room, id = recording["roomName"], recording["recordingId"]
    webhook.send("participant.joined", {"room": room, "session_id": str(uuid.uuid4()), "user_id": text})
    webhook.send("recording.started", {"instance_id": text, "recording_id": text})
    webhook.send("recording.error", {"instance_id": text, "room_name": text, "error_msg": text})
    webhook.send(
        "recording.ready-to-download", {"recording_id": id, "room_name": room, "duration": text, "s3_key": text}
    )
