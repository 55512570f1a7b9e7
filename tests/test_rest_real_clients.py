"""What real clients send, as bug reports name it: other JSON, times, methods, headers and protocols than curl's."""

import socket
from contextlib import closing
from typing import Any

import httpx
import pytest

from sandbox.stack import Stack
from tests.clients import EXAMPLE, Rest, said

ORIGIN = "http://localhost:3000"
ME = "real-ada"
STARTS_AT = '"startsAt":"2026-12-26T15:00:00Z"'
NOT_FOUND = {"error": "Not Found", "message": "There is no such path, or not with this method"}


@pytest.fixture(scope="module")
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


# JSON


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (f'{{"courseId":"c",{STARTS_AT},"maxParticipants":5e1}}', {"maxParticipants": 50}),
        (f'{{"courseId":"c",{STARTS_AT},"maxParticipants":50.0}}', {"maxParticipants": 50}),
        (f'{{"courseId":"c",{STARTS_AT},"maxParticipants":null,"recordingEnabled":null}}', {"recordingEnabled": False}),
        (f'{{"courseId":"c",{STARTS_AT},"course":{{"courseId":42,"startsAt":[],"maxParticipants":"x"}}}}', {}),
        ('{"courseId":"c","startsAt":"2026-12-26T15:00Z","course":{"maxParticipants":"x"}}', {}),
        (f'{{"courseId":"c",{STARTS_AT},"list":[{{"recordingEnabled":[]}},{{"maxParticipants":{{}}}}]}}', {}),
        (f'{{"courseId":"c",{STARTS_AT},"quoted":"\\"courseId\\":5,\\"maxParticipants\\":[]"}}', {}),
        (f'{{"courseId":"other","courseId":"c",{STARTS_AT}}}', {}),
        (f'{{"courseId":7,"courseId":"c",{STARTS_AT}}}', {}),
        (f'{{"startsAt":"2027-01-01T00:00:00.5Z","courseId":"c",{STARTS_AT}}}', {}),
        (f'{{"course_id":"c",{STARTS_AT.replace("sA", "s_a")},"recording_enabled":true}}', {"recordingEnabled": True}),
        (f'{{"course\\u0049d":"\\u0063",{STARTS_AT}}}', {}),
        ('{"courseId":"c","startsAt":"2026-12-26T16:00:00\\u002B01:00"}', {}),
        (f'{{"courseId":"c",{STARTS_AT},"":1,"deep":{"[" * 90 + "]" * 90}}}', {}),
        (f' \r\n\t{{ "courseId" : "c" , {STARTS_AT} }}\n', {}),
        (f'\ufeff{{"courseId":"c",{STARTS_AT}}}', {}),
    ],
)
def test_json_means_what_its_top_level_says(rest: Rest, body: str, made: dict[str, Any]) -> None:
    status, session = said(rest.call("POST", "/sessions", ME, content=body.encode()))
    assert status == 201, session
    wanted = {"courseId": "c", "startsAt": "2026-12-26T15:00:00.000Z"} | made
    assert {name: session[name] for name in wanted} == wanted


# Times


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2026-12-26T15:00Z", "2026-12-26T15:00:00.000Z"),  # java.time, for each full minute
        ("2026-12-26T15:00+01:00", "2026-12-26T14:00:00.000Z"),
        ("2026-12-26T15:00:00+0530", "2026-12-26T09:30:00.000Z"),  # %z
        ("2026-12-26T15:00:00+0000", "2026-12-26T15:00:00.000Z"),
        ("2026-12-26T15:00:00.123456+00:00", "2026-12-26T15:00:00.123Z"),  # Python
        ("2026-12-26T15:00:00.999999999999Z", "2026-12-26T15:00:00.999Z"),
        ("2026-12-26T15:00:00.1Z", "2026-12-26T15:00:00.100Z"),
        ("2026-12-26T15:00:00-00:00", "2026-12-26T15:00:00.000Z"),
        ("2026-12-26T15:00:00+23:59", "2026-12-25T15:01:00.000Z"),
        ("2026-12-26T15:00:00-23:59", "2026-12-27T14:59:00.000Z"),
        ("2026-12-31T24:00:00.000Z", "2027-01-01T00:00:00.000Z"),
        ("2026-12-26T24:00+01:00", "2026-12-26T23:00:00.000Z"),
        ("2026-12-26t15:00:00z", "2026-12-26T15:00:00.000Z"),
        ("+002026-12-26T15:00:00.000Z", "2026-12-26T15:00:00.000Z"),
        ("2028-02-29T15:00Z", "2028-02-29T15:00:00.000Z"),
        ("2000-02-29T00:00Z", "2000-02-29T00:00:00.000Z"),
        ("2000-01-01T00:00+00:00", "2000-01-01T00:00:00.000Z"),
        ("9999-12-30T23:59:59.999Z", "9999-12-30T23:59:59.999Z"),
        ("2026-01-01T00:00+14:00", "2025-12-31T10:00:00.000Z"),
    ],
)
def test_a_time_with_an_offset_is_taken_as_javascripts_date_takes_it(rest: Rest, sent: str, shown: str) -> None:
    assert rest.create(ME, startsAt=sent)["startsAt"] == shown


