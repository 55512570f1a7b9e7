"""Daily's events at the wire: whatever is signed can be kept, and what it tells is read, typed, or is unreadable."""

import json
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st

from server.daily.events import (
    EVENT_TYPES,
    MAX_BODY,
    Envelope,
    Joined,
    Left,
    MeetingEnded,
    MeetingStarted,
    RecordingFailed,
    RecordingReady,
    RecordingStarted,
    envelope,
    is_ping,
    is_signed,
    read,
)
from server.daily.model import Stay
from server.daily.wire import Unreadable
from tests.events import signature
from tests.parts import Parts

NOON = datetime(2025, 12, 26, 15, tzinfo=UTC)
AT = 1766761200
"""The same moment."""
RECEIVED = NOON + timedelta(seconds=9)
INSTANCE = UUID("6a7d9f2e-0f6b-4d0c-9c1e-5b1f6b0c2a44")
SECRET = "NQrSA5z0FkJ44QPrFerW7uCc5kdNLv3l2FDEKDanL1U="
SIGNED = (
    b'{"version":"1.0.0","type":"meeting.started","id":"met-sta-f2aa1ade-ff80-464c-b46e-50ffa577d48d-1708526032",'
    b'"payload":{"start_ts":1708526032.672,"meeting_id":"f2aa1ade-ff80-464c-b46e-50ffa577d48d",'
    b'"room":"TrPmUX1DzjSwDaAFDfNj"},"event_ts":1708526033.049}'
)
SIGNATURE = "h5z+DQ84rH6/thgIpYgy+cu/hBMiHqSj//JJQz0Pj4c="
TIMESTAMP = "1708526033"

JOINED = {
    "room": "algebra",
    "user_id": "sam",
    "user_name": "Sam",
    "session_id": "con-1",
    "joined_at": AT + 0.5,
    "owner": True,
    "permissions": {"hasPresence": True, "canSend": ["audio"], "canReceive": {"base": True}, "canAdmin": False},
}
LEFT = JOINED | {"duration": 2.25}
STARTED = {"action": "start-cloud-recording", "recording_id": "rec-1", "instance_id": str(INSTANCE), "start_ts": AT}
READY = {
    "type": "cloud",
    "recording_id": "rec-1",
    "room_name": "algebra",
    "start_ts": AT,
    "status": "finished",
    "duration": 60,
    "s3_key": "school/algebra/1",
}
FAILED = {
    "action": "clourd-recording-err",
    "error_msg": "no disk",
    "instance_id": str(INSTANCE),
    "room_name": "algebra",
}
MEETING = {"start_ts": AT, "meeting_id": "met-1", "room": "algebra"}
PAYLOADS: dict[str, dict[str, Any]] = {
    "meeting.started": MEETING,
    "meeting.ended": MEETING | {"end_ts": AT + 90.0},
    "participant.joined": JOINED,
    "participant.left": LEFT,
    "recording.started": STARTED,
    "recording.ready-to-download": READY,
    "recording.error": FAILED | {"timestamp": str(AT)},
}


def body(type: object, payload: object, **fields: object) -> bytes:
    event = {"version": "1.1.0", "type": type, "id": "ev-1", "payload": payload, "event_ts": AT + 1.5} | fields
    return json.dumps(event).encode()


def told(type: str, payload: dict[str, Any], **fields: object) -> Any:
    return read(body(type, payload, **fields), RECEIVED)


def without(payload: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in fields}


# Signatures


def test_dailys_signature_is_known() -> None:
    assert is_signed(SECRET, SIGNATURE, TIMESTAMP, SIGNED)


@pytest.mark.parametrize(
    ("secret", "given", "timestamp", "signed"),
    [
        (None, SIGNATURE, TIMESTAMP, SIGNED),
        ("", SIGNATURE, TIMESTAMP, SIGNED),
        ("no base64!", SIGNATURE, TIMESTAMP, SIGNED),
        ("c2VjcmV0", SIGNATURE, TIMESTAMP, SIGNED),
        (SECRET, "", TIMESTAMP, SIGNED),
        (SECRET, SIGNATURE[:-1], TIMESTAMP, SIGNED),
        (SECRET, "\ud800é", "\ud800", SIGNED),
        (SECRET, SIGNATURE, "1708526034", SIGNED),
        (SECRET, SIGNATURE, TIMESTAMP, SIGNED + b" "),
    ],
)
def test_nothing_else_is_signed(secret: str | None, given: str, timestamp: str, signed: bytes) -> None:
    assert not is_signed(secret, given, timestamp, signed)


