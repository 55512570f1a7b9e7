"""The primary dies under load and its synchronous standby is promoted: nothing that was acknowledged is lost, and the
server goes on by itself."""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

import grpc
import psycopg

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.ports import HOST
from sandbox.stack import Stack
from tests.clients import EXAMPLE, bearer, eventually
from tests.crash.network import Link, running_network
from tests.load import Load, under_load
from tests.servers import run, serving
from tests.standby import directory_of, pair, socket_of

CALLERS = 8
WRITES_AGAIN = 5
"""Seconds after the promotion."""
URL = "LIVE_SESSIONS_DATABASE_URL"


class Writer:
    """Creates sessions and joins them; what was acknowledged."""

    def __init__(self, stack: Stack, stub: LiveSessionsStub) -> None:
        self._stub = stub
        self._numbers = count()
        self._ada = bearer(stack.token("failover-ada", "Ada", "instructor"))
        self._token = lambda user: bearer(stack.token(user, user, "student"))
        self.created: list[str] = []
        self.joined: list[tuple[str, str]] = []

    def write(self) -> str:
        create = rpc.CreateLiveSessionRequest(course_id="algebra")
        create.starts_at.FromJsonString(EXAMPLE["startsAt"])
        user = f"failover-{next(self._numbers)}"
        try:
            room = self._stub.CreateLiveSession(create, metadata=self._ada, timeout=5).room_name
            self.created.append(room)
            join = rpc.GetSessionTokenRequest(session_name=room)
            self._stub.GetSessionToken(join, metadata=self._token(user), timeout=5)
            self.joined.append((room, user))
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def callers(self) -> dict[str, Callable[[], str]]:
        return {f"caller {number}": self.write for number in range(CALLERS)}


def lost(url: str, writer: Writer) -> tuple[set[str], set[tuple[str, str]]]:
    """What was acknowledged and is not there."""
    with psycopg.connect(url) as database:
        rooms = {room for (room,) in database.execute("SELECT room_name FROM sessions")}
        joins = "SELECT room_name, user_id FROM participants JOIN sessions ON sessions.id = session_id"
        return set(writer.created) - rooms, set(writer.joined) - set(database.execute(joins).fetchall())


def all_write(load: Load, seconds: float) -> None:
    eventually(lambda: all(load.last(f"caller {number}", 3) == ["OK"] * 3 for number in range(CALLERS)), seconds)


def test_a_primary_that_dies_loses_no_acknowledged_write_and_its_standby_is_found(stack: Stack, tmp_path: Path) -> None:
    with pair() as (primary, standby):
        url = f"postgresql://postgres@/postgres?host={directory_of(primary)},{directory_of(standby)}"
        settings = stack.environment | {URL: url}
        assert run("migrate", settings=settings).returncode == 0
        with serving(settings, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
            writer = Writer(stack, LiveSessionsStub(channel))
            with under_load(writer.callers()) as load:
                all_write(load, 30)
                primary.kill()
                eventually(lambda: all(load.last(name, 1) == ["UNAVAILABLE"] for name in writer.callers()), 30)
                standby.promote()
                all_write(load, WRITES_AGAIN)
            assert server.process.poll() is None
            assert {each.said for each in load.outcomes} == {"OK", "UNAVAILABLE"}
        assert lost(standby.url, writer) == (set(), set())
    assert len(writer.joined) >= 2 * 3 * CALLERS  # before and after


def test_an_address_that_leads_to_a_read_only_server_for_a_while_heals(stack: Stack, tmp_path: Path) -> None:
    with pair() as (primary, standby), running_network() as network:
        there = [socket_of(primary)]
        link = network._started(Link(lambda: asyncio.open_unix_connection(there[0])))
        url = f"postgresql://postgres@{HOST}:{link.port}/postgres"
        settings = stack.environment | {URL: url}
        assert run("migrate", settings=settings).returncode == 0
        with serving(settings, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
            writer = Writer(stack, LiveSessionsStub(channel))
            with under_load(writer.callers()) as load:
                all_write(load, 30)
                there[0] = socket_of(standby)
                primary.kill()
                eventually(lambda: "session is read-only" in server.log.read_text(), 30)
                eventually(lambda: all(load.last(name, 1) == ["UNAVAILABLE"] for name in writer.callers()), 30)
                standby.promote()
                all_write(load, WRITES_AGAIN)
            assert server.process.poll() is None
        assert lost(standby.url, writer) == (set(), set())
