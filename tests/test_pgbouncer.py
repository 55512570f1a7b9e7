"""Behind a real PgBouncer in session mode, otherwise as it comes: the service connects, and keeps its time limits."""

import os
import shutil
import subprocess
from collections.abc import Iterator
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
from server.daily.client import RATES
from storage.store import Store
from tests.clients import Rest, bearer, eventually
from tests.servers import serving


@pytest.fixture(scope="module")
def bouncer(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the stack's database through PgBouncer."""
    if not shutil.which("pgbouncer"):
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    directory = tmp_path_factory.mktemp("pgbouncer")
    [socket_directory] = parse_qs(urlsplit(stack.database_url).query)["host"]
    with free_port() as port:
        file = directory / "pgbouncer.ini"
        file.write_text(
            f"[databases]\npostgres = host={socket_directory} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = session\n" + (f"user = {ACCOUNT}\n" if os.geteuid() == 0 else "")
        )
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(["pgbouncer", file], stdout=log, stderr=log)
        url = f"postgresql://postgres@{HOST}:{port}/postgres"
        try:
            eventually(lambda: process.poll() is None and connects(url))
            yield url
        finally:
            process.kill()
            process.wait(10)


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
