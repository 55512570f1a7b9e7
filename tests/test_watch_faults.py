"""Those who follow a class while servers drain and die, PostgreSQL is away, and clients stop reading or go away. On a
stack of its own, which it hurts."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import psycopg
import pytest

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer, LiveSessionsStub
from sandbox.ports import HOST, free_port
from sandbox.process import Process
from sandbox.stack import Stack
from server.rpc import interceptors
from server.rpc.auth import Authenticator
from server.rpc.serving import serving as serving_here
from tests.clients import Rest, error_info, eventually, http_client, new_stack, servers_in_use
from tests.databases import frozen
from tests.servers import serving
from tests.watchers import Follower, Watcher, followers, following, stream_of

Code = grpc.StatusCode
ME = "faults-ada"
COME_BACK = "The stream ends here: come back with the last revision"
FOLLOWERS = 12


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with new_stack(workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def own_rest(own: Stack) -> Iterator[Rest]:
    with http_client(own.rest_url) as client:
        yield Rest(own, client)


@pytest.fixture(scope="module")
def proxy(own: Stack) -> Iterator[LiveSessionsStub]:
    with grpc.insecure_channel(own.grpc_proxy) as channel:
        yield LiveSessionsStub(channel)


@pytest.fixture
def room(own_rest: Rest) -> str:
    return str(own_rest.create(ME)["roomName"])


@pytest.fixture
def ada(own_rest: Rest) -> str:
    return own_rest.token(ME)


@pytest.fixture(autouse=True)
def all_serve(own: Stack) -> None:
    for server in own.servers:
        if server.ended:
            server.start()
    eventually(lambda: servers_in_use(own) == len(own.servers), 40)


def change(own: Stack, room: str, *limits: int) -> None:
    """As somebody else's server would."""
    with psycopg.connect(own.database_url, autocommit=True) as database:
        for limit in limits:
            database.execute("UPDATE sessions SET max_participants = %s WHERE room_name = %s", [limit, room])


def told_all(everybody: list[Follower], last: int) -> bool:
    return all(one.revisions and one.revisions[-1] == last for one in everybody)


def busiest(own: Stack) -> Process:
    """The server that has most of the streams."""
    answer = httpx.get(f"{own.envoy_admin_url}/clusters?format=json", trust_env=False).json()
    active = dict.fromkeys(own.grpc_targets, 0)
    [servers] = [each for each in answer["cluster_statuses"] if each["name"] == "live_sessions"]
    for host in servers["host_statuses"]:
        address = host["address"]["socket_address"]
        stats = {stat["name"]: int(stat.get("value", 0)) for stat in host["stats"]}
        active[f"{address['address']}:{address['port_value']}"] += stats["rq_active"]
    return max(zip(active.values(), own.servers, strict=True), key=lambda each: each[0])[1]


def outages(own: Stack) -> int:
    """How often a server has noticed that it cannot read what is committed."""
    return sum(server.log.read_text().count("events cannot be read") for server in own.servers)


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_when_a_server_goes_its_followers_go_on_at_another_and_miss_nothing(
    own: Stack, proxy: LiveSessionsStub, room: str, ada: str, how: str
) -> None:
    with followers(proxy, room, ada, FOLLOWERS) as everybody:
        change(own, room, *range(1, 20))
        server = busiest(own)
        getattr(server, how)()
        change(own, room, *range(20, 40))
        eventually(lambda: sum(len(one.endings) for one in everybody) >= 1)
        change(own, room, *range(40, 60))
        eventually(lambda: told_all(everybody, 60))
        assert [one.revisions for one in everybody] == [list(range(1, 61))] * FOLLOWERS
        endings = [ending for one in everybody for ending in one.endings]
    eventually(lambda: server.ended, 30)
    if how == "terminate":  # and whom Envoy sent back to a server that drains, it sent on to the other
        assert set(endings) == {(Code.UNAVAILABLE, COME_BACK)}
        assert max(len(one.endings) for one in everybody) == 1


