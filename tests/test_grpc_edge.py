"""Envoy's gRPC listener as microservices use it: few connections, shared by calls that cancel, hurry and carry much."""

from collections import Counter
from collections.abc import Iterator

import grpc
import httpx
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import Rest, bearer
from tests.http2 import Http2

Code = grpc.StatusCode
ME = "grpc-edge-ada"
NOPE = rpc.GetLiveSessionRequest(session_name="nope")
LIST = "/live_sessions.v1.LiveSessions/GetInstructorLiveSessions"
GET = "/live_sessions.v1.LiveSessions/GetLiveSession"


@pytest.fixture
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 1 << 20)]
    with grpc.insecure_channel(stack.grpc_proxy, options) as channel:
        yield channel


def innocent(channel: grpc.Channel) -> str:
    """How a call ends that has done nothing, on its connection as it is."""
    return str(LiveSessionsStub(channel).GetLiveSession.future(NOPE).code().name)


def test_calls_that_are_cancelled_do_no_harm_to_others_on_the_connection(channel: grpc.Channel) -> None:
    get = LiveSessionsStub(channel).GetLiveSession
    ends = Counter[str]()
    for _ in range(60):
        for call in [get.future(NOPE) for _ in range(20)]:
            call.cancel()
        ends[innocent(channel)] += 1
    assert ends == {"NOT_FOUND": 60}


def test_calls_that_time_out_do_no_harm_to_others_on_the_connection(channel: grpc.Channel) -> None:
    get = LiveSessionsStub(channel).GetLiveSession
    ends = Counter[str]()
    for _ in range(30):
        hurried = [get.future(NOPE, timeout=0.001) for _ in range(20)]
        ends[innocent(channel)] += 1
        for call in hurried:
            call.code()
    assert ends == {"NOT_FOUND": 30}


@pytest.mark.parametrize("window", [0, 65535])
def test_a_finished_answer_reaches_a_client_that_ends_its_request_late(stack: Stack, rest: Rest, window: int) -> None:
    """Such as Node's: the message comes first, the end of the request in a frame of its own, the window later still."""
    for _ in range(20):
        rest.create("grpc-edge-late")
    message = rpc.GetInstructorLiveSessionsRequest(instructor_id="grpc-edge-late").SerializeToString()
    with Http2(stack.grpc_proxy, window) as connection:
        streams = [connection.call(LIST, message, end=False) for _ in range(100)]
        prompt = connection.call(GET, NOPE.SerializeToString())
        assert connection.await_ends([prompt]) == ["whole"]
        connection.open_window(0, 1 << 24)
        for stream in streams:
            connection.open_window(stream)
            connection.end_request(stream)
        assert Counter(connection.await_ends(streams)) == {"whole": 100}


@pytest.mark.parametrize(("values", "kilobytes"), [(1, 60), (3, 33)])
def test_much_metadata_is_taken(channel: grpc.Channel, values: int, kilobytes: int) -> None:
    much = tuple((f"x-much-{number}", "x" * kilobytes * 1024) for number in range(values))
    call = LiveSessionsStub(channel).GetLiveSession.future(NOPE, metadata=much)
    assert call.code() == Code.NOT_FOUND


def test_too_much_metadata_fails_its_own_call_only(channel: grpc.Channel, rest: Rest, stack: Stack) -> None:
    create = LiveSessionsStub(channel).CreateLiveSession
    assert innocent(channel) == "NOT_FOUND"
    much = tuple((f"x-much-{number}", "x" * 30 * 1024) for number in range(5))
    assert create.future(rpc.CreateLiveSessionRequest(), metadata=much).code() == Code.INTERNAL
    assert LiveSessionsStub(channel).GetLiveSession.future(NOPE, wait_for_ready=False).code() == Code.NOT_FOUND


def test_a_message_that_is_too_large_is_refused_for_good(channel: grpc.Channel) -> None:
    call = channel.unary_unary(GET).future(b"x" * (2 << 20))
    assert (call.code(), call.details()) == (Code.INVALID_ARGUMENT, "The message is larger than 2 MiB")


@pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b""])
def test_a_content_type_that_is_not_grpcs_is_415(stack: Stack, content_type: bytes) -> None:
    with Http2(stack.grpc_proxy) as connection:
        stream = connection.call(GET, NOPE.SerializeToString(), **{"content-type": content_type})
        assert connection.await_ends([stream]) == ["whole"]
        assert b"415" in connection.bytes_of[stream]


@pytest.mark.parametrize(
    "header", ["x-envoy-upstream-rq-timeout-ms", "x-envoy-max-retries", "x-envoy-upstream-alt-stat-name"]
)
def test_nobody_outside_commands_envoy(stack: Stack, channel: grpc.Channel, rest: Rest, header: str) -> None:
    request = rpc.StartSessionRecordingRequest(session_name=rest.create(ME)["roomName"])
    metadata = (*bearer(rest.token(ME)), (header, "1"))
    assert LiveSessionsStub(channel).StartSessionRecording.future(request, metadata=metadata).code() == Code.OK
    counters = httpx.get(f"{stack.envoy_admin_url}/stats?filter=cluster.live_sessions.1", trust_env=False).text
    assert counters.strip() == ""