@pytest.mark.parametrize("timestamp", ["1", "1708526033000", "2024-02-21T14:33:53Z", "", "whenever"])
def test_a_signature_is_valid_whatever_its_timestamp(timestamp: str) -> None:
    assert is_signed(SECRET, signature(SECRET, timestamp, SIGNED), timestamp, SIGNED)


def test_dailys_test_message_is_no_event() -> None:
    assert is_ping(b'{"test":"test"}')
    assert is_ping(b'{ "test": "test" }\n')
    assert not is_ping(SIGNED)
    assert not is_ping(b"")
    assert not is_ping(b'{"test":"test","id":"1"}')


# What is kept


def test_an_envelope_says_which_event_it_is_and_of_which_room() -> None:
    id = "met-sta-f2aa1ade-ff80-464c-b46e-50ffa577d48d-1708526032"
    at = datetime(2024, 2, 21, 14, 33, 53, 49_000, UTC)
    assert envelope(SIGNED) == Envelope(id, "meeting.started", "TrPmUX1DzjSwDaAFDfNj", at)
    assert envelope(body("recording.error", FAILED)).subject == "algebra"
    assert envelope(body("recording.started", STARTED)).subject is None


def test_an_id_with_unusual_characters_is_kept_as_it_is() -> None:
    assert envelope(body("participant.joined", JOINED, id="ptcpt-join-ü \n;é-1")).id == "ptcpt-join-ü \n;é-1"


@pytest.mark.parametrize("id", [None, "", 7, [], "nul\0", "half\ud800", "i" * 257])
def test_an_event_without_an_id_that_can_be_stored_is_known_by_its_body(id: object) -> None:
    kept = envelope(body("meeting.started", MEETING, id=id))
    assert kept.id.startswith("sha256:")
    assert kept == envelope(body("meeting.started", MEETING, id=id))
    assert kept.id != envelope(body("meeting.started", MEETING, id=id, version="2")).id


def test_whatever_is_no_event_is_kept_too() -> None:
    for raw in (b"", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"null", b'{"type":7,"payload":[]}'):
        assert (envelope(raw).type, envelope(raw).subject) == ("", None)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    # what events are about
    | st.sampled_from([AT, str(AT), AT * 1000, 1e300, 10**400, "algebra", "\0", "\ud800", str(INSTANCE), *EVENT_TYPES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(JOINED | READY)), inner),
    max_leaves=8,
)
payloads = st.one_of(
    values,
    *[st.fixed_dictionaries(dict.fromkeys(payload, values)) for payload in PAYLOADS.values()],
    *[
        st.tuples(st.just(payload), st.dictionaries(st.sampled_from(sorted(payload)), values, max_size=2)).map(
            lambda pair: pair[0] | pair[1]
        )
        for payload in PAYLOADS.values()
    ],
)
bodies = st.binary() | st.builds(
    lambda **event: json.dumps(event).encode(),
    type=st.sampled_from(sorted(EVENT_TYPES)) | values,
    id=values,
    event_ts=values,
    payload=payloads,
)


@settings(max_examples=500, deadline=None)
@generated(bodies)
def test_of_whatever_bytes_there_is_an_envelope_that_can_be_stored(raw: bytes) -> None:
    kept = envelope(raw)
    assert 0 < len(kept.id) <= 256
    assert len(kept.type) <= 128
    for text in (kept.id, kept.type, kept.subject or ""):
        assert "\0" not in text
        text.encode()


@settings(max_examples=1000, deadline=None)
@generated(bodies)
def test_whatever_is_read_can_be_stored_and_what_cannot_be_read_is_unreadable(raw: bytes) -> None:
    try:
        event = read(raw, RECEIVED)
    except Unreadable:
        return
    for value in astuple(event) if event else ():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, str):
                assert "\0" not in part
                part.encode()
            if isinstance(part, datetime):
                assert part.tzinfo is UTC
                assert part.microsecond % 1000 == 0
            if isinstance(part, int):
                assert part < 1 << 31


def test_postgresql_stores_every_kind_of_id_and_of_time(parts: Parts) -> None:
    kept = envelope(body("x" * 500, {"room": "r" * 256}, id="\x7f\u2028\U0001f600" * 85))
    event = told("meeting.started", MEETING | {"start_ts": 99_999_999_999})
    with psycopg.connect(parts.database_url) as connection:
        row = connection.execute("SELECT %s::text, %s::text, %s::timestamptz", [kept.id, kept.subject, event.at])
        assert row.fetchone() == (kept.id, "r" * 256, event.at)


