"""Behind a real PgBouncer, as it comes: in session mode the service connects, and keeps its time limits; in transaction
mode it refuses to serve."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.ports import HOST, free_port
from sandbox.postgres import ACCOUNT
from sandbox.stack import Stack
from server.daily.gateway import RATES
from storage.condition import LENDER
from storage.errors import StorageUnsuitable
from storage.store import Store
from tests.clients import Rest, bearer, eventually
from tests.servers import run, serving


@contextmanager
def running_bouncer(stack: Stack, directory: Path, *options: str) -> Iterator[str]:
    """The URL of the stack's database through PgBouncer."""
    if not shutil.which("pgbouncer"):
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    [socket_directory] = parse_qs(urlsplit(stack.database_url).query)["host"]
    with free_port() as port:
        file = directory / "pgbouncer.ini"
        lines = [
            "[databases]",
            f"postgres = host={socket_directory} user=postgres",
            "[pgbouncer]",
            f"listen_addr = {HOST}",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            *options,
            *([f"user = {ACCOUNT}"] if os.geteuid() == 0 else []),
        ]
        file.write_text("\n".join(lines))
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(["pgbouncer", file], stdout=log, stderr=log)
        url = f"postgresql://postgres@{HOST}:{port}/postgres"
        try:
            eventually(lambda: process.poll() is None and connects(url))
            yield url
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def bouncer(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_bouncer(stack, tmp_path_factory.mktemp("pgbouncer"), "pool_mode = session") as url:
        yield url


def connects(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("way", ["through PgBouncer", "directly"])
async def test_every_connection_has_its_time_limits(stack: Stack, request: pytest.FixtureRequest, way: str) -> None:
    store = Store(stack.database_url if way == "directly" else request.getfixturevalue("bouncer"), RATES)
    shown = {}
    async with await store._connect() as connection:
        for name in ("timezone", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            [shown[name]] = await (await connection.execute(f"SHOW {name}".encode())).fetchone()
    await store.close()
    assert shown == {
        "timezone": "UTC",
        "statement_timeout": "10s",
        "lock_timeout": "8s",
        "idle_in_transaction_session_timeout": "15s",
    }


def test_a_server_behind_it_serves(stack: Stack, rest: Rest, bouncer: str, tmp_path: Path) -> None:
    name, me = rest.create("bouncer-ada")["roomName"], bearer(rest.token("bouncer-ada"))
    environment = stack.environment | {"LIVE_SESSIONS_DATABASE_URL": bouncer}
    with serving(environment, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
        stub = LiveSessionsStub(channel)
        assert stub.GetLiveSession(rpc.GetLiveSessionRequest(session_name=name)).room_name == name
        assert stub.GetSessionToken(rpc.GetSessionTokenRequest(session_name=name), metadata=me).token
        ended = stub.DeleteLiveSession(rpc.DeleteLiveSessionRequest(session_name=name), metadata=me)
        assert ended.status == ended.ended


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_server_behind_one_that_lends_connections_ends_with_one_line(stack: Stack, tmp_path: Path, mode: str) -> None:
    with running_bouncer(stack, tmp_path, f"pool_mode = {mode}") as url, free_port() as port:
        address = {"LIVE_SESSIONS_GRPC_ADDRESS": f"{HOST}:{port}"}
        ended = run(settings=stack.environment | address | {"LIVE_SESSIONS_DATABASE_URL": url})
    lines = [line for line in ended.stderr.splitlines() if line.startswith("live-sessions: ")]
    assert (ended.returncode, lines) == (1, [f"live-sessions: {LENDER}"])
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("others", [0, 4], ids=["nobody else", "others who use it"])
@pytest.mark.parametrize("turn", ["server_round_robin = 0", "server_round_robin = 1"])
@pytest.mark.parametrize("size", ["default_pool_size = 1", "default_pool_size = 20"])
async def test_one_that_lends_connections_is_recognised_however_it_lends_them(
    stack: Stack, tmp_path: Path, others: int, turn: str, size: str
) -> None:
    with running_bouncer(stack, tmp_path, "pool_mode = transaction", turn, size) as url:
        busy = [asyncio.create_task(keep_busy(url)) for _ in range(others)]
        for _ in range(5):
            store = Store(url, RATES)
            with pytest.raises(StorageUnsuitable):
                await store.look()
            await store.close()
        for task in busy:
            task.cancel()


async def keep_busy(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None) as connection:
        while True:
            await connection.execute("SELECT 1")


async def test_in_session_mode_it_is_taken_for_none_that_lends(bouncer: str) -> None:
    busy = [asyncio.create_task(keep_busy(bouncer)) for _ in range(4)]
    store = Store(bouncer, RATES)
    assert (await store.look()).revision
    await store.close()
    for task in busy:
        task.cancel()
