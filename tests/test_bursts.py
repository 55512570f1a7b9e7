"""Many at once: all who press Join at the same moment are served, and what is too much is told when to try again."""

import asyncio
import re
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer, LiveSessionsStub
from sandbox import envoy
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace
from sandbox.stack import Stack
from server.rpc import interceptors
from server.rpc.auth import Authenticator
from server.rpc.serving import serving
from tests.clients import Rest, bearer, http_client, new_stack

Code = grpc.StatusCode
STUDENTS = 3000
ME = "burst-ada"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """One that nobody else waits for."""
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def room(own_stack: Stack) -> Iterator[str]:
    with http_client(own_stack.rest_url) as client:
        yield str(Rest(own_stack, client).create(ME)["roomName"])


@pytest.fixture(scope="module")
def tokens(own_stack: Stack) -> list[str]:
    return [own_stack.token(f"student-{number}", "Sam", "student") for number in range(STUDENTS)]


@pytest.mark.parametrize("way", ["through the proxy", "directly"])
async def test_thousands_who_join_over_grpc_at_one_moment_are_all_served(
    own_stack: Stack, room: str, tokens: list[str], way: str
) -> None:
    request = rpc.GetSessionTokenRequest(session_name=room)
    target = own_stack.grpc_proxy if way == "through the proxy" else own_stack.grpc_targets[0]
    async with grpc.aio.insecure_channel(target) as channel:
        join = LiveSessionsStub(channel).GetSessionToken
        calls = [join(request, metadata=bearer(token), timeout=60) for token in tokens]
        codes = [await call.code() for call in calls]
    assert Counter(codes) == {Code.OK: STUDENTS}


async def test_thousands_who_join_over_rest_at_one_moment_are_all_served(
    own_stack: Stack, room: str, tokens: list[str]
) -> None:
    """Each on a connection of its own, which is open before."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    connections = []
    for _ in tokens:
        connections.append(await asyncio.open_connection("127.0.0.1", own_stack.ports.rest))

    async def join(token: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        head = f"POST /sessions/{room}/token HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.decode().split("\r\n")[0]

    answers = await asyncio.gather(*[join(token, *each) for token, each in zip(tokens, connections, strict=True)])
    assert Counter(answers) == {"HTTP/1.1 200 OK": STUDENTS}


def test_each_address_has_a_rate_of_its_own(own_stack: Stack, tmp_path: Path) -> None:
    """Shown with a bucket of five calls instead of 12,000, and no other change."""
    workspace = Workspace(tmp_path)
    workspace.claim()
    with free_port() as rest, free_port() as proxy, free_port() as admin:
        shipped = envoy.configuration(envoy.Addresses(rest, proxy, admin, own_stack.grpc_targets))
        few = re.sub(r"max_tokens: 12000\n( *)tokens_per_fill: 200", r"max_tokens: 5\n\1tokens_per_fill: 1", shipped)
        few = few.replace(
            "fill_interval: 0.1s\n              max_dynamic", "fill_interval: 3600s\n              max_dynamic"
        )
        assert few.count("max_tokens: 5\n") == 1
        file = tmp_path / "envoy.yaml"
        file.write_text(few)
        url = f"http://{HOST}:{rest}"
        process = Process("envoy", [envoy.BINARY, "-c", file, *envoy.OPTIONS], workspace, ready=lambda: listens(rest))
        process.start()
        try:
            for address in ("127.0.0.2", "127.0.0.3"):
                transport = httpx.HTTPTransport(local_address=address)
                with httpx.Client(base_url=url, transport=transport, trust_env=False) as client:
                    answers = [client.get("/favicon.ico") for _ in range(7)]
                assert [answer.status_code for answer in answers] == [204] * 5 + [429] * 2
                assert answers[-1].headers["retry-after"] == "1"
                assert answers[-1].json() == {"error": "Too Many Requests", "message": "Try again in a second"}
        finally:
            process.stop()
            workspace.release()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class Waiting(LiveSessionsServicer):
    """Keeps its callers until it is told to go on, and its streams open."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def GetLiveSession(self, request: rpc.GetLiveSessionRequest, context: object) -> pb.LiveSession:  # noqa: N802
        await self.go_on.wait()
        return pb.LiveSession()

    async def WatchLiveSession(self, request: rpc.WatchLiveSessionRequest, context: object) -> AsyncIterator[bytes]:  # type: ignore[override]  # noqa: N802
        yield pb.LiveSessionEvent(revision=1).SerializeToString()
        await self.go_on.wait()


async def test_what_is_beyond_the_limit_is_told_when_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, beyond = 50, 20
    monkeypatch.setattr(interceptors, "MAX_CALLS", limit)
    servicer = Waiting()
    with free_port() as port:
        address = f"{HOST}:{port}"
        async with serving(servicer, Authenticator(secret="x" * 32), address), grpc.aio.insecure_channel(address) as at:
            calls = [LiveSessionsStub(at).GetLiveSession(rpc.GetLiveSessionRequest()) for _ in range(limit + beyond)]
            codes = [asyncio.create_task(call.code()) for call in calls]
            while len(refused := [code for code in codes if code.done()]) < beyond:
                await asyncio.wait(set(codes) - set(refused), return_when=asyncio.FIRST_COMPLETED)
            health = await health_pb2_grpc.HealthStub(at).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            servicer.go_on.set()
            told = [await _ending(call) for call in calls]
    again = (Code.RESOURCE_EXHAUSTED, ("ErrorInfo", "RetryInfo"))
    assert Counter(told) == {(Code.OK, ()): limit, again: beyond}


async def test_streams_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 20
    monkeypatch.setattr(interceptors, "MAX_STREAMS", limit)
    servicer, request = Waiting(), rpc.WatchLiveSessionRequest()
    with free_port() as port:
        address = f"{HOST}:{port}"
        async with serving(servicer, Authenticator(secret="x" * 32), address), grpc.aio.insecure_channel(address) as at:
            streams = [LiveSessionsStub(at).WatchLiveSession(request) for _ in range(limit)]
            assert [(await stream.read()).revision for stream in streams] == [1] * limit
            refused = LiveSessionsStub(at).WatchLiveSession(request)
            assert await _ending(refused) == (Code.RESOURCE_EXHAUSTED, ("ErrorInfo", "RetryInfo"))
            streams.pop().cancel()
            streams.append(await _admitted(LiveSessionsStub(at)))
            servicer.go_on.set()
            assert [await stream.code() for stream in streams] == [Code.OK] * limit


async def _admitted(stub: LiveSessionsStub) -> Any:
    """A stream, once there is a place for it."""
    while True:
        stream = stub.WatchLiveSession(rpc.WatchLiveSessionRequest())
        with suppress(grpc.RpcError):
            await stream.read()
            return stream


async def _ending(call: Any) -> tuple[grpc.StatusCode, tuple[str, ...]]:
    """The code, and the names of the details."""
    for key, value in await call.trailing_metadata():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            return await call.code(), tuple(detail.TypeName().removeprefix("google.rpc.") for detail in status.details)
    return await call.code(), ()
