"""What REST alone has of moderation and of changes: ids of any kind in paths, strict bodies, methods."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.clients import Rest, said

ME = "rest-moderation-instructor"
USERS = [
    "auth0|123",
    "sam@example.com",
    "a/b",
    "/",
    "a//b/",
    "100%",
    "%2F",
    "a b",
    " ",
    "a+b",
    "a:b",
    "user:remove",
    "remove",
    "participants/sam/remove",
    "a?b#c",
    "a;b,c=d&e",
    "...",
    "~a!$'()*",
    '"quoted"\\',
    "Zoë Ünal",
    "李小龍",
    "😀",
    "x" * 128,
    "李" * 128,
]


@pytest.fixture(scope="module")
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


def encoded(user: str) -> str:
    return quote(user, safe="")


@pytest.mark.parametrize("user", USERS)
def test_a_user_id_of_any_kind_can_stand_in_the_paths(rest: Rest, room: str, user: str) -> None:
    token = rest.call("POST", f"/sessions/{room}/token", user, "student")
    assert token.status_code == 200, token.text
    path = f"/sessions/{room}/participants/{encoded(user)}"
    for verb, suffix, body, expected in (
        ("PATCH", "", {"micAllowed": False}, {"micAllowed": False, "wasKicked": False}),
        ("POST", "/remove", None, {"micAllowed": False, "wasKicked": True}),
        ("POST", "/readmit", None, {"micAllowed": False, "wasKicked": False}),
    ):
        status, person = said(rest.call(verb, path + suffix, ME, json=body))
        assert (status, person["userId"]) == (200, user)
        assert {name: person[name] for name in expected} == expected


def test_an_id_of_more_than_128_characters_is_refused(rest: Rest, room: str) -> None:
    answer = rest.call("POST", f"/sessions/{room}/participants/{'x' * 129}/remove", ME)
    assert said(answer) == (400, {"error": "userId must be 1 to 128 characters without control characters"})


@pytest.mark.parametrize("path", ["%0A", "a%00b"])
def test_an_id_with_control_characters_is_refused(rest: Rest, room: str, path: str) -> None:
    assert rest.call("POST", f"/sessions/{room}/participants/{path}/remove", ME).status_code == 400


# Bodies


def patched(rest: Rest, path: str, body: Any) -> tuple[int, Any]:
    if isinstance(body, bytes):
        return said(rest.call("PATCH", path, ME, content=body, headers={"Content-Type": "application/json"}))
    return said(rest.call("PATCH", path, ME, json=body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "micAllowed or cameraAllowed is required"),
        ({}, "micAllowed or cameraAllowed is required"),
        ({"micAllowed": None}, "micAllowed or cameraAllowed is required"),
        ({"micAllowed": "yes"}, "micAllowed must be a boolean"),
        ({"micAllowed": 1}, "micAllowed must be a boolean"),
        ({"cameraAllowed": "true"}, "cameraAllowed must be a boolean"),
        ({"camera_allowed": 0}, "cameraAllowed must be a boolean"),
        ({"micAllowed": []}, "micAllowed must be a boolean"),
        ({"micAllowed": {"a": 1}}, "micAllowed must be a boolean"),
        ({"micAllowed": False, "volume": 3}, "There is no field volume"),
        ({"wasKicked": True}, "There is no field wasKicked"),
        ({"userId": "eve", "micAllowed": False}, "There is no field userId"),
        ({"sessionName": "other", "micAllowed": False}, "There is no field sessionName"),
        ({'a"b\\': 1}, 'There is no field a\\"b\\\\'),
        ({"ü": None}, "There is no field ü"),
        ({"x" * 200: 1}, "There is no such field"),
    ],
)
def test_a_change_of_a_participant_that_cannot_be_is_refused(rest: Rest, room: str, body: object, message: str) -> None:
    rest.call("POST", f"/sessions/{room}/token", "sam", "student")
    before = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    assert patched(rest, f"/sessions/{room}/participants/sam", body) == (400, {"error": message})
    assert rest.call("GET", f"/sessions/{room}/participants", ME).json() == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "courseId, startsAt, recordingEnabled or maxParticipants is required"),
        ({"courseId": None}, "courseId, startsAt, recordingEnabled or maxParticipants is required"),
        ({"courseId": 5}, "courseId must be a string"),
        ({"courseId": ["x"]}, "courseId must be a string"),
        ({"startsAt": "tomorrow"}, "startsAt must be an ISO 8601 date string"),
        ({"startsAt": 1893456000}, "startsAt must be an ISO 8601 date string"),
        ({"startsAt": {"seconds": 1893456000}}, "startsAt must be an ISO 8601 date string"),
        ({"recordingEnabled": "no"}, "recordingEnabled must be a boolean"),
        ({"maxParticipants": "12"}, "maxParticipants must be a number"),
        ({"maxParticipants": 1.5}, "maxParticipants must be a whole number"),
        ({"maxParticipants": 1e300}, "maxParticipants must be between 1 and 200, or 0 for no limit"),
        ({"status": "ended"}, "There is no field status"),
        ({"roomName": "other", "courseId": "x"}, "There is no field roomName"),
        ({"session_name": "other", "courseId": "x"}, "There is no field session_name"),
        ({"courseId": "x", "extra": {"startsAt": "x"}}, "There is no field extra"),
    ],
)
def test_a_change_of_a_session_that_cannot_be_is_refused(rest: Rest, room: str, body: object, message: str) -> None:
    before = rest.get(room)
    assert patched(rest, f"/sessions/{room}", body) == (400, {"error": message})
    assert rest.get(room) == before


@pytest.mark.parametrize("body", [b"{", b"{'micAllowed':false}", b'{"micAllowed":false,}', b'{"a":f}', b"\xff"])
def test_what_is_not_json_is_refused(rest: Rest, room: str, body: bytes) -> None:
    status, answer = patched(rest, f"/sessions/{room}/participants/sam", body)
    assert (status, answer["error"]) == (400, "Bad Request")


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b'["micAllowed"]'])
def test_a_body_that_is_no_object_is_refused(rest: Rest, room: str, body: bytes) -> None:
    assert patched(rest, f"/sessions/{room}/participants/sam", body)[0] == 400


def test_names_and_times_may_be_written_as_clients_write_them(rest: Rest, room: str) -> None:
    course = b' { "course_id" : "a \\"b\\" {c}, [d]: \\\\" , '
    body = course + b'"startsAt":"2031-01-02T03:04+01:00","maxParticipants":12.0 } '
    status, session = patched(rest, f"/sessions/{room}", body)
    assert (status, session["courseId"]) == (200, 'a "b" {c}, [d]: \\')
    assert (session["startsAt"], session["maxParticipants"]) == ("2031-01-02T02:04:00.000Z", 12)


def test_the_other_verbs_read_no_body(rest: Rest, room: str) -> None:
    for path in ("mute", "participants/sam/remove", "participants/sam/readmit"):
        answer = rest.call("POST", f"/sessions/{room}/{path}", ME, content=b"what is this", headers={})
        assert answer.status_code == 200, answer.text


# Methods


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/sessions/x", "GET, HEAD, PATCH, DELETE"),
        ("GET", "/sessions/x/mute", "POST"),
        ("GET", "/sessions/x/participants/sam/remove", "POST"),
        ("DELETE", "/sessions/x/participants/sam/readmit", "POST"),
        ("GET", "/sessions/x/participants/sam", "PATCH"),
        ("POST", "/sessions/x/attendance", "GET, HEAD"),
        ("POST", "/sessions/x/attendance.csv", "GET, HEAD"),
        ("POST", "/sessions/course/x", "GET, HEAD"),
    ],
)
def test_another_method_is_told_from_another_path(rest: Rest, method: str, path: str, allowed: str) -> None:
    answer = rest.call(method, path, ME)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_page_of_another_origin_may_change_and_read_the_files_name(http: httpx.Client) -> None:
    origin = {"Origin": "http://localhost:3000"}
    asked = origin | {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}
    preflight = http.options("/sessions/x/participants/sam", headers=asked)
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    exposed = http.get("/sessions/x/attendance.csv", headers=origin).headers["access-control-expose-headers"]
    assert "content-disposition" in exposed
