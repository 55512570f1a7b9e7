"""PostgreSQL goes away, freezes or is overrun, and a server is killed: calls end in time and say so, and the service
recovers by itself. On a stack of its own, which it hurts."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from storage.hot import MAX_LISTS
from storage.store import POOL_SIZE
from tests.clients import EXAMPLE, Rest, at_once, bearer, eventually, http_client, new_stack, said, waiting_for_locks
from tests.databases import frozen
from tests.load import under_load

DEADLINE = 3.0
OUTAGE = 10.0
RECOVERY = 5.0
GRACE = 2.0
"""By how much a loaded machine may exceed a deadline."""


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def own_rest(own: Stack) -> Iterator[Rest]:
    with http_client(own.rest_url) as client:
        yield Rest(own, client)


@pytest.fixture(scope="module")
def own_stub(own: Stack) -> Iterator[LiveSessionsStub]:
    with grpc.insecure_channel(own.grpc_proxy) as channel:
        yield LiveSessionsStub(channel)


class Callers:
    """Calls with a deadline, whose answer is the status: `OK` or a REST body or a gRPC code and text."""

    def __init__(self, rest: Rest, stub: LiveSessionsStub) -> None:
        self._rest, self._stub = rest, stub
        self.room: str = rest.create()["roomName"]
        self._ada, self._sam = bearer(rest.token("ada")), bearer(rest.token("sam", "student"))

    def rest(self, method: str, path: str, **request: Any) -> object:
        answer = self._rest.call(method, path, "ada", **request)
        return "OK" if answer.is_success else said(answer)

    def grpc(self, call: Callable[[], object]) -> object:
        try:
            call()
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK"

    def get(self, deadline: float = DEADLINE) -> object:
        request = rpc.GetLiveSessionRequest(session_name=self.room)
        return self.grpc(lambda: self._stub.GetLiveSession(request, timeout=deadline))

    def token(self, deadline: float = DEADLINE) -> object:
        request = rpc.GetSessionTokenRequest(session_name=self.room)
        return self.grpc(lambda: self._stub.GetSessionToken(request, metadata=self._sam, timeout=deadline))

    def create(self, deadline: float = DEADLINE) -> object:
        request = rpc.CreateLiveSessionRequest(course_id="algebra")
        request.starts_at.FromJsonString(EXAMPLE["startsAt"])
        return self.grpc(lambda: self._stub.CreateLiveSession(request, metadata=self._ada, timeout=deadline))

    def list(self, deadline: float = DEADLINE) -> object:
        request = rpc.GetInstructorLiveSessionsRequest(instructor_id="ada", page_size=10)
        return self.grpc(lambda: self._stub.GetInstructorLiveSessions(request, timeout=deadline))

    def delete(self, deadline: float = DEADLINE) -> object:
        request = rpc.DeleteLiveSessionRequest(session_name=self.room)
        return self.grpc(lambda: self._stub.DeleteLiveSession(request, metadata=self._ada, timeout=deadline))

    def all(self) -> dict[str, Callable[[], object]]:
        return {
            "GET over REST": lambda: self.rest("GET", f"/sessions/{self.room}"),
            "GET over gRPC": self.get,
            "token over REST": lambda: self.rest("POST", f"/sessions/{self.room}/token"),
            "token over gRPC": self.token,
            "create over REST": lambda: self.rest("POST", "/sessions", json=EXAMPLE),
            "create over gRPC": self.create,
        }


FAILURES = {
    "GET": "Failed to get session",
    "token": "Failed to get session token",
    "create": "Failed to create session room",
}


def documented(who: str) -> object:
    text = FAILURES[who.split()[0]]
    return (500, {"error": text}) if "REST" in who else ("UNAVAILABLE", text)


@pytest.fixture
def others(own_rest: Rest, own_stub: LiveSessionsStub) -> Callers:
    return Callers(own_rest, own_stub)


@pytest.fixture
def callers(own_rest: Rest, own_stub: LiveSessionsStub) -> Callers:
    return Callers(own_rest, own_stub)


def test_while_postgresql_is_down_every_call_says_so_in_time_and_after_it_all_succeed(
    own: Stack, callers: Callers
) -> None:
    assert own.postgres is not None
    server = own.servers[0].pid
    with under_load(callers.all()) as load:
        eventually(lambda: all(load.last(who, 3) == ["OK"] * 3 for who in callers.all()))
        own.postgres.stop()
        down = time.monotonic()
        time.sleep(OUTAGE)
        up = time.monotonic()
        own.postgres.start()
        eventually(lambda: all(load.last(who, 5) == ["OK"] * 5 for who in callers.all()), RECOVERY)
        recovered = time.monotonic()
        eventually(lambda: len(load.between(recovered, time.monotonic())) > 30)
    during = load.between(down, up)
    assert {each.who for each in during} == set(callers.all())
    assert [each for each in during if each.said != documented(each.who)] == []
    assert max(each.ended - each.began for each in load.outcomes) < DEADLINE + GRACE
    assert {each.said for each in load.between(recovered, time.monotonic())} == {"OK"}
    assert own.servers[0].pid == server
    assert not own.servers[0].ended


def test_a_restart_of_postgresql_that_nobody_saw_fails_no_call(own: Stack, callers: Callers, others: Callers) -> None:
    assert own.postgres is not None
    assert at_once(*[others.get, others.token, others.list, others.create] * 2) == ["OK"] * 8
    assert others.delete() == "OK"
    own.postgres.stop()
    own.postgres.start()
    assert at_once(callers.get, callers.token, callers.list, callers.create) == ["OK"] * 4
    assert callers.delete() == "OK"


@contextmanager
def locked(stack: Stack, room: str) -> Iterator[None]:
    """Somebody else's transaction holds the session's row."""
    with psycopg.connect(stack.database_url) as holder:
        holder.execute("SELECT 1 FROM sessions WHERE room_name = %s FOR UPDATE", [room])
        yield


def waiting(stack: Stack, count: int) -> list[int]:
    """The pids of so many backends that wait for the holder, or for who is in the line before them."""
    return eventually(lambda: len(pids := waiting_for_locks(stack)) == count and pids)


@pytest.mark.parametrize("count", [1, POOL_SIZE], ids=["one backend", "all backends of the pool"])
def test_calls_on_frozen_backends_end_by_their_deadline_and_the_pool_recovers(
    own: Stack, callers: Callers, others: Callers, count: int
) -> None:
    with locked(own, callers.room), ThreadPoolExecutor(count) as threads:
        began = time.monotonic()
        deletes = [threads.submit(callers.delete) for _ in range(count)]
        with frozen(waiting(own, count)):
            assert {delete.result() for delete in deletes} == {("UNAVAILABLE", "Failed to delete session")}
            assert time.monotonic() - began < DEADLINE + GRACE
            assert at_once(*[others.get, others.token, others.list, others.create, callers.get] * 10) == ["OK"] * 50
    assert callers.delete(10) == "OK"
    assert callers.rest("GET", f"/sessions/{callers.room}") == "OK"


def test_backends_that_froze_while_nobody_used_them_are_replaced(own: Stack, callers: Callers) -> None:
    with psycopg.connect(own.database_url, autocommit=True) as another:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        pids = [pid for (pid,) in another.execute(query)]
    with frozen(pids):
        answers = at_once(*[callers.list, callers.get, callers.token] * POOL_SIZE)
        assert ("UNAVAILABLE", "Failed to fetch instructor sessions") in answers
        assert {code for code, _ in set(answers) - {"OK"}} <= {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
        assert at_once(*[callers.list, callers.get, callers.token] * 10) == ["OK"] * 30
    assert at_once(*[callers.list, callers.get, callers.token] * 10) == ["OK"] * 30


def test_while_every_transaction_waits_new_ones_are_refused_and_single_statements_go_on(
    own: Stack, callers: Callers, others: Callers
) -> None:
    overloaded = "Too many calls at once"
    with ThreadPoolExecutor(POOL_SIZE) as threads:
        with locked(own, callers.room):
            deletes = [threads.submit(callers.delete, 9) for _ in range(POOL_SIZE)]
            waiting(own, POOL_SIZE)
            assert callers.create() == ("RESOURCE_EXHAUSTED", overloaded)
            refused = (429, {"error": "Too Many Requests", "message": overloaded})
            assert callers.rest("POST", "/sessions", json=EXAMPLE) == refused
            assert at_once(callers.get, others.token, callers.list) == ["OK"] * 3
        assert {delete.result() for delete in deletes} == {"OK"}
    assert at_once(*[callers.get, callers.list] * 10) == ["OK"] * 20


def test_while_every_list_waits_new_ones_are_refused_and_afterwards_all_succeed(own: Stack, callers: Callers) -> None:
    with ThreadPoolExecutor(MAX_LISTS) as threads:
        with psycopg.connect(own.database_url) as holder:
            holder.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
            lists = [threads.submit(callers.list, 9) for _ in range(MAX_LISTS)]
            waiting(own, MAX_LISTS)
            assert callers.list() == ("RESOURCE_EXHAUSTED", "Too many calls at once")
        assert {each.result() for each in lists} == {"OK"}
    assert at_once(*[callers.list, callers.token] * 10) == ["OK"] * 20


def test_a_server_that_was_killed_is_found_again_by_envoy_when_it_is_back(own: Stack, callers: Callers) -> None:
    with under_load({"REST": lambda: callers.rest("GET", f"/sessions/{callers.room}")}) as load:
        eventually(lambda: load.last("REST", 3) == ["OK"] * 3)
        own.servers[0].kill()
        gone = eventually(lambda: [each for each in load.last("REST", 1) if each != "OK"])
        own.servers[0].start()
        eventually(lambda: load.last("REST", 10) == ["OK"] * 10)
    assert gone == [(503, {"error": "Service Unavailable", "message": "The service cannot be reached; try again"})]
    assert callers.create() == "OK"
