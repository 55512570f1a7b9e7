"""Servers and Envoy are replaced while 64 calls are in flight. `make restart-test`: in ten rounds, not in two."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.process import Process
from sandbox.stack import Stack
from tests.clients import EXAMPLE, Rest, bearer, eventually, new_stack, servers_in_use
from tests.edges import drain, envoy_beside
from tests.load import Load, under_load

Call = Callable[[], object]
ADA, SAM = "rolling-ada", "rolling-sam"
OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
"""A connection for each channel, as of different microservices."""
AWAY = ("503", "UNAVAILABLE")
UNFINISHED = '500 {"error":"Failed to create session room"}'
"""UNAVAILABLE over REST: a repetition may hear it for the 17 s in which the dead server's lease on the create runs."""
MANY = {
    "read by rest": 20,
    "read by grpc": 20,
    "join by rest": 8,
    "join by grpc": 8,
    "create by rest": 4,
    "create by grpc": 4,
}
"""Callers of each kind, each of whom always has a call in flight: 64."""


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    with new_stack(workers=3) as running:
        yield running


@pytest.fixture
def callers(own_stack: Stack) -> Iterator[dict[str, Call]]:
    with ExitStack() as clients:
        http = [clients.enter_context(patient_client(own_stack.rest_url)) for _ in range(64)]
        stubs = [clients.enter_context(grpc.insecure_channel(own_stack.grpc_proxy, OWN)) for _ in range(8)]
        assert len(http) == sum(MANY.values())
        room = Rest(own_stack, http[0]).create(ADA)["roomName"]
        kinds = kinds_of_calls(own_stack, room)
        each = [f"{kind} {n}" for kind, count in MANY.items() for n in range(count)]
        yield {
            who: kinds[who.rpartition(" ")[0]](http[n], LiveSessionsStub(stubs[n % 8])) for n, who in enumerate(each)
        }


def patient_client(url: str) -> httpx.Client:
    """It dials again where it was not let in, as gRPC and browsers do: the kernel resets a connection that waits at a
    listener while that is closed."""
    transport = httpx.HTTPTransport(retries=3)
    return httpx.Client(base_url=url, timeout=20, trust_env=False, transport=transport)


def kinds_of_calls(stack: Stack, room: str) -> dict[str, Callable[[httpx.Client, LiveSessionsStub], Call]]:
    ada, sam = stack.token(ADA, "Ada", "instructor"), stack.token(SAM, "Sam", "student")
    read, join = rpc.GetLiveSessionRequest(session_name=room), rpc.GetSessionTokenRequest(session_name=room)
    create = rpc.CreateLiveSessionRequest(course_id=EXAMPLE["courseId"])
    create.starts_at.FromJsonString(EXAMPLE["startsAt"])

    def create_by_rest(http: httpx.Client) -> str:
        headers = {"authorization": f"Bearer {ada}", "idempotency-key": uuid4().hex}
        return mended(lambda: status(lambda: http.post("/sessions", json=EXAMPLE, headers=headers)))

    def create_by_grpc(stub: LiveSessionsStub) -> str:
        metadata = (*bearer(ada), ("idempotency-key", uuid4().hex))
        return mended(lambda: stub.CreateLiveSession.future(create, metadata=metadata).code().name)

    signed = {"authorization": f"Bearer {sam}"}
    return {
        "read by rest": lambda http, _: lambda: status(lambda: http.get(f"/sessions/{room}")),
        "read by grpc": lambda _, stub: lambda: stub.GetLiveSession.future(read).code().name,
        "join by rest": lambda http, _: lambda: status(lambda: http.post(f"/sessions/{room}/token", headers=signed)),
        "join by grpc": lambda _, stub: lambda: stub.GetSessionToken.future(join, metadata=bearer(sam)).code().name,
        "create by rest": lambda http, _: lambda: create_by_rest(http),
        "create by grpc": lambda _, stub: lambda: create_by_grpc(stub),
    }


def status(call: Callable[[], httpx.Response]) -> str:
    try:
        answer = call()
    except httpx.HTTPError as error:
        return repr(error)
    return (
        str(answer.status_code)
        if answer.is_success or answer.status_code == 503
        else f"{answer.status_code} {answer.text}"
    )


def mended(call: Callable[[], str]) -> str:
    """What the call said; after an answer that allows it, also what its repetitions came to."""
    first = call()
    if first not in AWAY:
        return first
    last = eventually(lambda: (said := call()) not in (*AWAY, UNFINISHED) and said, 60)
    return f"{first}, then {last}"


def said_by_kind(load: Load) -> dict[str, set[object]]:
    counted = Counter((each.who.rpartition(" ")[0], each.said) for each in load.outcomes)
    for (kind, said), count in sorted(counted.items(), key=str):
        print(f"{kind}: {said}: {count}")  # noqa: T201  # pytest -s shows how much was called
    return {kind: {said for who, said in counted if who == kind} for kind in MANY}


def test_rolling_restarts_of_servers_and_envoy_fail_no_call(
    own_stack: Stack, callers: dict[str, Call], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    envoy, admin = own_stack.envoy, own_stack.envoy_admin_url
    with ExitStack() as envoys, under_load(callers, pause=0) as load:
        for n in range(pytestconfig.getoption("rounds")):
            terminate(own_stack.servers[n % 3])
            eventually(lambda admin=admin: servers_in_use(own_stack, admin) == 3, 40)
            following, its_admin = envoys.enter_context(envoy_beside(own_stack, tmp_path / str(n)))
            following.start()
            drain(admin)
            envoy.stop()
            envoy, admin = following, its_admin
    assert said_by_kind(load) == {
        "read by rest": {"200"},
        "read by grpc": {"OK"},
        "join by rest": {"200"},
        "join by grpc": {"OK"},
        "create by rest": {"201"},
        "create by grpc": {"OK"},
    }


def terminate(server: Process) -> None:
    """End it as an update does, which waits for longer than `stop`, and start the new one."""
    server.terminate()
    eventually(lambda: server.ended, 30)
    server.start()


def test_killed_servers_fail_no_read_and_no_join_and_of_creates_only_what_a_repetition_mends(
    own_stack: Stack, callers: dict[str, Call], pytestconfig: pytest.Config
) -> None:
    with under_load(callers, pause=0) as load:
        for n in range(pytestconfig.getoption("rounds")):
            own_stack.servers[n % 3].kill()
            own_stack.servers[n % 3].start()
            eventually(lambda: servers_in_use(own_stack) == 3, 40)
    said = said_by_kind(load)
    assert said.pop("create by rest") <= {"201", "503, then 201"}
    assert said.pop("create by grpc") <= {"OK", "UNAVAILABLE, then OK"}
    assert said == {
        "read by rest": {"200"},
        "read by grpc": {"OK"},
        "join by rest": {"200"},
        "join by grpc": {"OK"},
    }
