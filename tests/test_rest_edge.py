"""The edge of the REST API: browsers of other origins, odd paths and headers, text that comes back as it went in."""

import json
import socket
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from sandbox.stack import Stack
from tests.clients import EXAMPLE, Rest, said

ORIGIN = "http://localhost:3000"
ME = "edge-ada"
TRICKY = [
    '{"courseId":"other","endsAt":null}',
    '[{"_id":1}],"nextPageToken":"x"',
    '","status":"ended","x":"',
    '"createdAt":"2025-12-26T15:00:00Z"',
    'At":"2025-12-26T15:00:00Z"',
    "2025-12-26T15:00:00Z",
    "null",
    "\\u0041\\n\\",
    "</script><script>alert(1)</script>",
    "'; DROP TABLE sessions; --",
    "%s %00 %2F ${jndi} {{7*7}}",
    " blanks around ",
    "Ünïcödé 日本語 العربية",
    "e\u0301 is not \u00e9",
    "👩‍👩‍👧‍👦 family",
    "\u202eright to left",
    "\ufeff\u00a0\u2028",
    "𝄞" * 128,
]


def preflight(rest: Rest, origin: str, path: str = "/sessions", method: str = "POST") -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    return rest.call("OPTIONS", path, headers=asked)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sessions"),
        ("PATCH", "/sessions/room"),
        ("DELETE", "/sessions/room"),
        ("GET", "/sessions/room/recording"),
        ("GET", "/sessions/instructor/i"),
    ],
)
def test_a_browser_of_the_products_origin_may_call(rest: Rest, method: str, path: str) -> None:
    answer = preflight(rest, ORIGIN, path, method)
    assert answer.status_code == 200
    allowed = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
    assert allowed == {
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-methods": "GET, POST, PATCH, DELETE",
        "access-control-allow-headers": (
            "authorization, content-type, idempotency-key, traceparent, tracestate, baggage, sentry-trace"
        ),
        "access-control-expose-headers": "content-disposition, link, retry-after, www-authenticate, x-request-id",
        "access-control-max-age": "7200",
    }


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:3000.evil.example", "null", "https://localhost:3000"]
)
def test_a_foreign_origin_is_allowed_nothing(rest: Rest, origin: str) -> None:
    answer = rest.call("GET", "/sessions/room", headers={"Origin": origin})
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
    refused = preflight(rest, origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, ORIGIN)


@pytest.mark.parametrize(
    ("path", "status"), [("/sessions/instructor/edge-nobody", 200), ("/sessions/nope", 500), ("/nope", 404)]
)
def test_the_products_origin_may_read_answers_and_errors(rest: Rest, path: str, status: int) -> None:
    answer = rest.call("GET", path, headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)


@pytest.mark.parametrize("course", TRICKY)
def test_a_course_id_comes_back_exactly_as_it_went_in(rest: Rest, course: str) -> None:
    created = rest.create(ME, courseId=course)
    assert created["courseId"] == course
    assert rest.get(created["roomName"]) == created
    assert created in rest.call("GET", f"/sessions/instructor/{ME}").json()


@pytest.mark.parametrize(
    "user", ['","endsAt":1,"createdBy":"', "user@example.com", "auth0|5f7c", "日本 語", "a/b?c=d&e#f"]
)
def test_an_instructor_id_of_any_text_lists_its_sessions_page_by_page(stack: Stack, rest: Rest, user: str) -> None:
    mine = {"Authorization": f"Bearer {stack.token(id=user, name='x', role='instructor')}"}
    made = [rest.call("POST", "/sessions", json=EXAMPLE, headers=mine).json() for _ in range(2)]
    assert [session["createdBy"] for session in made] == [user, user]

    first = rest.call("GET", f"/sessions/instructor/{quote(user, safe='')}?page_size=1")
    second = rest.call("GET", first.links["next"]["url"])
    assert {session["_id"] for session in first.json() + second.json()} == {session["_id"] for session in made}


