"""The log: whoever called finds each line of their call by the id that they saw; and no line has anybody's user id."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests import servers
from tests.clients import EXAMPLE, DailyControl, Rest, bearer, daily_control, eventually, http_client, new_stack

Code = grpc.StatusCode
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Ours, and Envoy's."""
FAILED_CREATE = {
    "WARNING server.daily.turns Daily has too much: nothing of class=default for 1.0 s",
    "INFO server.works not finished: ('create', UUID('…')): POST /rooms: Daily answered 500",
    "WARNING server.rpc.interceptors CreateLiveSession unavailable after … s: POST /rooms: Daily answered 500",
}
"""Daily's part, the work's and the call's own."""


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def rest(own: Stack) -> Iterator[Rest]:
    with http_client(own.rest_url) as client:
        yield Rest(own, client)


@pytest.fixture
def daily(own: Stack) -> Iterator[DailyControl]:
    with daily_control(own) as control:
        yield control


@pytest.fixture
def create(rest: Rest) -> tuple[rpc.CreateLiveSessionRequest, tuple[tuple[str, str], ...]]:
    """A request, and its metadata."""
    request = rpc.CreateLiveSessionRequest(course_id="algebra")
    request.starts_at.FromJsonString(EXAMPLE["startsAt"])
    return request, bearer(rest.token("logs-ada"))


def is_troubled(daily: DailyControl) -> None:
    """The next create waits for Daily, and fails then."""
    daily.fault("rate_limit", "POST", "/rooms")
    daily.fault("status", "POST", "/rooms", status=500, times=None)


def lines_of(log: Path, id: str) -> list[str]:
    """The lines with this request id, without their times and without the id."""
    found = [line for line in log.read_text().splitlines() if f" request_id={id} " in line]
    return [line.split(" ", 2)[2].replace(f" request_id={id}", "") for line in found]


def is_the_failed_create(lines: list[str]) -> bool:
    """All with the method and the name of the room that there was to be."""
    rooms = {line.rpartition(" session=")[2] for line in lines}
    texts = [line.partition(" method=CreateLiveSession session=")[0] for line in lines]
    plain = [re.sub(r"(after )[\d.]+|(UUID\(')[^']+", r"\1\2…", text) for text in texts]
    return len(rooms) == 1 and sorted(plain) == sorted(FAILED_CREATE)