# Methods and bodies


@pytest.mark.parametrize(
    "path", ["/sessions/{}", "/sessions/nope", "/sessions/instructor/real-ada", "/nowhere", "/health"]
)
def test_head_answers_as_get_does_without_a_body(rest: Rest, room: str, path: str) -> None:
    got, headed = (rest.call(method, path.format(room)) for method in ("GET", "HEAD"))
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]


def test_head_tells_the_length(rest: Rest, room: str) -> None:
    path = f"/sessions/{room}"
    assert rest.call("HEAD", path).headers["content-length"] == str(len(rest.call("GET", path).content))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"hello"),
        ("application/x-www-form-urlencoded", b"a=b"),
        ("application/json", b"[]"),
        ("application/json", b"{"),
        ("application/json", b'{"session_name":"another"}'),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/octet-stream", b"\xff\x00"),
    ],
)
def test_a_body_that_nobody_reads_does_no_harm(rest: Rest, content_type: str, body: bytes) -> None:
    name = rest.create(ME)["roomName"]
    calls = [
        ("GET", ""),
        ("POST", "/token"),
        ("POST", "/start-recording"),
        ("POST", "/stop-recording"),
        ("GET", "/recording"),
        ("DELETE", ""),
    ]
    for chunked in (False, True):
        for method, path in calls:
            content = iter([body]) if chunked else body
            if chunked and path == "/token":
                continue  # the session has ended by then
            headers = {"content-type": content_type}
            answer = rest.call(method, f"/sessions/{name}{path}", ME, content=content, headers=headers)
            assert answer.status_code == (400 if chunked and path == "/start-recording" else 200), answer.text


# Protocols


def talk(stack: Stack, request: str) -> str:
    """All that is answered to this, until the connection ends."""
    with closing(socket.create_connection(("127.0.0.1", stack.ports.rest), timeout=10)) as connection:
        connection.sendall(request.encode())
        return "".join(iter(lambda: connection.recv(65536).decode(), ""))


@pytest.mark.parametrize("host", ["", "Host: x\r\n"])
def test_http_1_0_is_served(stack: Stack, room: str, host: str) -> None:
    answer = talk(stack, f"GET /sessions/{room} HTTP/1.0\r\n{host}\r\n")
    assert answer.startswith("HTTP/1.0 200 OK\r\n")
    assert f'"roomName":"{room}"' in answer


@pytest.mark.parametrize("protocol", ["TLS/1.2", "h2c", "websocket"])
def test_an_offer_to_upgrade_is_passed_over(stack: Stack, room: str, protocol: str) -> None:
    offer = f"Upgrade: {protocol}\r\nConnection: Upgrade\r\n"
    again = f"GET /sessions/{room} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = talk(stack, f"GET /sessions/{room} HTTP/1.1\r\nHost: x\r\n{offer}\r\n{again}")
    assert answer.count("HTTP/1.1 200 OK\r\n") == 2


def test_a_transfer_encoding_that_is_not_known_is_501_in_words_of_its_own(stack: Stack) -> None:
    answer = talk(stack, "POST /sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n")
    assert answer.startswith("HTTP/1.1 501 ")
    assert '{"error":"Not Implemented","message":"The request is of a kind that is not served"}' in answer


