"""Synchronous client code of ours, against grpcio-testing's channel: the wire is played."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import grpc_testing
import pytest
from grpc_health.v1 import health_pb2

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import is_serving
from tests.clients import bearer

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVICE = rpc.DESCRIPTOR.services_by_name["LiveSessions"]
Answer = health_pb2.HealthCheckResponse


@pytest.fixture
def channel() -> grpc_testing.Channel:
    return grpc_testing.channel([HEALTH, SERVICE], grpc_testing.strict_real_time())


@pytest.fixture
def client() -> Iterator[ThreadPoolExecutor]:
    """The thread in which the code under test waits for its answer."""
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.fixture
def check(channel: grpc_testing.Channel, client: ThreadPoolExecutor) -> Callable[[], tuple[Future[bool], object]]:
    """Starts the sandbox's health check; its outcome, and the call that it made."""

    def start() -> tuple[Future[bool], object]:
        outcome = client.submit(is_serving, channel)
        _, request, call = channel.take_unary_unary(HEALTH.methods_by_name["Check"])
        assert request == health_pb2.HealthCheckRequest(service=SERVICE.full_name)
        return outcome, call

    return start


@pytest.mark.parametrize(
    ("status", "ready"), [(Answer.SERVING, True), (Answer.NOT_SERVING, False), (Answer.UNKNOWN, False)]
)
def test_a_server_is_ready_when_its_health_says_serving(check: Callable[[], tuple], status: int, ready: bool) -> None:
    outcome, call = check()
    call.terminate(Answer(status=status), (), grpc.StatusCode.OK, "")
    assert outcome.result(10) is ready


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED])
def test_a_server_that_cannot_be_asked_is_not_ready(check: Callable[[], tuple], code: grpc.StatusCode) -> None:
    outcome, call = check()
    call.terminate(None, (), code, "")
    assert outcome.result(10) is False


def test_a_generated_client_sends_its_request_and_its_callers_token(
    channel: grpc_testing.Channel, client: ThreadPoolExecutor
) -> None:
    request = rpc.GetLiveSessionRequest(session_name="unique-room-name")
    answer = client.submit(LiveSessionsStub(channel).GetLiveSession, request, metadata=bearer("a.b.c"))
    metadata, sent, call = channel.take_unary_unary(SERVICE.methods_by_name["GetLiveSession"])
    call.terminate(pb.LiveSession(room_name="unique-room-name"), (), grpc.StatusCode.OK, "")

    assert sent == request
    assert ("authorization", "Bearer a.b.c") in metadata
    assert answer.result(10).room_name == "unique-room-name"


def test_the_generated_stub_has_every_method_of_the_contract(channel: grpc_testing.Channel) -> None:
    assert set(vars(LiveSessionsStub(channel))) == set(SERVICE.methods_by_name)