def test_the_lines_of_a_failed_call_are_found_by_the_id_in_the_rest_answer(
    own: Stack, rest: Rest, daily: DailyControl
) -> None:
    is_troubled(daily)
    answer = rest.call("POST", "/sessions", "logs-ada", json=EXAMPLE)
    assert answer.json() == {"error": "Failed to create session room"}
    id = answer.headers["x-request-id"]
    assert is_the_failed_create(lines_of(own.logs / "server-0.log", id))

    def access() -> list[dict[str, Any]]:
        lines = (own.logs / "envoy.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and id in line]

    [line] = eventually(access)
    assert (line["request_id"], line["path"], line["status"], line["grpc_status"]) == (id, "/sessions", 500, 14)


@pytest.mark.parametrize("way", ["through the proxy", "directly"])
def test_the_lines_of_a_failed_call_are_found_by_the_id_in_the_grpc_answer(
    own: Stack, daily: DailyControl, create: tuple[Any, Any], way: str
) -> None:
    is_troubled(daily)
    with grpc.insecure_channel(own.grpc_targets[0] if way == "directly" else own.grpc_proxy) as channel:
        call = LiveSessionsStub(channel).CreateLiveSession.future(create[0], metadata=create[1])
        assert call.code() == Code.UNAVAILABLE
        told = [value for key, value in call.trailing_metadata() if key == "x-request-id"]
        assert call.initial_metadata() == ()  # an answer of trailers alone, which can be tried again
    [id] = told
    assert ID.fullmatch(id)
    assert is_the_failed_create(lines_of(own.logs / "server-0.log", id))


def test_a_grpc_caller_s_own_id_is_kept(own: Stack, daily: DailyControl, create: tuple[Any, Any]) -> None:
    is_troubled(daily)
    with grpc.insecure_channel(own.grpc_targets[0]) as channel:
        metadata = (*create[1], ("x-request-id", "gateway/7:1"))
        call = LiveSessionsStub(channel).CreateLiveSession.future(create[0], metadata=metadata)
        assert call.code() == Code.UNAVAILABLE
        assert "x-request-id" not in dict(call.trailing_metadata())
    assert is_the_failed_create(lines_of(own.logs / "server-0.log", "gateway/7:1"))


@pytest.mark.parametrize("odd", ["a b", "a method=b", "x" * 129, ""], ids=["space", "field", "long", "empty"])
def test_an_id_that_could_pass_for_something_else_is_replaced(own: Stack, odd: str) -> None:
    with grpc.insecure_channel(own.grpc_targets[0]) as channel:
        call = LiveSessionsStub(channel).GetLiveSession.future(
            rpc.GetLiveSessionRequest(session_name="nope"), metadata=[("x-request-id", odd)]
        )
        assert call.code() == Code.NOT_FOUND
        assert ID.fullmatch(dict(call.trailing_metadata())["x-request-id"])


def test_a_call_that_is_well_returns_its_id_too(own: Stack, rest: Rest) -> None:
    request = rpc.GetLiveSessionRequest(session_name=rest.create("logs-ada")["roomName"])
    with grpc.insecure_channel(own.grpc_targets[0]) as channel:
        call = LiveSessionsStub(channel).GetLiveSession.future(request)
        assert call.code() == Code.OK
        assert ID.fullmatch(dict(call.trailing_metadata())["x-request-id"])


@contextmanager
def broken(own: Stack) -> Iterator[None]:
    """The next calls meet a defect: a table that is not there."""
    with psycopg.connect(own.database_url, autocommit=True) as database:
        database.execute("ALTER TABLE sessions RENAME TO elsewhere")
        try:
            yield
        finally:
            database.execute("ALTER TABLE elsewhere RENAME TO sessions")


def test_as_json_each_line_is_one_object_its_traceback_included(own: Stack, tmp_path: Path) -> None:
    settings = own.environment | {"LIVE_SESSIONS_LOG_FORMAT": "json"}
    with servers.serving(settings, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
        with broken(own):
            call = LiveSessionsStub(channel).GetLiveSession.future(rpc.GetLiveSessionRequest(session_name="room-1"))
            assert call.code() == Code.INTERNAL
        id = dict(call.trailing_metadata())["x-request-id"]
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["message"] for line in lines if line["logger"] == "server.rpc.serving"] == [
        f"serving on {server.address}",
        "draining",
        "stopped",
    ]
    [failure] = [line for line in lines if line.get("request_id") == id]
    assert failure.pop("message").startswith("GetLiveSession failed after 0.")
    assert failure.pop("exception").startswith("Traceback (most recent call last):\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", failure.pop("time"))
    assert failure == {
        "level": "error",
        "logger": "server.rpc.interceptors",
        "request_id": id,
        "method": "GetLiveSession",
        "session": "room-1",
    }


def test_what_is_no_name_of_a_session_makes_no_field_and_no_line(own: Stack, daily: DailyControl) -> None:
    forged = "x\n2026-01-01 00:00:00,000 ERROR forged"
    with grpc.insecure_channel(own.grpc_targets[0]) as channel:
        request = rpc.GetSessionTokenRequest(session_name=forged)
        call = LiveSessionsStub(channel).GetSessionToken.future(request, metadata=bearer("no token"))
        assert call.code() == Code.UNAUTHENTICATED
        id = dict(call.trailing_metadata())["x-request-id"]
    [line] = lines_of_end(own.logs / "server-0.log", id)
    assert line.startswith("INFO server.rpc.auth a token was refused: ")
    assert "forged" not in (own.logs / "server-0.log").read_text()


def lines_of_end(log: Path, id: str) -> list[str]:
    """Those of a call that was refused before its request was read."""
    return [line.split(" ", 2)[2] for line in log.read_text().splitlines() if f" request_id={id}" in line]


def test_no_line_has_a_user_s_id(own: Stack, rest: Rest, daily: DailyControl, create: tuple[Any, Any]) -> None:
    """Whatever is done, and whatever fails."""
    room = rest.recording("logs-grace")["roomName"]
    people = f"/sessions/{room}/participants/logs-sam"
    token = rest.call("POST", f"/sessions/{room}/token", "logs-sam", "student").json()["token"]
    daily.join(room, token)
    daily.fault("status", "POST", f"/rooms/{room}/eject", status=500, times=None)
    assert rest.call("POST", f"{people}/remove", "logs-grace").status_code == 500
    daily.clear_faults()
    with broken(own):
        for path in ("token", "start-recording", "stop-recording"):
            assert rest.call("POST", f"/sessions/{room}/{path}", "logs-sam").status_code == 500
        assert rest.call("GET", "/sessions/instructor/logs-grace").status_code == 500
        assert rest.call("POST", "/sessions", "logs-grace", json=EXAMPLE).status_code == 500
    assert rest.call("POST", f"{people}/readmit", "logs-grace").is_success
    assert rest.call("POST", f"/sessions/{room}/stop-recording", "logs-grace").is_success
    assert rest.call("DELETE", f"/sessions/{room}", "logs-grace").is_success
    log = (own.logs / "server-0.log").read_text()
    assert "Traceback" in log
    assert re.findall("logs-(?:ada|grace|sam)", log) == []
