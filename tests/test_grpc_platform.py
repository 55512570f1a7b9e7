"""What gRPC's own tools expect of the service, through Envoy's gRPC listener and of the server itself."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import bearer


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
    assert set(reflected.get_services()) == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "live_sessions.v1.LiveSessions",
    }
    file = reflected.FindFileContainingSymbol("live_sessions.v1.LiveSessions")
    [service] = file.service
    assert [method.name for method in service.method] == [
        method.name for method in rpc.DESCRIPTOR.services_by_name["LiveSessions"].methods
    ]


@pytest.mark.parametrize("service", ["", "live_sessions.v1.LiveSessions"])
def test_health_is_served(channel: grpc.Channel, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert MessageToDict(answer) == {"status": "SERVING"}


def test_health_can_be_watched(channel: grpc.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_a_method_that_does_not_exist_is_unimplemented(channel: grpc.Channel) -> None:
    missing = channel.unary_unary("/live_sessions.v1.LiveSessions/Nope")
    with pytest.raises(grpc.RpcError) as raised:
        missing(b"")
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
