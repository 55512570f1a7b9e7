"""Spans as a collector receives them: over OTLP (HTTP, protobuf), from a server and from the shipped Envoy."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox import envoy
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace
from sandbox.stack import Stack
from storage.queue import Line
from tests import servers
from tests.clients import EXAMPLE, DailyControl, Rest, at_once, bearer, eventually, http_client

trace_service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra `otel` is not installed"
)

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
SERVER, CLIENT, INTERNAL = 2, 3, 1  # kinds of spans
FAILED = 2
SERVICE = "live_sessions.v1.LiveSessions"


@dataclass
class Collector:
    address: str
    requests: list[Any]

    @property
    def settings(self) -> dict[str, str]:
        """The standard variables."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.address}", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def spans(self, trace_id: str | None = None) -> list[Any]:
        """All that were received, or those of one trace."""
        found = [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return [span for span in found if trace_id in (None, span.trace_id.hex())]

    def named(self, name: str, trace_id: str | None = None) -> list[Any]:
        return [span for span in self.spans(trace_id) if span.name == name]

    def services(self) -> set[str]:
        return {attributes(resource.resource)["service.name"] for r in self.requests for resource in r.resource_spans}


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.body()
            body = decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            requests.append(trace_service.ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def body(self) -> bytes:
            if "content-length" in self.headers:
                return self.rfile.read(int(self.headers["content-length"]))
            chunks = b""
            while size := int(self.rfile.readline(), 16):  # as Envoy sends it
                chunks += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return chunks

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server, ThreadPoolExecutor(1) as thread:
        thread.submit(server.serve_forever, 0.05)
        try:
            yield Collector(f"{HOST}:{server.server_port}", requests)
        finally:
            server.shutdown()


@contextmanager
def serving(stack: Stack, collector: Collector, tmp_path: Path, **changes: str) -> Iterator[servers.Server]:
    with servers.serving(stack.environment | collector.settings | changes, tmp_path / "log") as server:
        yield server


@contextmanager
def stub_of(address: str) -> Iterator[LiveSessionsStub]:
    with grpc.insecure_channel(address) as channel:
        yield LiveSessionsStub(channel)


def create(rest: Rest, stub: LiveSessionsStub, **headers: str) -> Any:
    request = rpc.CreateLiveSessionRequest(course_id="algebra")
    request.starts_at.FromJsonString(EXAMPLE["startsAt"])
    return stub.CreateLiveSession.future(request, metadata=(*bearer(rest.token("traces-ada")), *headers.items()))


def test_a_call_goes_on_with_its_caller_s_trace_down_to_daily_and_postgresql(
    stack: Stack, rest: Rest, collector: Collector, tmp_path: Path
) -> None:
    with serving(stack, collector, tmp_path) as server, stub_of(server.address) as stub:
        assert create(rest, stub, traceparent=SAMPLED).code() == grpc.StatusCode.OK
        [call] = eventually(lambda: collector.named(f"{SERVICE}/CreateLiveSession"))
        spans = collector.spans(TRACE)
    assert (call.trace_id.hex(), call.parent_span_id.hex(), call.kind) == (TRACE, CALLER, SERVER)
    assert attributes(call) == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "CreateLiveSession",
        "rpc.grpc.status_code": "OK",
    }
    parts = [span for span in spans if span is not call]
    assert {(span.parent_span_id.hex(), span.kind) for span in parts} == {(call.span_id.hex(), CLIENT)}
    assert [span.name for span in sorted(parts, key=lambda span: int(span.start_time_unix_nano))] == [
        "PostgreSQL transaction",
        "Daily POST /rooms",
        "PostgreSQL transaction",
    ]
    assert collector.services() == {"live-sessions"}


def test_a_call_without_a_trace_begins_one_and_its_log_line_names_it(
    stack: Stack, rest: Rest, daily: DailyControl, collector: Collector, tmp_path: Path
) -> None:
    daily.fault("status", "POST", "/rooms", status=500, times=4)
    with serving(stack, collector, tmp_path) as server, stub_of(server.address) as stub:
        assert create(rest, stub).code() == grpc.StatusCode.UNAVAILABLE
        [call] = eventually(lambda: collector.named(f"{SERVICE}/CreateLiveSession"))
        requests = collector.named("Daily POST /rooms", call.trace_id.hex())
    assert (call.parent_span_id, call.status.code, call.status.message) == (b"", FAILED, "")
    assert attributes(call)["rpc.grpc.status_code"] == "UNAVAILABLE"
    assert [(attributes(each), each.status.code) for each in requests] == [
        ({"http.response.status_code": 500}, FAILED)
    ] * 4
    [line] = [line for line in server.log.read_text().splitlines() if "CreateLiveSession unavailable" in line]
    assert line.endswith(f" trace_id={call.trace_id.hex()}")


def test_an_error_of_the_caller_s_makes_no_failed_span(
    stack: Stack, rest: Rest, collector: Collector, tmp_path: Path
) -> None:
    with serving(stack, collector, tmp_path) as server, stub_of(server.address) as stub:
        assert stub.GetLiveSession.future(rpc.GetLiveSessionRequest(session_name="nope")).code().name == "NOT_FOUND"
        [call] = eventually(lambda: collector.named(f"{SERVICE}/GetLiveSession"))
    assert (attributes(call)["rpc.grpc.status_code"], call.status.code) == ("NOT_FOUND", 0)


def test_a_batch_is_a_span_in_the_call_that_began_it_and_tells_how_many_shared_it(
    stack: Stack, rest: Rest, collector: Collector, tmp_path: Path
) -> None:
    request = rpc.GetLiveSessionRequest(session_name=rest.create("traces-ada")["roomName"])
    with serving(stack, collector, tmp_path) as server, stub_of(server.address) as stub:
        at_once(*[lambda: stub.GetLiveSession(request)] * 10)
        eventually(lambda: len(collector.named(f"{SERVICE}/GetLiveSession")) == 10)
        eventually(lambda: sum(attributes(each)["batch.size"] for each in collector.named("PostgreSQL sessions")) == 10)
    calls, batches = collector.named(f"{SERVICE}/GetLiveSession"), collector.named("PostgreSQL sessions")
    assert {batch.parent_span_id for batch in batches} <= {call.span_id for call in calls}


def test_what_upkeep_does_has_traces_of_its_own(
    stack: Stack, database: psycopg.Connection, collector: Collector, tmp_path: Path
) -> None:
    def done() -> list[Any]:
        """The stack's own server takes its share of what is due."""
        database.execute("UPDATE chores SET due_at = clock_timestamp()")
        return [span for span in collector.spans() if span.name.startswith("upkeep ")]

    with serving(stack, collector, tmp_path):
        item = eventually(done, 60)[0]
        parts = eventually(lambda: [span for span in collector.spans() if span.parent_span_id == item.span_id])
    assert (item.parent_span_id, item.kind) == (b"", INTERNAL)
    assert item.name.removeprefix("upkeep ") in {line.value for line in Line}
    assert attributes(item).keys() == {"upkeep.id", "upkeep.attempts"}
    assert {part.name.split()[0] for part in parts} <= {"PostgreSQL", "Daily"}


def test_no_span_has_a_user_s_id_or_a_token(stack: Stack, rest: Rest, collector: Collector, tmp_path: Path) -> None:
    room = rest.create("traces-ada")["roomName"]
    with serving(stack, collector, tmp_path) as server, stub_of(server.address) as stub:
        request = rpc.GetSessionTokenRequest(session_name=room)
        for user in ("traces-sam", "traces-sue"):
            stub.GetSessionToken(request, metadata=bearer(rest.token(user, "student")))
        eventually(lambda: len(collector.named(f"{SERVICE}/GetSessionToken")) == 2)
        assert server.stop() == 0
    told = b"".join(request.SerializeToString() for request in collector.requests)
    assert re.findall(rb"traces-s|Bearer|eyJ", told) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
    ],
    ids=["no collector", "disabled", "no exporter", "none sampled"],
)
def test_traces_are_off_as_the_standard_variables_say(
    stack: Stack, rest: Rest, collector: Collector, tmp_path: Path, changes: dict[str, str]
) -> None:
    with serving(stack, collector, tmp_path, **changes) as server, stub_of(server.address) as stub:
        assert create(rest, stub).code() == grpc.StatusCode.OK
        assert server.stop() == 0  # what there is would be sent by then
    assert collector.requests == []