@pytest.mark.parametrize("header", ["X~Trace", "x!#$%&'*+.^`|~z", "Accept-Language"])
def test_any_legal_header_is_taken(rest: Rest, room: str, header: str) -> None:
    assert rest.call("GET", f"/sessions/{room}", headers={header: "de"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "path", "status", "error"),
    [
        (b"", "/nowhere", 404, NOT_FOUND),
        (
            b"{",
            "/sessions",
            400,
            {"error": "Bad Request", "message": "The request is malformed. The body is not JSON."},
        ),
        (b"{}", "/sessions", 400, {"error": "courseId and startsAt are required"}),
        (b"x" * 70_000, "/sessions", 413, {"error": "Payload Too Large", "message": "The body is too large"}),
        (
            b"",
            "/sessions/x/recording",
            405,
            {"error": "Method Not Allowed", "message": "There is such a path, but not with this method"},
        ),
    ],
)
@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc-web+proto", "text/html"])
def test_a_content_type_changes_no_error(
    rest: Rest, content_type: str, content: bytes, path: str, status: int, error: dict[str, str]
) -> None:
    answer = rest.call("POST", path, ME, content=content, headers={"content-type": content_type})
    assert said(answer) == (status, error)
    assert "x-status" not in answer.headers


# Headers that Envoy or gRPC would obey or print


@pytest.mark.parametrize(
    "header",
    [
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-max-retries",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-expected-rq-timeout-ms",
        "grpc-timeout",
    ],
)
def test_nobody_outside_commands_envoy(stack: Stack, rest: Rest, header: str) -> None:
    """From loopback too, and every private network."""
    name = rest.create(ME)["roomName"]
    answer = rest.call("POST", f"/sessions/{name}/start-recording", ME, headers={header: "1"})
    assert answer.status_code == 200
    counters = httpx.get(f"{stack.envoy_admin_url}/stats?filter=cluster.live_sessions.1", trust_env=False).text
    assert counters.strip() == ""


def test_a_create_that_fails_is_not_repeated_for_who_asks_envoy_for_it(rest: Rest, daily: Any) -> None:
    daily.fault("status", "POST", "/rooms", status=500, times=40)
    before = daily.calls("POST /rooms")
    rest.call("POST", "/sessions", ME, json=EXAMPLE)
    alone = daily.calls("POST /rooms") - before
    asked = {"x-envoy-retry-on": "5xx", "x-envoy-retry-grpc-on": "unavailable,internal", "x-envoy-max-retries": "30"}
    assert said(rest.call("POST", "/sessions", ME, json=EXAMPLE, headers=asked))[0] == 500
    assert daily.calls("POST /rooms") - before == 2 * alone


def test_header_values_that_are_not_text_are_not_in_the_log(stack: Stack, rest: Rest, room: str) -> None:
    before = {log: log.read_bytes() for log in stack.logs.glob("*.log")}
    odd = {"cookie": b"a=caf\xe9-in-a-cookie", "accept-language": b"\xe9", "x-anything": "ключ".encode()}
    assert rest.call("GET", f"/sessions/{room}", headers=odd).status_code == 200
    bearer = {"authorization": b"Bearer caf\xe9-in-a-token"}
    assert said(rest.call("POST", f"/sessions/{room}/token", headers=bearer)) == (
        401,
        {"error": "Unauthorized", "message": "The token is not valid"},
    )
    after = {log: log.read_bytes()[len(before[log]) :] for log in before}
    assert b"caf" not in b"".join(after.values())
    assert b"Traceback" not in after[stack.logs / "server-0.log"]


# Pages of other origins


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/sessions/x", {"big": "x" * 70_000}, 431),
        ("GET", "/sessions/x", {"under_score": "x"}, 400),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/sessions/x", {}, 405),
        ("POST", "/sessions", {"content-length": "2"}, 400),
    ],
)
def test_a_page_may_read_what_envoy_says_itself(
    rest: Rest, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    content = b"{x" if "content-length" in headers else None
    answer = rest.call(method, path, headers=headers | {"Origin": ORIGIN}, content=content)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


# Lists


def test_of_a_parameter_that_is_given_twice_the_last_one_counts(rest: Rest) -> None:
    for _ in range(3):
        rest.create("real-twice")
    path = "/sessions/instructor/real-twice?page_size=2&pageSize=1"
    first = rest.call("GET", path)
    assert len(first.json()) == 1
    assert "page_size=1&" in first.links["next"]["url"]


# What people and browsers try first


def test_the_root_says_what_this_is(rest: Rest) -> None:
    assert said(rest.call("GET", "/")) == (200, {"service": "live-sessions", "api": "/sessions", "health": "/health"})
    assert rest.call("GET", "/favicon.ico?v=2").status_code == 204


def test_health_is_ok_while_a_server_is_there(rest: Rest) -> None:
    answer = rest.call("GET", "/health")
    assert said(answer) == (200, {"status": "ok"})
