"""Envoy under load while parts go away: it is replaced as docs/operations.md says, or loses two of three servers."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import eventually, http_client, new_stack, said, servers_in_use
from tests.edges import drain, envoy_beside
from tests.load import under_load

NOPE = rpc.GetLiveSessionRequest(session_name="nope")


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    with new_stack(workers=3) as running:
        yield running


def rest_caller(url: str, keep_alive: bool) -> Callable[[], object]:
    client = http_client(url)

    def call() -> object:
        try:
            return client.get("/sessions/nope", headers={} if keep_alive else {"connection": "close"}).status_code
        except httpx.HTTPError as error:
            return repr(error)

    return call


def test_no_call_is_sent_to_the_two_servers_of_three_that_are_away(own_stack: Stack) -> None:
    gone = own_stack.servers[:2]
    with http_client(own_stack.rest_url) as client:
        for server in gone:
            server.kill()
        at_first = [client.get("/sessions/nope").status_code for _ in range(100)]
        eventually(lambda: servers_in_use(own_stack) == 1, 40)
        later = [client.get("/sessions/nope").status_code for _ in range(300)]
    for server in gone:
        server.start()
    eventually(lambda: servers_in_use(own_stack) == 3, 40)
    assert (Counter(at_first), Counter(later)) == ({500: 100}, {500: 300})


def test_no_call_fails_when_a_second_server_dies_just_after_the_first_came_back(own_stack: Stack) -> None:
    """Which may still be ejected then."""
    first, second, third = own_stack.servers
    third.kill()
    eventually(lambda: servers_in_use(own_stack) == 2, 40)
    with under_load({f"caller {n}": rest_caller(own_stack.rest_url, True) for n in range(8)}) as load:
        eventually(lambda: len(load.outcomes) > 50)
        first.kill()
        first.start()
        second.kill()
        seen = len(load.outcomes)
        eventually(lambda: len(load.outcomes) > seen + 300)
    for server in (second, third):
        server.start()
    eventually(lambda: servers_in_use(own_stack) == 3, 40)
    assert Counter(each.said for each in load.outcomes).keys() == {500}


def test_health_is_503_while_no_server_is_there(own_stack: Stack) -> None:
    for server in own_stack.servers:
        server.kill()
    with http_client(own_stack.rest_url) as client:
        answer = eventually(lambda: (got := client.get("/health")).status_code == 503 and got, 40)
        grpc_like = client.get("/sessions/nope", headers={"content-type": "application/grpc"})
        for server in own_stack.servers:
            server.start()
        eventually(lambda: servers_in_use(own_stack) == 3, 40)
        assert client.get("/health").status_code == 200
    away = (503, {"error": "Service Unavailable", "message": "The service cannot be reached; try again"})
    assert (said(answer), said(grpc_like)) == (away, away)
    assert [each.headers["retry-after"] for each in (answer, grpc_like)] == ["1", "1"]


def test_a_second_envoy_takes_over_from_the_first_without_a_failed_call(own_stack: Stack, tmp_path: Path) -> None:
    with envoy_beside(own_stack, tmp_path) as (second, _), grpc.insecure_channel(own_stack.grpc_proxy) as channel:
        callers = {f"kept {n}": rest_caller(own_stack.rest_url, True) for n in range(4)}
        callers |= {f"anew {n}": rest_caller(own_stack.rest_url, False) for n in range(4)}
        callers |= {f"grpc {n}": lambda: LiveSessionsStub(channel).GetLiveSession.future(NOPE).code() for n in range(2)}
        with under_load(callers) as load:
            second.start()
            drain(own_stack.envoy_admin_url)
            own_stack.envoy.stop()
            ended = {who: load.last(who, 1) for who in callers}
            before = len(load.outcomes)
            eventually(lambda: len(load.outcomes) > before + 100, 30)
        assert set(ended) == set(callers)
    assert Counter(each.said for each in load.outcomes).keys() == {500, grpc.StatusCode.NOT_FOUND}