def test_what_is_not_sent_when_a_server_stops_is_sent_then(
    stack: Stack, rest: Rest, collector: Collector, tmp_path: Path
) -> None:
    with serving(stack, collector, tmp_path, OTEL_BSP_SCHEDULE_DELAY="600000") as server:
        with stub_of(server.address) as stub:
            assert create(rest, stub).code() == grpc.StatusCode.OK
        assert collector.requests == []
        assert server.stop() == 0
    assert len(collector.named(f"{SERVICE}/CreateLiveSession")) == 1


def test_a_collector_that_is_away_costs_no_call(stack: Stack, rest: Rest, tmp_path: Path) -> None:
    with free_port() as port:
        away = Collector(f"{HOST}:{port}", [])
        with serving(stack, away, tmp_path, OTEL_EXPORTER_OTLP_TIMEOUT="1") as server, stub_of(server.address) as stub:
            assert [create(rest, stub).code() for _ in range(3)] == [grpc.StatusCode.OK] * 3
            assert server.stop() == 0


def test_a_protocol_that_is_not_spoken_is_refused_in_one_line(stack: Stack, collector: Collector) -> None:
    settings = stack.environment | collector.settings | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    ended = servers.run(settings=settings)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        "live-sessions: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf",
    )


def test_envoy_s_span_is_the_parent_of_the_server_s(
    stack: Stack, rest: Rest, collector: Collector, tmp_path: Path
) -> None:
    """With the lines on traces that the shipped file has, switched on."""
    workspace = Workspace(tmp_path)
    workspace.claim()
    with (
        serving(stack, collector, tmp_path) as server,
        free_port() as edge,
        free_port() as proxy,
        free_port() as metrics,
        free_port() as admin,
    ):
        file = tmp_path / "envoy.yaml"
        addresses = envoy.Addresses(edge, proxy, metrics, admin, [server.address], collector.address)
        file.write_text(envoy.configuration(addresses))
        process = Process("envoy", [envoy.BINARY, "-c", file, *envoy.OPTIONS], workspace)
        process.start()
        try:
            with http_client(f"http://{HOST}:{edge}") as client:
                eventually(lambda: up(client))
                answer = client.get("/sessions/nope", headers={"traceparent": SAMPLED})
                assert answer.status_code == 500
            [call] = eventually(lambda: collector.named(f"{SERVICE}/GetLiveSession", TRACE))
            [at_the_edge] = eventually(lambda: [s for s in collector.spans(TRACE) if s.parent_span_id.hex() == CALLER])
        finally:
            process.stop()
            workspace.release()
    assert call.parent_span_id == at_the_edge.span_id
    assert collector.services() == {"live-sessions", "live-sessions-edge"}


def up(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.HTTPError:
        return False


def test_the_shipped_file_has_no_traces_as_it_stands(repository: Path) -> None:
    shipped = (repository / "envoy" / "envoy.yaml").read_text()
    assert envoy.TRACES in shipped
    off = envoy.configuration(envoy.Addresses(1, 2, 3, 4, [f"{HOST}:5"]))
    on = envoy.configuration(envoy.Addresses(1, 2, 3, 4, [f"{HOST}:5"], f"{HOST}:6"))
    assert (off.count("tracing:"), on.count("tracing:")) == (0, 2)
