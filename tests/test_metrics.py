"""What Prometheus is told, on a stack of its own: everything that happened is counted once, under its name."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import psycopg
import pytest
import yaml

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.ports import HOST, free_port
from sandbox.stack import Stack
from storage.queue import Line
from tests import servers
from tests.clients import DailyControl, Rest, at_once, bearer, daily_control, eventually, http_client, new_stack
from tests.databases import new_database
from tests.due import is_due
from tests.events import Webhook, event
from tests.scraping import Target

CALLS = {"grpc_type": "unary", "grpc_service": "live_sessions.v1.LiveSessions"}
METHODS = [method.name for method in rpc.DESCRIPTOR.services_by_name["LiveSessions"].methods]
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def rest(own: Stack) -> Iterator[Rest]:
    with http_client(own.rest_url) as client:
        yield Rest(own, client)


@pytest.fixture(scope="module")
def stub(own: Stack) -> Iterator[LiveSessionsStub]:
    with grpc.insecure_channel(own.grpc_targets[0]) as channel:
        yield LiveSessionsStub(channel)


@pytest.fixture
def daily(own: Stack) -> Iterator[DailyControl]:
    with daily_control(own) as control:
        yield control


@pytest.fixture
def database(own: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(own.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def server(own: Stack) -> Target:
    return Target(own.metrics_urls[1])


@pytest.fixture
def edge(own: Stack) -> Target:
    return Target(own.metrics_urls[0])


# Calls


def test_calls_are_counted_by_method_and_code(server: Target, rest: Rest, stub: LiveSessionsStub) -> None:
    room = rest.create("metrics-ada")["roomName"]
    server.mark()
    for name in (room, room, room, "nope", "nope", "not a name"):
        stub.GetLiveSession.future(rpc.GetLiveSessionRequest(session_name=name)).code()
    stub.GetSessionToken.future(rpc.GetSessionTokenRequest(session_name=room)).code()

    expected = {"OK": 3, "NOT_FOUND": 2, "INVALID_ARGUMENT": 1}
    of_get = CALLS | {"grpc_method": "GetLiveSession"}
    assert server.by("grpc_code", "grpc_server_handled_total", **of_get) == expected
    assert server.by("grpc_code", "grpc_server_handling_seconds_count", **of_get) == expected
    assert server.by("grpc_method", "grpc_server_started_total", **CALLS) == {"GetLiveSession": 6, "GetSessionToken": 1}
    assert server.by("grpc_code", "grpc_server_handled_total", grpc_method="GetSessionToken") == {"UNAUTHENTICATED": 1}


def test_a_call_that_its_client_gave_up_is_counted_as_cancelled(
    server: Target, rest: Rest, stub: LiveSessionsStub, daily: DailyControl
) -> None:
    daily.fault("hang", "POST", "/rooms")
    request = rpc.CreateLiveSessionRequest(course_id="algebra")
    request.starts_at.GetCurrentTime()
    call = stub.CreateLiveSession.future(request, metadata=bearer(rest.token("metrics-ada")))
    eventually(lambda: server.counted("grpc_server_started_total", grpc_method="CreateLiveSession") == 1)
    assert server.counted("grpc_server_handled_total", grpc_method="CreateLiveSession") == 0
    call.cancel()
    daily.clear_faults()
    eventually(lambda: server.by("grpc_code", "grpc_server_handled_total", **CALLS) == {"CANCELLED": 1})
    rooms = {"endpoint": "POST /rooms", "outcome": "ok"}  # what it had begun is finished without it
    eventually(lambda: server.counted("live_sessions_daily_requests_total", **rooms) == 1)


def test_streams_are_counted_while_they_last_and_when_they_have_ended(
    server: Target, rest: Rest, stub: LiveSessionsStub
) -> None:
    room = rest.create("metrics-ada")["roomName"]
    server.mark()
    streams = [stub.WatchLiveSession(rpc.WatchLiveSessionRequest(session_name=room)) for _ in range(2)]
    assert [next(stream).session.room_name for stream in streams] == [room, room]
    assert server.value("live_sessions_watchers") == 2
    watch = {"grpc_type": "server_stream", "grpc_method": "WatchLiveSession"}
    assert server.counted("grpc_server_started_total", **watch) == 2
    for stream in streams:
        stream.cancel()
    eventually(lambda: server.by("grpc_code", "grpc_server_handled_total", **watch) == {"CANCELLED": 2})
    assert server.value("live_sessions_watchers") == 0


def test_every_outcome_of_every_method_is_there_before_it_happens(server: Target) -> None:
    """Prometheus sees no increase in a counter that begins with 1: the first failure must not go unseen."""
    assert server.labels("grpc_server_handled_total", "grpc_method", "grpc_code") == {
        (method, code.name) for method in METHODS for code in Code
    }


# Daily


def test_requests_to_daily_are_counted_by_endpoint_and_outcome(server: Target, rest: Rest, daily: DailyControl) -> None:
    daily.fault("status", "POST", "/rooms", status=500)
    room = rest.create("metrics-ada")["roomName"]
    assert server.by("outcome", "live_sessions_daily_requests_total", endpoint="POST /rooms") == {"failed": 1, "ok": 1}
    assert server.counted("live_sessions_daily_requests_seconds_count", endpoint="POST /rooms") == 2

    daily.fault("rate_limit", "POST", "/rooms")
    daily.fault("lost_answer", "POST", "/rooms")
    server.mark()
    rest.create("metrics-ada")
    asked = server.by("outcome", "live_sessions_daily_requests_total", endpoint="POST /rooms")
    assert asked == {"limited": 1, "broken": 1, "refused": 1}  # for the room is there by then, as is found out
    assert server.by("outcome", "live_sessions_daily_requests_total", endpoint="GET /rooms/{id}") == {"ok": 1}
    assert server.counted("live_sessions_daily_budget_wait_seconds_count", **{"class": "default"}) >= 4

    server.mark()
    assert rest.call("POST", f"/sessions/{room}/start-recording", "metrics-ada").status_code == 200
    started = server.by("outcome", "live_sessions_daily_requests_total", endpoint="POST /rooms/{id}/recordings/start")
    assert started == {"ok": 1}
    assert server.counted("live_sessions_daily_budget_wait_seconds_count", **{"class": "starts"}) == 1


def test_daily_s_events_are_counted_by_type_and_outcome(
    server: Target, own: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    webhook, room = Webhook(own, rest, database), rest.create("metrics-ada")["roomName"]
    join = {"room": room, "session_id": "metrics-stay", "user_id": "metrics-sam", "joined_at": time.time()}
    server.mark()
    webhook.tell("participant.joined", join, at=time.time() - 20)
    webhook.tell("participant.joined", join | {"room": "nobody-s"}, at=time.time() - 1000)
    webhook.tell("waiting-participant.joined", {"room": room})
    webhook.done(webhook.send("participant.left", {"room": room}))
    body = json.dumps(event("participant.joined", join)).encode()
    assert webhook.post(body, webhook.headers(b"another body")).status_code == 401

    def outcomes(type: str) -> dict[str, float]:
        return server.by("outcome", "live_sessions_daily_events_total", type=type)

    eventually(lambda: outcomes("participant.joined") == {"received": 2, "applied": 1, "ignored": 1})
    assert outcomes("participant.left") == {"received": 1, "given_up": 1}
    assert outcomes("other") == {"received": 1, "ignored": 1, "refused": 1}

    def later_than(seconds: str) -> float:
        told = server.counted("live_sessions_daily_event_lag_seconds_count")
        return told - server.counted("live_sessions_daily_event_lag_seconds_bucket", le=seconds)

    assert [later_than(seconds) for seconds in ("10.0", "30.0", "300.0", "1800.0")] == [4, 3, 3, 2]


# Upkeep


def test_what_is_due_is_told_with_its_age(server: Target, own: Stack, rest: Rest, database: psycopg.Connection) -> None:
    room = rest.create("metrics-ada")["roomName"]
    database.execute(
        "UPDATE sessions SET due_at = clock_timestamp() + interval '1 second' WHERE room_name = %s", [room]
    )
    with psycopg.connect(own.database_url) as idle:  # upkeep passes over what somebody has locked
        idle.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [room])
        due = eventually(lambda: server.value("live_sessions_upkeep_due", kind="session"))
        eventually(lambda: server.value("live_sessions_upkeep_oldest_due_seconds", kind="session") > 1)
        assert due == 1
    eventually(lambda: server.value("live_sessions_upkeep_due", kind="session") == 0)
    kinds = {line.value for line in Line} | {"event"}
    assert server.labels("live_sessions_upkeep_due", "kind") == {(kind,) for kind in kinds}


def test_events_that_are_not_applied_are_told(server: Target, database: psycopg.Connection) -> None:
    event = (b"metrics", "metrics", "participant.joined", "nobody-s", b"{}")
    later = "clock_timestamp() + interval '1 hour'"
    columns = "digest, id, type, room_name, body, due_at"
    database.execute(f"INSERT INTO daily_events ({columns}) VALUES (%s, %s, %s, %s, %s, {later})", event)
    assert server.value("live_sessions_inbox_unapplied") == 1
    assert server.value("live_sessions_upkeep_due", kind="event") == 0
    database.execute("DELETE FROM daily_events WHERE id = 'metrics'")
    assert server.value("live_sessions_inbox_unapplied") == 0


def test_what_upkeep_has_put_right_is_counted_by_its_kind(
    server: Target, rest: Rest, database: psycopg.Connection, daily: DailyControl
) -> None:
    room = rest.recording("metrics-ada")["roomName"]
    server.mark()
    daily.fault("status", "POST", f"/rooms/{room}/recordings/stop", status=503, times=4)
    assert rest.call("POST", f"/sessions/{room}/stop-recording", "metrics-ada").status_code == 500
    eventually(lambda: server.counted("live_sessions_repairs_total", kind="end") == 1)
    is_due(database, "sessions", room)
    eventually(lambda: server.counted("live_sessions_repairs_total", kind="closing") == 1)


# The process


def test_batches_are_counted_by_their_size(server: Target, rest: Rest, stub: LiveSessionsStub) -> None:
    request = rpc.GetLiveSessionRequest(session_name=rest.create("metrics-ada")["roomName"])
    server.mark()
    at_once(*[lambda: stub.GetLiveSession(request)] * 20)
    batches = server.counted("live_sessions_batch_size_count", batch="session")
    assert server.counted("live_sessions_batch_size_sum", batch="session") == 20
    assert server.counted("live_sessions_batch_size_bucket", batch="session", le="100.0") == batches
    assert 1 <= batches <= 20


def test_connections_to_the_database_are_told_by_pool_and_state(
    server: Target, own: Stack, rest: Rest, stub: LiveSessionsStub
) -> None:
    room = rest.create("metrics-ada")["roomName"]
    connections = "live_sessions_database_connections"
    pools = [
        (pool, state)
        for pool in ("transactions", "statements", "hot", "budgets", "events")
        for state in ("in_use", "idle")
    ]
    assert server.labels(connections, "pool", "state") == set(pools)
    request = rpc.DeleteLiveSessionRequest(session_name=room)
    with psycopg.connect(own.database_url) as idle:
        idle.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [room])
        deletes = [stub.DeleteLiveSession.future(request, metadata=bearer(rest.token("metrics-ada"))) for _ in range(3)]
        eventually(lambda: server.value(connections, pool="transactions", state="in_use") >= 3)
    assert [delete.code() for delete in deletes] == [Code.OK] * 3
    eventually(lambda: server.value(connections, state="in_use") == 0)


def test_a_loop_that_stands_still_is_seen(server: Target, own: Stack) -> None:
    lag = "live_sessions_event_loop_lag_seconds"
    os.kill(own.servers[0].pid, signal.SIGSTOP)
    time.sleep(1.5)  # it is the length of the stop that is measured
    os.kill(own.servers[0].pid, signal.SIGCONT)
    eventually(lambda: server.counted(f"{lag}_count") > server.counted(f"{lag}_bucket", le="1.0"))


def test_what_runs_is_told(server: Target, own: Stack, database: psycopg.Connection, tmp_path: Path) -> None:
    """Servers with the same settings but for their addresses have the same mark."""
    [(version, schema, settings)] = server.labels("live_sessions_info", "version", "schema", "settings")
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row is not None
    assert schema == row[0]
    log = (own.logs / "server-0.log").read_text().splitlines()[0]
    assert f"live-sessions {version}, schema {schema}, settings {settings}: " in log
    assert "daily_max_participants=200" in log
    marks = []
    for changes in ({}, {"LIVE_SESSIONS_CLOSING_TIME": "301"}):
        with servers.serving(own.environment | changes, tmp_path / "log") as other:
            first = other.log.read_text().splitlines()[0]
        marks.append(f", settings {settings}: " in first)
    assert marks == [True, False]


def test_a_server_that_waits_for_its_schema_tells_what_it_can(own: Stack, tmp_path: Path) -> None:
    with new_database(own.database_url) as empty, free_port() as port:
        address = f"{HOST}:{port}"
        settings = {"LIVE_SESSIONS_DATABASE_URL": empty, "LIVE_SESSIONS_METRICS_ADDRESS": address}
        with servers.serving(own.environment | settings, tmp_path / "log", ready=False) as server:
            names = Target(f"http://{address}/metrics").names()
            assert "Traceback" not in server.log.read_text()
    assert ("live_sessions_info" in names, "live_sessions_upkeep_due" in names) == (True, False)


def test_no_secret_user_or_room_is_told(server: Target, own: Stack, rest: Rest, stub: LiveSessionsStub) -> None:
    room = rest.create("metrics-ada")["roomName"]
    token = rest.call("POST", f"/sessions/{room}/token", "metrics-sam", "student").json()["token"]
    stub.GetLiveSession.future(rpc.GetLiveSessionRequest(session_name="x" * 5000)).code()
    secrets = [value for name, value in own.environment.items() if name.endswith(("KEY", "SECRET"))]
    assert len(secrets) == 3
    told = server.text()
    for hidden in (room, token, "metrics-ada", "metrics-sam", "xxx", *secrets):
        assert hidden not in told


def test_only_a_server_with_an_address_for_it_answers_prometheus(own: Stack, tmp_path: Path) -> None:
    with servers.serving(own.environment, tmp_path / "log") as server:
        assert listening(server) == {server.address}
    with free_port() as port:
        address = f"{HOST}:{port}"
        settings = own.environment | {"LIVE_SESSIONS_METRICS_ADDRESS": address}
        with servers.serving(settings, tmp_path / "log") as server:
            assert listening(server) == {server.address, address}
            assert httpx.post(f"http://{address}/metrics", trust_env=False).status_code == 405
            assert server.stop() == 0


def listening(server: servers.Server) -> set[str]:
    """The addresses where it takes connections."""
    every = psutil.Process(server.process.pid).net_connections("tcp")
    listening = [each.laddr for each in every if each.status == psutil.CONN_LISTEN]
    return {f"{address.ip.removeprefix('::ffff:')}:{address.port}" for address in listening}


def test_an_address_that_is_taken_is_told_in_one_line(own: Stack) -> None:
    taken = own.metrics_urls[1].removeprefix("http://").removesuffix("/metrics")
    with free_port() as port:
        addresses = {"GRPC_ADDRESS": f"{HOST}:{port}", "METRICS_ADDRESS": taken}
        settings = own.environment | {f"LIVE_SESSIONS_{name}": address for name, address in addresses.items()}
        ended = servers.run(settings=settings)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"live-sessions: cannot listen on {taken} for metrics"


# Envoy


def test_envoy_counts_what_comes_through_it_by_grpc_code(edge: Target, own: Stack, rest: Rest) -> None:
    with grpc.insecure_channel(own.grpc_proxy) as channel:
        room = rest.create("metrics-ada")["roomName"]
        edge.mark()
        get = LiveSessionsStub(channel).GetLiveSession
        get(rpc.GetLiveSessionRequest(session_name=room))
        get.future(rpc.GetLiveSessionRequest(session_name="nope")).code()
        channel.unary_unary("/live_sessions.v1.LiveSessions/MadeUp").future(b"").code()
    assert rest.call("GET", "/sessions/nope").status_code == 500

    of_get = {"grpc_service": "live_sessions.v1.LiveSessions", "grpc_method": "GetLiveSession"}
    # Prometheus's parser gives Envoy's `envoy_cluster_grpc` the name that Envoy's sum over all codes has.
    eventually(lambda: edge.by("grpc_code", "envoy_cluster_grpc_total", **of_get) == {"0": 1, "5": 2})
    assert "MadeUp" not in edge.text()


def test_envoy_counts_each_method_of_the_contract(repository: Path) -> None:
    config = yaml.safe_load((repository / "envoy" / "envoy.yaml").read_text())
    listeners = {each["name"]: each for each in config["static_resources"]["listeners"]}
    for name in ("rest", "grpc"):
        filters = listeners[name]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
        [stats] = [each["typed_config"] for each in filters if each["name"] == "envoy.filters.http.grpc_stats"]
        [service] = stats["individual_method_stats_allowlist"]["services"]
        assert set(service["method_names"]) == set(METHODS)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/config_dump"), ("POST", "/quitquitquit"), ("POST", "/metrics"), ("POST", "/ready")],
)
def test_nothing_else_of_envoy_s_admin_interface_is_open(own: Stack, method: str, path: str) -> None:
    url = own.metrics_urls[0].removesuffix("/metrics")
    assert httpx.request(method, url + path, trust_env=False).status_code == 404


# At the end, for it hurts


def test_without_the_database_everything_else_is_told(own: Stack, server: Target, stub: LiveSessionsStub) -> None:
    assert own.postgres is not None
    request, log = rpc.GetLiveSessionRequest(session_name="nope"), own.logs / "server-0.log"
    own.postgres.stop()
    try:
        assert stub.GetLiveSession.future(request).code() == Code.UNAVAILABLE
        assert server.counted("grpc_server_handled_total", grpc_code="UNAVAILABLE") == 1
        assert "live_sessions_upkeep_due" not in server.names()
        eventually(lambda: "upkeep does not work here: it cannot see what is due" in log.read_text())
    finally:
        own.postgres.start()
    eventually(lambda: "live_sessions_upkeep_due" in server.names())
    eventually(lambda: log.read_text().count("upkeep works here") == 2)
