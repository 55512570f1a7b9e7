"""What gRPC's own tools expect of the service, through Envoy's gRPC listener and of the server itself."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import Rest, bearer, eventually
from tests.servers import serving

Code = grpc.StatusCode
METHODS = list(rpc.DESCRIPTOR.services_by_name["LiveSessions"].methods)


@pytest.fixture(scope="module", params=["through the proxy", "directly"])
def channel(stack: Stack, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    target = stack.grpc_targets[0] if request.param == "directly" else stack.grpc_proxy
    with grpc.insecure_channel(target) as channel:
        yield channel


def test_headers_of_50_kilobytes_are_taken(channel: grpc.Channel) -> None:
    request = rpc.CreateLiveSessionRequest()
    with pytest.raises(grpc.RpcError) as raised:
        LiveSessionsStub(channel).CreateLiveSession(request, metadata=bearer("x" * 50_000))
    assert (raised.value.code(), raised.value.details()) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "The token is not valid",
    )


def test_reflection_lists_the_services_and_describes_them(channel: grpc.Channel) -> None:
    reflected = ProtoReflectionDescriptorDatabase(channel)
    services = reflected.get_services()
    assert set(services) == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "live_sessions.v1.LiveSessions",
    }
    for name in services:
        package, _, simple = name.rpartition(".")
        file = reflected.FindFileContainingSymbol(name)
        assert (file.package, [service.name for service in file.service]) == (package, [simple])


def file_of(channel: grpc.Channel, symbol: str) -> str | None:
    """The file that describes the symbol, by reflection."""
    asked = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)])
    [answer] = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
    files = answer.file_descriptor_response.file_descriptor_proto
    return descriptor_pb2.FileDescriptorProto.FromString(files[0]).name if files else None


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_reflection_finds_a_method_by_its_name(channel: grpc.Channel, method: MethodDescriptor) -> None:
    assert file_of(channel, method.full_name) == "live_sessions/v1/service.proto"


def test_reflection_finds_the_reasons_of_errors_and_nothing_that_is_not_there(channel: grpc.Channel) -> None:
    assert file_of(channel, "live_sessions.v1.ErrorReason") == "live_sessions/v1/errors.proto"
    for unknown in ("live_sessions.v1.LiveSessions.Nope", "live_sessions.v1.Nope.GetLiveSession", "nope"):
        assert file_of(channel, unknown) is None


def test_reflection_has_its_stable_version(stack: Stack) -> None:
    """buf asks for v1 first, and lists the methods of every service that it is told of."""
    command = ["buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", "grpc-v1"]
    address = f"http://{stack.grpc_proxy}"
    buf = Path(sys.executable).parent / command[0]
    told = subprocess.run([buf, *command[1:], "--list-methods", address], capture_output=True, text=True, check=True)
    assert {f"live_sessions.v1.LiveSessions/{method.name}" for method in METHODS} <= set(told.stdout.split())


@pytest.mark.parametrize("service", ["", "live_sessions.v1.LiveSessions"])
def test_health_is_served(channel: grpc.Channel, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert MessageToDict(answer) == {"status": "SERVING"}


def test_health_is_listed(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
    serving = {"status": "SERVING"}
    assert MessageToDict(answer) == {"statuses": {"": serving, "live_sessions.v1.LiveSessions": serving}}


def test_health_can_be_watched(channel: grpc.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_a_method_that_does_not_exist_is_unimplemented(channel: grpc.Channel) -> None:
    missing = channel.unary_unary("/live_sessions.v1.LiveSessions/Nope")
    with pytest.raises(grpc.RpcError) as raised:
        missing(b"")
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


SERVICES = {
    "unary_unary": [f"live_sessions.v1.LiveSessions/{each.name}" for each in METHODS if not each.server_streaming]
    + ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/List"],
    "unary_stream": [f"live_sessions.v1.LiveSessions/{each.name}" for each in METHODS if each.server_streaming]
    + ["grpc.health.v1.Health/Watch"],
    "stream_stream": [f"grpc.reflection.{v}.ServerReflection/ServerReflectionInfo" for v in ("v1", "v1alpha")],
}


@pytest.mark.parametrize(("kind", "method"), [(kind, method) for kind in SERVICES for method in SERVICES[kind]])
def test_what_is_no_message_is_an_invalid_argument(channel: grpc.Channel, rest: Rest, kind: str, method: str) -> None:
    broken = iter([b"\xff"]) if kind == "stream_stream" else b"\xff"
    call = getattr(channel, kind)(f"/{method}")
    with pytest.raises(grpc.RpcError) as raised:
        next(call(broken, metadata=bearer(rest.token("platform-ada"))))
    assert (raised.value.code(), raised.value.details()) == (Code.INVALID_ARGUMENT, "The request cannot be read")


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000, 2**31 - 1])
def test_nanos_that_are_none_are_refused(channel: grpc.Channel, rest: Rest, nanos: int) -> None:
    request = rpc.CreateLiveSessionRequest(course_id="c")
    request.starts_at.seconds, request.starts_at.nanos = 1_800_000_000, nanos
    with pytest.raises(grpc.RpcError) as raised:
        LiveSessionsStub(channel).CreateLiveSession(request, metadata=bearer(rest.token("platform-ada")))
    assert (raised.value.code(), raised.value.details()) == (
        Code.INVALID_ARGUMENT,
        "startsAt must have from 0 to 999999999 nanos",
    )


def test_clients_that_hurry_or_go_away_leave_nothing_in_the_log(stack: Stack, tmp_path: Path) -> None:
    """Neither a deadline of a millisecond nor a cancelled call is a fault of anybody's."""
    request = rpc.GetLiveSessionRequest(session_name="nope")
    with serving(stack.environment, tmp_path / "log") as server:
        with grpc.insecure_channel(server.address) as channel:
            get = LiveSessionsStub(channel).GetLiveSession
            calls = [get.future(request, timeout=(1 + i % 5) / 1000) for i in range(300)]
            for i, call in enumerate([get.future(request) for _ in range(300)]):
                if i % 3 == 0:
                    call.code()  # while it waits, others are answered
                call.cancel()
            for call in calls:
                call.code()
            assert get.future(request).code() == Code.NOT_FOUND
        assert server.stop() == 0
        said = [line.split(" ", 3)[3] for line in server.log.read_text().splitlines()]
    assert said[0].startswith("server.app live-sessions ")
    assert [line for line in said[1:] if not line.startswith("server.upkeep")] == [
        f"server.rpc.serving serving on {server.address}",
        "server.readiness ready: PostgreSQL is as it should be",
        "server.rpc.serving draining",
        "server.rpc.serving stopped",
    ]


def test_a_header_that_is_not_text_is_not_in_the_log(stack: Stack, tmp_path: Path) -> None:
    """gRPC's own client sends none: this one speaks HTTP/2 by hand."""
    with serving(stack.environment, tmp_path / "log") as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(http2_call("GetSessionToken", b"Bearer hidden-\xe9"))
            eventually(lambda: b"The token is not valid" in connection.recv(65536))
        assert server.stop() == 0
        log = server.log.read_text()
    assert "hidden" not in log
    assert "Traceback" not in log
    assert "a token was refused" in log


def http2_call(method: str, authorization: bytes) -> bytes:
    """A connection's beginning and one call, with each header as a literal that is not indexed (RFC 7541, 6.2.2)."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/live_sessions.v1.LiveSessions/" + method.encode(),
        b":authority": b"x",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
        b"authorization": authorization,
    }
    block = b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in headers.items())
    settings, message = b"", bytes(5)
    frames = [(4, 0, 0, settings), (1, 4, 1, block), (0, 1, 1, message)]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
        for kind, flags, stream, payload in frames
    )
