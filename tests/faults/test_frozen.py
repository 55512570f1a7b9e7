"""A process that is frozen, or that another holds up, is not needed: the others go on, and nothing is done twice."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from os import kill

import psycopg
import pytest

from sandbox.process import Process
from tests.clients import eventually
from tests.faults.steps import (
    FAILED_STOP,
    STOP,
    Own,
    has_ended,
    is_completed,
    leave_hanging,
    make_due,
    own_stack,
    running,
    said_to,
)
from tests.servers import run


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """Two servers, of which one can be frozen."""
    with own_stack(workers=2) as running:
        yield running


@contextmanager
def frozen(*servers: Process) -> Iterator[None]:
    for server in servers:
        kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            kill(server.pid, signal.SIGCONT)


def leave_stop_unfinished(own: Own) -> str:
    room = str(own.rest.recording()["roomName"])
    own.daily.fault("status", "POST", STOP.format(room), status=503, times=4)
    assert said_to(own.rest, "stop", room) == FAILED_STOP
    return room


def status(own: Own, room: str) -> str:
    row = own.database.execute("SELECT status FROM sessions WHERE room_name = %s", [room]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_what_is_due_is_done_while_one_process_is_frozen(own: Own, which: int) -> None:
    room = leave_stop_unfinished(own)
    with frozen(own.stack.servers[which]):
        make_due(own.database, room)
        eventually(lambda: status(own, room) == "ended")
    assert running(own.daily, room) == []


@pytest.mark.parametrize("first", [0, 1], ids=["first", "second"])
def test_a_process_that_was_frozen_in_the_midst_of_an_end_undoes_nothing_when_it_goes_on(own: Own, first: int) -> None:
    room = leave_stop_unfinished(own)
    own.daily.fault("delay", "POST", STOP.format(room), seconds=0.5, times=1)
    before = own.daily.calls("POST /rooms/:name/recordings/stop")
    make_due(own.database, room)
    eventually(lambda: own.daily.calls("POST /rooms/:name/recordings/stop") > before)
    here, other = own.stack.servers[first], own.stack.servers[1 - first]
    with frozen(other):
        with frozen(here):
            eventually(lambda: running(own.daily, room) == [])
        make_due(own.database, room)
        eventually(lambda: status(own, room) == "ended")
        row = own.database.execute("SELECT ends_at FROM sessions WHERE room_name = %s", [room]).fetchone()
    eventually(lambda: is_completed(own.rest, room))
    assert has_ended(own.rest, room)
    assert own.database.execute("SELECT ends_at FROM sessions WHERE room_name = %s", [room]).fetchone() == row
    assert len(own.daily.recordings(room)) == 1


def test_a_delete_that_a_frozen_process_had_begun_is_finished_by_another(own: Own) -> None:
    room = own.rest.create()["roomName"]
    own.daily.fault("hang", "DELETE", f"/rooms/{room}")
    leave_hanging(own.rest, own.daily, "delete", room, "DELETE /rooms/:name")
    here, other = own.stack.servers
    for one, two in ((here, other), (other, here)):
        with frozen(one):
            own.daily.clear_faults()
            make_due(own.database, room)
            eventually(lambda: room not in own.daily.rooms())
        assert not two.ended
    assert status(own, room) == "ended"


def test_a_migration_does_not_wait_behind_somebody_s_psql_and_hold_up_all_others(own: Own) -> None:
    name = "migrated_behind_a_lock"
    own.database.execute(f"CREATE DATABASE {name}")
    url = own.stack.database_url.replace("/postgres?", f"/{name}?")
    assert url != own.stack.database_url
    settings = own.stack.environment | {"LIVE_SESSIONS_DATABASE_URL": url}
    with psycopg.connect(url, autocommit=True) as psql:
        psql.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        with psql.transaction():
            psql.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            ended = run("migrate", settings=settings)
    assert ended.returncode == 1
    assert "canceling statement due to lock timeout" in ended.stderr
    assert run("migrate", settings=settings).returncode == 0