def test_a_method_override_is_ignored(rest: Rest) -> None:
    name = rest.create(ME)["roomName"]
    overrides = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"}
    rest.call("GET", f"/sessions/{name}", ME, headers=overrides)
    assert rest.call("POST", f"/sessions/{name}", ME, headers=overrides).status_code == 405
    assert rest.get(name)["status"] == "scheduled"


@pytest.mark.parametrize("header", ["x_webhook_signature", "x_forwarded_for", "idempotency_key"])
def test_a_header_with_an_underscore_is_refused(rest: Rest, header: str) -> None:
    status, body = said(rest.call("GET", "/sessions/instructor/edge-nobody", headers={header: "x"}))
    assert (status, body["error"]) == (400, "Bad Request")


@pytest.mark.parametrize("header", ["grpc-timeout", "grpc-encoding", "grpc-status", "broken-bin"])
def test_headers_of_grpc_from_outside_change_nothing(rest: Rest, header: str) -> None:
    answer = rest.call("POST", "/sessions", ME, json=EXAMPLE, headers={header: "1n"})
    assert said(answer)[0] == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ключ"])
def test_an_idempotency_key_that_cannot_be_is_refused(rest: Rest, key: str) -> None:
    answer = rest.call("POST", "/sessions", ME, json=EXAMPLE, headers={"Idempotency-Key": key.encode()})
    assert said(answer) == (400, {"error": "Idempotency-Key must be 1 to 128 visible ASCII characters"})


@pytest.mark.parametrize("name", ["a%2Fb", "..%2Fsessions", "%2e%2e%2f", "%2Frecording", "recording%2F"])
def test_an_escaped_slash_stays_part_of_the_name(rest: Rest, name: str) -> None:
    answer = rest.call("GET", f"/sessions/{name}")
    assert said(answer) == (400, {"error": "sessionName must be 1 to 128 letters, digits, - or _"})


@pytest.mark.parametrize(
    "path", ["/sessions/../nowhere", "/sessions/../../etc/passwd", "/%2e%2e/nowhere", "//nowhere//./x"]
)
def test_dots_lead_nowhere_but_to_a_path_of_the_api(stack: Stack, path: str) -> None:
    assert raw(stack, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) == (
        404,
        "application/json",
        {"error": "Not Found", "message": "There is no such path, or not with this method"},
    )


def test_an_address_of_9_kilobytes_is_judged_and_one_of_62_is_431(rest: Rest) -> None:
    assert said(rest.call("GET", "/sessions/" + "x" * 9_000))[0] == 400
    status, body = said(rest.call("GET", "/sessions/" + "x" * 62_000))
    assert (status, body["error"]) == (431, "Request Header Fields Too Large")


@pytest.mark.parametrize("size", [9_000, 40_000])
def test_a_browsers_many_cookies_do_no_harm(rest: Rest, size: int) -> None:
    answer = rest.call("GET", "/sessions/instructor/edge-nobody", headers={"Cookie": "a=" + "x" * size})
    assert said(answer) == (200, [])


@pytest.mark.parametrize(
    "line", [b"GARBAGE", b"FOO /sessions HTTP/1.1\r\nHost: x", b"GET /sessions/a\x00b HTTP/1.1\r\nHost: x"]
)
def test_what_is_no_http_gets_a_json_error_too(stack: Stack, line: bytes) -> None:
    assert raw(stack, line + b"\r\n\r\n") == (
        400,
        "application/json",
        {"error": "Bad Request", "message": "The request is malformed. Bad Request"},
    )


def raw(stack: Stack, request: bytes) -> tuple[int, str | None, Any]:
    """Status, content type and body of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", stack.ports.rest), timeout=10) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.getheader("content-type"), json.load(answer)


def test_an_answer_can_be_named_by_its_request_id(rest: Rest) -> None:
    answers = [rest.call("GET", path) for path in ("/sessions/nope", "/nope", "/sessions/instructor/edge-nobody")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3
