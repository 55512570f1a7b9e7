"""Bad input over REST: always a JSON error of the documented shape, never an unexpected 5xx, and nothing stored."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.clients import EXAMPLE, Rest, said

ME = "bad-input"
COUNT = "SELECT count(*) FROM sessions WHERE created_by = %s"
STARTS_AT = '"startsAt":"2025-12-26T15:00:00.000Z"'
GOOD = '{"courseId":"c",' + STARTS_AT
NOT_A_DATE = "startsAt must be an ISO 8601 date string"
NOT_AN_ID = "courseId must be 1 to 128 characters without control characters"
REQUIRED = "courseId and startsAt are required"


@pytest.fixture(autouse=True)
def _nothing_stored(database: psycopg.Connection) -> Iterator[None]:
    before = database.execute(COUNT, [ME]).fetchone()
    yield
    assert database.execute(COUNT, [ME]).fetchone() == before


def refused(answer: httpx.Response) -> int:
    """The status of an answer that is an error of the documented shape."""
    status, body = said(answer)
    assert set(body) in ({"error"}, {"message"}, {"error", "message"})
    assert all(isinstance(text, str) and text for text in body.values())
    return status


def create(rest: Rest, body: str | bytes, **headers: str) -> httpx.Response:
    headers = {"content-type": "application/json"} | headers
    return rest.call("POST", "/sessions", ME, content=body, headers=headers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"courseId": ""}, REQUIRED),
        ({"courseId": "   "}, REQUIRED),
        ({"courseId": "\u00a0\u2003\t\n"}, REQUIRED),
        ({"courseId": None}, REQUIRED),
        ({"startsAt": None}, REQUIRED),
        ({"courseId": 5}, "courseId must be a string"),
        ({"courseId": True}, "courseId must be a string"),
        ({"courseId": ["c"]}, "courseId must be a string"),
        ({"courseId": {"id": "c"}}, "courseId must be a string"),
        ({"courseId": "a\x00b"}, NOT_AN_ID),
        ({"courseId": "a\nb"}, NOT_AN_ID),
        ({"courseId": "a\x1bb"}, NOT_AN_ID),
        ({"courseId": "a\x7fb"}, NOT_AN_ID),
        ({"courseId": "a\x85b"}, NOT_AN_ID),
        ({"courseId": "x" * 129}, NOT_AN_ID),
        ({"courseId": "x" * 10_000}, NOT_AN_ID),
        ({"courseId": "😀" * 10_000}, NOT_AN_ID),
        ({"startsAt": 1766761200}, NOT_A_DATE),
        ({"startsAt": True}, NOT_A_DATE),
        ({"startsAt": ["2025-12-26T15:00:00Z"]}, NOT_A_DATE),
        ({"startsAt": {"seconds": 1766761200}}, NOT_A_DATE),
        ({"startsAt": "1999-12-31T23:59:59Z"}, "startsAt must lie between the years 2000 and 9999"),
        ({"startsAt": "9999-12-31T00:00:00Z"}, "startsAt must lie between the years 2000 and 9999"),
        ({"recordingEnabled": "true"}, "recordingEnabled must be a boolean"),
        ({"recordingEnabled": "yes"}, "recordingEnabled must be a boolean"),
        ({"recordingEnabled": 1}, "recordingEnabled must be a boolean"),
        ({"recordingEnabled": []}, "recordingEnabled must be a boolean"),
        ({"maxParticipants": "50"}, "maxParticipants must be a number"),
        ({"maxParticipants": True}, "maxParticipants must be a number"),
        ({"maxParticipants": {}}, "maxParticipants must be a number"),
        ({"maxParticipants": 1.5}, "maxParticipants must be a whole number"),
        ({"maxParticipants": 0}, "maxParticipants must be between 1 and 200"),
        ({"maxParticipants": -1}, "maxParticipants must be between 1 and 200"),
        ({"maxParticipants": 201}, "maxParticipants must be between 1 and 200"),
        ({"maxParticipants": 2**31}, "maxParticipants must be between 1 and 200"),
        ({"maxParticipants": 10**40}, "maxParticipants must be between 1 and 200"),
    ],
)
def test_a_field_that_is_wrong_is_named(rest: Rest, changes: dict[str, Any], message: str) -> None:
    assert said(rest.call("POST", "/sessions", ME, json=EXAMPLE | changes)) == (400, {"error": message})


@pytest.mark.parametrize(
    "starts_at", ["", " ", "tomorrow", "2025-12-26", "2025-12-26T15:00:00", "2025-12-26 15:00:00Z"]
)
def test_a_start_that_is_no_time_with_an_offset_is_refused(rest: Rest, starts_at: str) -> None:
    answer = rest.call("POST", "/sessions", ME, json=EXAMPLE | {"startsAt": starts_at})
    assert said(answer) == (400, {"error": NOT_A_DATE})


@pytest.mark.parametrize(
    "starts_at",
    [
        "2025-13-26T15:00:00Z",
        "2025-00-26T15:00:00Z",
        "2025-12-00T15:00:00Z",
        "2025-02-30T15:00:00Z",
        "2025-02-29T15:00:00Z",
        "2100-02-29T15:00:00Z",
        "2025-04-31T15:00:00Z",
        "2025-12-26T24:01:00Z",
        "2025-12-26T24:00:00.001Z",
        "2025-12-26T25:00:00Z",
        "2025-12-26T15:60:00Z",
        "2025-12-26T15:00:60Z",
        "2025-12-26T15Z",
        "2025-12-26T15:00.5Z",
        "2025-12-26T15:00:00.Z",
        "2025-12-26T15:00:00,5Z",
        "2025-12-26T15:00:0Z",
        "2025-12-26T15:00:00+25:00",
        "2025-12-26T15:00:00+24:00",
        "2025-12-26T15:00:00+01:60",
        "2025-12-26T15:00:00+01",
        "2025-12-26T15:00:00+1:00",
        "2025-12-26T15:00:00+02:00Z",
        "2025-12-26T15:00:00UTC",
        "2025-12-26T15:00:00 Z",
        "2025-12-26 15:00:00Z",
        "2025-12T15:00:00Z",
        "20251226T150000Z",
        "2025-W52-5T15:00:00Z",
        "10000-01-01T00:00:00Z",
        "-000000-01-01T00:00:00Z",
        " 2025-12-26T15:00:00Z",
        "2025-12-26T15:00:00Z ",
        "2025-12-26T15:00:00Z\x00",
        "2025-12-26T15:00:00Z\n",
        "٢٠٢٥-12-26T15:00:00Z",
        "2025-12-26T15:00:00−01:00",
        "2025-12-26T15:00:00." + "1" * 9000 + "Z",
    ],
)
def test_a_start_that_cannot_be_is_refused_in_the_one_way(rest: Rest, starts_at: str) -> None:
    answer = rest.call("POST", "/sessions", ME, json=EXAMPLE | {"startsAt": starts_at})
    assert said(answer) == (400, {"error": NOT_A_DATE})


@pytest.mark.parametrize("starts_at", ["0000-01-01T00:00Z", "-000001-01-01T00:00Z", "+010000-01-01T00:00Z"])
def test_a_start_far_off_is_out_of_range(rest: Rest, starts_at: str) -> None:
    answer = rest.call("POST", "/sessions", ME, json=EXAMPLE | {"startsAt": starts_at})
    assert said(answer) == (400, {"error": "startsAt must lie between the years 2000 and 9999"})


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity", "0x10", "050", "+5", "5.", ".5", "-", "1e-1"])
def test_a_number_that_cannot_be_is_refused(rest: Rest, number: str) -> None:
    assert refused(create(rest, GOOD + f',"maxParticipants":{number}}}')) == 400


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "true",
        "5",
        '"text"',
        "[]",
        f"[{GOOD}}}]",
        "garbage",
        "courseId=c&startsAt=2025-12-26T15:00:00Z",
        "<session/>",
        GOOD + ",}",
        GOOD + "}}",
        GOOD + "} x",
        GOOD + "}" + GOOD + "}",
        GOOD + ',"recordingEnabled":tru}',
        GOOD + ',"recordingEnabled":True}',
        GOOD + ',/* why */"maxParticipants":5}',
        GOOD.replace('"', "'") + "}",
        '{courseId:"c",' + STARTS_AT + "}",
        '{"courseId":"\\ud800",' + STARTS_AT + "}",
        '{"courseId":"c"' + STARTS_AT + "}",
        GOOD + r',"max\u0050articipants":"5"}',
        GOOD + r',"recordingEnable\u0064":"yes"}',
        '{"course_id":5,' + STARTS_AT + "}",
        GOOD + ',"maxParticipants":5,"maxParticipants":"6"}',
        GOOD + ',"courseId":7}',
        "[" * 20_000 + "]" * 20_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        b'{"courseId":"\xff\xfe",' + STARTS_AT.encode() + b"}",
        (GOOD + "}").encode("utf-16"),
        b"\x00" * 1000,
    ],
)
def test_a_body_that_is_no_create_request_is_refused(rest: Rest, body: str | bytes) -> None:
    assert refused(create(rest, body)) == 400


@pytest.mark.parametrize("piece", ["0", "1", "[", ",", " ", '"', "\\", "a", "1.", '"maxParticipants":'])
def test_no_body_keeps_the_edge_busy(rest: Rest, piece: str) -> None:
    """A pattern that goes back and forth over such a body takes most of a minute, in which nobody else is served."""
    body = '{"maxParticipants":' + piece * (60_000 // len(piece)) + "x}"
    assert refused(rest.call("POST", "/sessions", ME, content=body, timeout=5)) == 400


def test_json_cut_off_anywhere_is_refused(rest: Rest) -> None:
    whole = json.dumps(EXAMPLE)
    assert {refused(create(rest, whole[:end])) for end in range(len(whole))} == {400}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/grpc", "application/xml", ""]
)
def test_the_content_type_does_not_change_what_a_bad_body_gets(rest: Rest, content_type: str) -> None:
    assert said(create(rest, "{}", **{"content-type": content_type})) == (400, {"error": REQUIRED})


@pytest.mark.parametrize("path", ["/sessions", "/sessions/unique-room-name/token", "/nowhere"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_413(rest: Rest, path: str, chunked: bool) -> None:
    body = GOOD.encode() + b',"x":"' + b"y" * 1_100_000 + b'"}'
    answer = rest.call("POST", path, ME, content=iter([body]) if chunked else body)
    assert said(answer) == (413, {"error": "Payload Too Large", "message": "The body is too large"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/sessions/instructor"),
        ("GET", "/sessions/instructor/"),
        ("GET", "/sessions/course/"),
        ("OPTIONS", "/sessions/unique-room-name"),
        ("POST", "/sessions/unique-room-name/nothing"),
        ("GET", "/sessions/unique-room-name/recording/nothing"),
        ("POST", "/live_sessions.v1.LiveSessions/GetLiveSession"),
        ("POST", "/grpc.health.v1.Health/Check"),
    ],
)
def test_an_unknown_path_is_404(rest: Rest, method: str, path: str) -> None:
    assert said(rest.call(method, path, ME)) == (
        404,
        {"error": "Not Found", "message": "There is no such path, or not with this method"},
    )


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/sessions", "POST"),
        ("/sessions/", "POST"),
        ("/webhooks/daily", "POST"),
        ("/sessions/unique-room-name/token", "POST"),
        ("/sessions/unique-room-name/start-recording", "POST"),
        ("/sessions/unique-room-name/stop-recording", "POST"),
        ("/sessions/unique-room-name", "GET, HEAD, PATCH, DELETE"),
        ("/sessions/unique-room-name/", "GET, HEAD, PATCH, DELETE"),
        ("/sessions/unique-room-name/recording", "GET, HEAD"),
        ("/sessions/unique-room-name/recordings", "GET, HEAD"),
        ("/sessions/unique-room-name/participants", "GET, HEAD"),
        ("/sessions/instructor/bad-input", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_has_not_is_405_and_told_which_it_has(rest: Rest, path: str, allowed: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - set(allowed.split(", ")):
        answer = rest.call(method, path, ME)
        assert (answer.headers.get("allow"), said(answer)) == (
            allowed,
            (405, {"error": "Method Not Allowed", "message": "There is such a path, but not with this method"}),
        )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sessions?courseId=c"),
        ("GET", "/sessions/unique-room-name?x=1"),
        ("GET", "/sessions/unique-room-name?session_name=other"),
        ("GET", "/sessions/instructor/bad-input?instructor_id=other"),
        ("GET", "/sessions/instructor/bad-input?page_size=abc"),
        ("GET", "/sessions/instructor/bad-input?page_size=1.5"),
        ("GET", "/sessions/instructor/bad-input?page_size=99999999999"),
        ("GET", "/sessions/instructor/bad-input?%00=1"),
    ],
)
def test_an_unknown_or_malformed_query_parameter_is_refused(rest: Rest, method: str, path: str) -> None:
    assert refused(rest.call(method, path, ME, content=GOOD + "}" if method == "POST" else None)) == 400


@pytest.mark.parametrize("verb", ["", "/recording", "/token", "/start-recording", "/stop-recording"])
@pytest.mark.parametrize("name", ["%00", "%0A", "%ff", "a%20b", "é", "%F0%9F%98%80", "x" * 129, "x" * 10_000])
def test_a_name_that_no_room_can_have_is_refused(rest: Rest, name: str, verb: str) -> None:
    method = "GET" if verb in ("", "/recording") else "POST"
    assert refused(rest.call(method, f"/sessions/{name}{verb}", ME)) == 400


def test_a_body_cannot_name_another_session_than_the_path(rest: Rest) -> None:
    name, other = (rest.create("bad-input-owner")["roomName"] for _ in range(2))
    answer = rest.call("POST", f"/sessions/{name}/start-recording", "bad-input-owner", json={"session_name": other})
    assert said(answer)[0] == 200
    assert [rest.get(one)["status"] for one in (name, other)] == ["live", "scheduled"]