def test_streams_end_as_soon_as_a_server_drains_and_say_so(
    own: Stack, own_rest: Rest, room: str, tmp_path: Path
) -> None:
    with serving(own.environment, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
        stub = LiveSessionsStub(channel)
        watchers = [Watcher(stub, room).opened() for _ in range(20)]
        server.process.terminate()
        assert {watcher.code() for watcher in watchers} == {Code.UNAVAILABLE}
        assert server.process.poll() is None  # it drains still
        assert {error_info(watcher.error).reason for watcher in watchers} == {"ERROR_REASON_STREAM_ENDED"}
        late = Watcher(stub, room)
        assert (late.code(), late.told) == (Code.UNAVAILABLE, [])
        assert server.process.wait(30) == 0
        log = server.log.read_text()
    assert "Traceback" not in log
    assert "unavailable" not in log


def test_streams_outlast_an_outage_of_postgresql(own: Stack, proxy: LiveSessionsStub, room: str, ada: str) -> None:
    assert own.postgres is not None
    with following(proxy, room, ada) as watcher, following(proxy, room) as other:
        change(own, room, 1, 2)
        eventually(lambda: watcher.reached(3) and other.reached(3))
        before = outages(own)
        own.postgres.stop()
        eventually(lambda: outages(own) > before)
        own.postgres.start()
        change(own, room, 3, 4)
        eventually(lambda: watcher.reached(5) and other.reached(5), 30)
        change(own, room, 5)
        eventually(lambda: watcher.reached(6) and other.reached(6))
        assert watcher.revisions == other.revisions == [1, 2, 3, 4, 5, 6]


def test_what_was_told_and_then_lost_with_its_database_is_put_right(
    own: Stack, proxy: LiveSessionsStub, room: str, ada: str
) -> None:
    """As when a standby takes over that had not heard of the last commits."""
    assert own.postgres is not None
    with following(proxy, room, ada) as watcher:
        change(own, room, 1, 2)
        eventually(lambda: watcher.reached(3))
        of_room = "USING sessions WHERE id = session_id AND room_name = %s"
        with psycopg.connect(own.database_url, autocommit=True) as database:
            database.execute("ALTER TABLE sessions DISABLE TRIGGER USER")
            database.execute(f"DELETE FROM session_events {of_room} AND session_events.revision > 2", [room])
            database.execute("UPDATE sessions SET revision = 2, max_participants = 1 WHERE room_name = %s", [room])
            database.execute("ALTER TABLE sessions ENABLE TRIGGER USER")
        before = outages(own)
        own.postgres.stop()
        eventually(lambda: outages(own) > before)
        own.postgres.start()
        eventually(lambda: [event.session.max_participants for event in watcher.told][-1:] == [1], 30)
        change(own, room, 9)
        eventually(lambda: watcher.told[-1].session.max_participants == 9)
        assert watcher.revisions == [1, 2, 3, 2, 3]


def test_a_change_is_told_though_the_connection_that_is_asked_for_it_answers_no_more(
    own: Stack, proxy: LiveSessionsStub, room: str, ada: str
) -> None:
    query = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot%' AND pid <> pg_backend_pid()"
    with following(proxy, room, ada) as watcher:
        change(own, room, 1)
        eventually(lambda: watcher.reached(2))
        with psycopg.connect(own.database_url, autocommit=True) as database:
            pids = [pid for (pid,) in database.execute(query)]
        with frozen(pids):
            change(own, room, 2)
            eventually(lambda: watcher.reached(3))
        assert watcher.revisions == [1, 2, 3]


# Clients


class Talkative(LiveSessionsServicer):
    """Has always more to tell."""

    async def WatchLiveSession(self, request: rpc.WatchLiveSessionRequest, context: object) -> AsyncIterator[bytes]:  # type: ignore[override]  # noqa: N802
        message = pb.LiveSessionEvent(revision=1, session=pb.LiveSession(course_id="x" * 1000)).SerializeToString()
        while True:
            yield message


async def test_a_client_that_takes_nothing_is_let_go_and_reads_why_when_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(interceptors, "TAKEN", 0.5)
    gone = asyncio.Event()
    monkeypatch.setattr(interceptors, "_abort", telling(interceptors._abort, gone))
    with free_port() as port:
        address = f"{HOST}:{port}"
        async with (
            serving_here(Talkative(), Authenticator(secret="x" * 32), address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            stream = LiveSessionsStub(channel).WatchLiveSession(rpc.WatchLiveSessionRequest())
            assert await stream.read()
            await asyncio.wait_for(gone.wait(), 20)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await to_its_end(stream)
    assert (ended.value.code(), ended.value.details()) == (Code.ABORTED, "The client does not read")
    assert caplog.records == []


def telling(act: Callable[..., Awaitable[None]], done: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def wrapped(*args: object) -> None:
        done.set()
        await act(*args)

    return wrapped


async def to_its_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


def looks(own: Stack) -> list[object]:
    """When PostgreSQL was last asked for what was committed."""
    query = (
        "SELECT query_start FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot%' AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(own.database_url, autocommit=True) as database:
        return sorted(database.execute(query).fetchall())


def test_when_the_last_browser_has_gone_nobody_asks_postgresql_any_more(own: Stack, room: str) -> None:
    before = looks(own)
    stream_of(own.rest_url, f"/sessions/{room}/events", {}, until=1)
    assert looks(own) != before

    def quiet() -> bool:
        asked = looks(own)
        time.sleep(1)
        return looks(own) == asked

    eventually(quiet)


def test_ten_thousand_streams_that_were_opened_and_cancelled_leave_nothing(
    own: Stack, own_rest: Rest, room: str, tmp_path: Path
) -> None:
    request = rpc.WatchLiveSessionRequest(session_name=room)

    def open_and_cancel(stub: LiveSessionsStub, count: int) -> None:
        for _ in range(count // 100):
            calls = [stub.WatchLiveSession(request) for _ in range(100)]
            for call in calls[:50]:
                next(call)
            for call in calls:
                call.cancel()

    with serving(own.environment, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
        stub, process = LiveSessionsStub(channel), psutil.Process(server.process.pid)
        open_and_cancel(stub, 5_000)
        before = process.memory_info().rss
        open_and_cancel(stub, 10_000)
        with following(stub, room):
            grown = process.memory_info().rss - before
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    assert grown < 8 << 20, f"{grown / 10_000:.0f} bytes a stream"  # one that is open takes some 30,000
