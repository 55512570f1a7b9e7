"""A server process from its start to its end, and what it leaves in the logs."""

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, bearer, error_info, eventually
from tests.servers import Server, refuses_connections, run, serving

OWNER = "lifecycle-owner"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
MARKER = f"marker-{uuid.uuid4().hex}"
START = "POST /rooms/:name/recordings/start"
DRAIN = 25
"""Seconds in which a server must have ended: more than its own bound of 2, 5 and 15."""


@pytest.fixture
def server(stack: Stack, tmp_path: Path) -> Iterator[Server]:
    with serving(stack.environment, tmp_path / "server.log") as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def secrets_of(stack: Stack) -> list[str]:
    names = ("JWT_SECRET", "DAILY_API_KEY", "DAILY_WEBHOOK_SECRET")
    return [stack.environment[f"LIVE_SESSIONS_{name}"] for name in names]


def elsewhere(stack: Stack) -> dict[str, str]:
    """The stack's settings, with a database where there is none."""
    return stack.environment | {"LIVE_SESSIONS_DATABASE_URL": "postgresql://ada:pass-5b1c@127.0.0.1:1/sessions"}


# Start


def test_reflection_names_the_service_and_health(channel: grpc.Channel) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"live_sessions.v1.LiveSessions", "grpc.health.v1.Health"} <= names


def test_a_second_server_on_the_port_ends_with_one_line(stack: Stack) -> None:
    ended = run(settings=stack.environment)
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if line.startswith("live-sessions: ")]
    assert lines == [f"live-sessions: cannot listen on {stack.grpc_targets[0]}"]
    assert "Traceback" not in ended.stderr


def test_without_its_database_a_server_starts_says_so_and_stops(stack: Stack, tmp_path: Path) -> None:
    with (
        serving(elsewhere(stack), tmp_path / "log", ready=False) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.RpcError) as failed:
            LiveSessionsStub(channel).GetLiveSession(rpc.GetLiveSessionRequest(session_name="any"), timeout=10)
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNAVAILABLE, "Failed to get session")
        assert error_info(failed.value).reason == "ERROR_REASON_DEPENDENCY_UNAVAILABLE"
        assert server.stop() == 0
    log = server.log.read_text()
    assert "GetLiveSession unavailable" in log
    assert [secret for secret in ["pass-5b1c", *secrets_of(stack)] if secret in log] == []


# End


def test_on_sigterm_calls_in_flight_finish_and_nothing_new_is_taken(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, server: Server, channel: grpc.Channel
) -> None:
    name = rest.create(OWNER)["roomName"]
    asked = daily.calls(START)
    daily.fault("delay", "POST", f"/rooms/{name}/recordings/start", seconds=4)
    in_flight = LiveSessionsStub(channel).StartSessionRecording.future(
        rpc.StartSessionRecordingRequest(session_name=name), metadata=bearer(stack.token(OWNER, "Ada", "instructor"))
    )
    eventually(lambda: daily.calls(START) > asked)

    server.process.send_signal(signal.SIGTERM)
    checks = health_pb2_grpc.HealthStub(channel)
    eventually(lambda: checks.Check(health_pb2.HealthCheckRequest(), timeout=2).status == NOT_SERVING)
    assert not in_flight.done()

    assert in_flight.result(timeout=DRAIN).recording_id
    assert server.process.wait(DRAIN) == 0
    assert refuses_connections(server.address)


def test_a_server_that_drains_takes_calls_for_longer_than_envoy_needs_to_learn_of_it_if_they_come(
    server: Server, channel: grpc.Channel
) -> None:
    read, seen = LiveSessionsStub(channel).GetLiveSession, set()
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        calls = [read.future(rpc.GetLiveSessionRequest(session_name="nope")) for _ in range(4)]
        seen |= {call.code() for call in calls}
    assert seen == {grpc.StatusCode.NOT_FOUND}
    assert server.process.wait(DRAIN) == 0


# Commands


def test_migrating_a_database_that_is_up_to_date_changes_nothing(stack: Stack, database: psycopg.Connection) -> None:
    tables = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    before = database.execute(f"{tables} ORDER BY 1, 2").fetchall()
    ended = run("migrate", settings=stack.environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert database.execute(f"{tables} ORDER BY 1, 2").fetchall() == before


def test_the_migrations_and_the_tables_say_the_same(stack: Stack) -> None:
    assert run("migrate", "--check", settings=stack.environment).returncode == 0


def test_a_command_without_its_database_ends_with_one_line(stack: Stack) -> None:
    ended = run("migrate", settings=elsewhere(stack))
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("live-sessions: ")
    assert "127.0.0.1" in line
    assert "pass-5b1c" not in line


def test_help_needs_no_settings() -> None:
    ended = run("--help", settings={})
    assert ended.returncode == 0
    for command in ("migrate", "register-webhook", "due"):
        assert command in ended.stdout


# Logs


@pytest.fixture(scope="module", autouse=True)
def told(stack: Stack, rest: Rest) -> list[str]:
    """Secrets that took part in calls, good and bad. First of all, as Envoy writes its log every ten seconds."""
    token = stack.token(OWNER, "Ada", "instructor")
    name = rest.recording(OWNER)["roomName"]
    meeting_token = rest.call("POST", f"/sessions/{name}/token", OWNER).json()["token"]
    with httpx.Client(base_url=str(stack.daily_url), trust_env=False) as client:
        daily = DailyControl(client)
        daily.join(name, meeting_token)
        daily.fault("status", "POST", f"/rooms/{name}/recordings/stop", status=500, times=4)
        for given in (token, token + "x"):
            bad = {"Authorization": f"Bearer {given}"}
            assert rest.call("POST", f"/sessions/{name}/stop-recording", headers=bad).status_code in (401, 500)
        daily.clear_faults()
    rest.call("GET", f"/sessions/{MARKER}", headers={"Authorization": f"Bearer {token}"})
    return [token, meeting_token, *secrets_of(stack)]


def test_no_log_holds_a_secret_or_a_token(stack: Stack, told: list[str]) -> None:
    eventually(lambda: MARKER in (stack.logs / "envoy.log").read_text())
    assert "StopSessionRecording unavailable" in (stack.logs / "server-0.log").read_text()
    for log in stack.logs.glob("*.log"):
        text = log.read_text(errors="replace")
        assert [secret for secret in told if secret in text] == [], log.name