# What is told


def test_each_kind_of_event_tells_its_own() -> None:
    assert {type: told(type, payload) for type, payload in PAYLOADS.items()} == {
        "meeting.started": MeetingStarted("algebra", "met-1", NOON),
        "meeting.ended": MeetingEnded("algebra", "met-1", NOON, NOON + timedelta(seconds=90)),
        "participant.joined": Joined(
            "algebra",
            Stay("con-1", "sam", "Sam", NOON + timedelta(seconds=0.5), None),
            is_owner=True,
            can_send=frozenset({"audio"}),
        ),
        "participant.left": Left(
            room="algebra",
            connection_id="con-1",
            user_id="sam",
            user_name="Sam",
            joined_at=NOON + timedelta(seconds=0.5),
            left_at=NOON + timedelta(seconds=2.75),
            is_owner=True,
        ),
        "recording.started": RecordingStarted("rec-1", INSTANCE, NOON),
        "recording.ready-to-download": RecordingReady(
            "algebra", "rec-1", NOON, 60, "school/algebra/1", NOON + timedelta(seconds=1.5)
        ),
        "recording.error": RecordingFailed("algebra", INSTANCE, "no disk", NOON),
    }
    assert PAYLOADS.keys() == EVENT_TYPES


def test_where_a_time_is_missing_it_is_that_of_the_event() -> None:
    at = NOON + timedelta(seconds=1.5)
    assert told("meeting.started", without(MEETING, "start_ts")).at == at
    assert told("meeting.ended", MEETING).at == at
    assert told("participant.joined", JOINED | {"joined_at": None}).stay.joined_at == at
    assert told("participant.left", LEFT | {"duration": "long"}).left_at == at
    assert told("participant.left", without(LEFT, "joined_at")).left_at == at
    assert told("recording.started", STARTED | {"start_ts": "soon"}).at == at
    assert told("recording.error", FAILED | {"timestamp": []}).at == at


@pytest.mark.parametrize("event_ts", [None, "", "soon", [], float("nan"), -1])
def test_an_event_without_a_time_is_of_its_receipt(event_ts: object) -> None:
    assert told("meeting.started", without(MEETING, "start_ts"), event_ts=event_ts).at == RECEIVED


def test_milliseconds_are_understood() -> None:
    assert told("meeting.started", without(MEETING, "start_ts"), event_ts=AT * 1000).at == NOON


@pytest.mark.parametrize(
    ("type", "lacking"),
    [
        ("meeting.started", without(MEETING, "room")),
        ("meeting.ended", MEETING | {"meeting_id": None}),
        ("participant.joined", without(JOINED, "session_id")),
        ("participant.joined", JOINED | {"room": "alg\0ebra"}),
        ("participant.left", LEFT | {"user_id": "s\ud800m"}),
        ("recording.started", without(STARTED, "recording_id")),
        ("recording.ready-to-download", READY | {"room_name": 1.5}),
        ("recording.error", without(FAILED, "room_name", "instance_id")),
        ("meeting.started", None),
    ],
)
def test_an_event_that_does_not_say_what_it_is_about_is_unreadable(type: str, lacking: Any) -> None:
    with pytest.raises(Unreadable):
        told(type, lacking)


def test_all_but_the_ids_may_be_missing() -> None:
    at = NOON + timedelta(seconds=1.5)
    stay = Stay("con-1", "con-1", None, at, None)
    assert told("participant.joined", {"room": "algebra", "session_id": "con-1"}) == Joined(
        "algebra", stay, False, None
    )
    ready = told("recording.ready-to-download", {"room_name": "algebra", "recording_id": "rec-1"})
    assert ready == RecordingReady("algebra", "rec-1", None, None, None, at)
    failed = told("recording.error", {"room_name": "algebra", "instance_id": "none of ours"})
    assert failed == RecordingFailed("algebra", None, "Daily reported an error", at)


@pytest.mark.parametrize(("can_send", "read_as"), [(True, True), (False, False), ([], frozenset()), ("a", None)])
def test_what_somebody_may_send_is_told(can_send: object, read_as: object) -> None:
    assert told("participant.joined", JOINED | {"permissions": {"canSend": can_send}}).can_send == read_as


@pytest.mark.parametrize("type", ["transcript.started", "", None, 7, ["meeting.started"]])
def test_other_kinds_of_events_are_not_followed(type: object) -> None:
    assert read(body(type, {}), RECEIVED) is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * MAX_BODY + b"{}"])
def test_what_is_no_event_is_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read(raw, RECEIVED)
