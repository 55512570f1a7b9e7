"""Connections to PostgreSQL: what becomes of calls on those that are lost, read-only or refused, and what is said."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from sandbox.ports import HOST
from sandbox.stack import Stack
from server.daily.gateway import RATES
from storage.errors import StorageDefect, StorageUnavailable
from storage.model import Admission, Role
from storage.store import Store, Transaction
from storage.url import dialled
from tests.clients import eventually
from tests.crash.network import running_network
from tests.databases import at, migrate, new_database, new_user

ROOM = "connections"
SESSION = """
INSERT INTO sessions (course_id, room_name, starts_at, created_by, room_created_at)
VALUES ('algebra', %s, now(), 'ada', now())
"""
CANNOT_WRITE = r"^25006 cannot execute (INSERT|SELECT) in a read-only transaction$"
SECRET = "user-{}".format("4e1d")  # a traceback shows lines of this file
SAM = (ROOM, "sam", "sam", None, Role.STUDENT)


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    """A database of its own, with a session."""
    with new_database(stack.database_url) as url:
        prepare(url)
        yield url


def prepare(url: str) -> None:
    migrate(url)
    execute(url, SESSION, ROOM)


def execute(url: str, statement: str, *values: object) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(statement.encode(), values)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = Store(url, RATES)
    try:
        yield store
    finally:
        await store.close()


async def read(tx: Transaction) -> None:
    await tx.queue.waiting()


async def write(tx: Transaction) -> None:
    await tx.chores.add(["sweep"])


async def write_alone(store: Store) -> None:
    async with store.statement() as tx:
        await tx.chores.add(["sweep"])


async def admit(store: Store, user: str) -> Admission | None:
    return await store.admission((ROOM, user, user, "a new name", Role.STUDENT))


# Read-only


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Whoever connects meanwhile can never write, as at an address that leads to a standby for a while."""
    name = urlsplit(url).path[1:]
    execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as database:
        database.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())


async def test_read_only_connections_of_every_kind_are_thrown_away_at_the_first_write(url: str) -> None:
    async with opened(f"{url}&target_session_attrs=any") as store:
        with read_only(url):
            await asyncio.gather(*(store.run(read) for _ in range(4)))
            await asyncio.gather(*(store._hot.sessions([ROOM]) for _ in range(4)))
            assert await store.budgets.recall_domain("fingerprint") is None
            for written in (store.run(write), write_alone(store), admit(store, "sam")):
                with pytest.raises(StorageUnavailable, match=CANNOT_WRITE):
                    await written
            await asyncio.gather(*(store.run(read) for _ in range(4)))
        with pytest.raises(StorageUnavailable, match=CANNOT_WRITE):
            await store.run(write)
        await asyncio.gather(*(store.run(write) for _ in range(4)))
        await store.budgets.remember_domain("fingerprint", "domain")
        assert await admit(store, "sam")
        await store.look()


async def test_a_server_that_takes_no_writes_is_not_connected_to(url: str) -> None:
    async with opened(url) as store:
        with read_only(url), pytest.raises(StorageUnavailable, match="session is read-only"):
            await store.run(read)
        await store.run(write)


async def test_a_look_finds_a_server_that_takes_no_writes_unavailable(url: str) -> None:
    async with opened(f"{url}&target_session_attrs=any") as store:
        with read_only(url), pytest.raises(StorageUnavailable, match=r"^the server is read-only$"):
            await store.look()
        await store.look()


# Refused


async def test_where_no_further_connection_is_given_all_wait_for_those_that_are_there(stack: Stack) -> None:
    """One of each kind, and of this server's looks; those that would be nice to have besides are refused."""
    with (
        new_user(stack.database_url, "CONNECTION LIMIT 6") as user,
        new_database(stack.database_url, user) as url,
    ):
        prepare(url)
        async with opened(url) as store:
            await store.look()
            await store.take_hold()
            with pytest.raises(StorageUnavailable, match=f'FATAL: too many connections for role "{user}"$'):
                await complain(url)
            calls = [store.run(write) for _ in range(20)] + [write_alone(store) for _ in range(10)]
            calls += [store._hot.admissions([SAM]) for _ in range(10)]
            calls += [store.events.committed(None, []) for _ in range(10)]
            calls += [store.budgets.recall_domain("fingerprint") for _ in range(10)]
            await asyncio.gather(*calls)
            await store.look()


async def test_a_first_host_that_does_not_answer_keeps_no_call_from_the_second(url: str) -> None:
    """Calls in batches are the least patient: they wait for 3 s."""
    with running_network() as network:
        [directory] = parse_qs(urlsplit(url).query)["host"]
        silent = network.link_to_socket(f"{directory}/.s.PGSQL.5432")
        network.set_open(silent, open=False)
        name = urlsplit(url).path
        async with opened(f"postgresql://postgres@{name}?host={HOST},{directory}&port={silent.port},5432") as store:
            assert await store.session(ROOM)
            await store.budgets.remember_domain("fingerprint", "domain")
            await store.run(write)


# Undone


async def test_admissions_that_stood_in_anothers_way_are_made_again(url: str) -> None:
    execute(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET deadlock_timeout = '3s'")
    async with opened(url) as store:
        await asyncio.gather(admit(store, "a"), admit(store, "b"))
        rename = "UPDATE participants SET name = 'yet another' WHERE user_id = %s"
        execute(url, "UPDATE participants SET name = 'another'")
        async with await psycopg.AsyncConnection.connect(url, options="-c deadlock_timeout=60s") as other:  # not undone
            await other.execute(rename, ["b"])
            asked = [(ROOM, user, user, "a new name", Role.STUDENT) for user in ("a", "b")]
            both = asyncio.create_task(store._hot.admissions(asked))
            await asyncio.to_thread(eventually, lambda: is_waited(url))
            await other.execute(rename, ["a"])
            await other.commit()
        assert [bool(admission) for admission in await both] == [True, True]


def is_waited(url: str) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(url) as database:
        return database.execute(query).fetchone() is not None


# What is said


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            f"postgresql://ada:pass-5b1c@{HOST}:1/x",
            f'connection failed: connection to server at "{HOST}", port 1 failed: ',
        ),
        ("postgresql://ada:pass-5b1c@db.invalid/x", "failed to resolve host 'db.invalid': "),
        (
            f"postgresql://ada:pass-5b1c@{HOST}:1,{HOST}:2/x",
            f"- host: '{HOST}', port: '1', hostaddr: '{HOST}': connection failed: connection to server at ",
        ),
    ],
    ids=["refused", "unknown host", "several hosts"],
)
async def test_what_keeps_us_from_postgresql_is_said_on_one_line_without_the_password(place: str, said: str) -> None:
    text = await complaint(place)
    assert text.startswith(said)
    assert "\n" not in text
    assert "pass-5b1c" not in text


async def test_a_missing_database_and_a_wrong_password_are_said(stack: Stack, guarded: str) -> None:
    assert (await complaint(at(stack.database_url, "nowhere"))).endswith('FATAL: database "nowhere" does not exist')
    wrong = at(stack.database_url, "postgres", guarded, "pass-5b1c")
    assert (await complaint(wrong)).endswith(f'FATAL: password authentication failed for user "{guarded}"')


@pytest.fixture
def guarded(stack: Stack) -> Iterator[str]:
    """A user who must know a password."""
    assert stack.postgres is not None
    file = stack.postgres.data / "pg_hba.conf"
    rules = file.read_text()
    with new_user(stack.database_url, "PASSWORD 'pass-9c2d'") as user:
        file.write_text(f"local all {user} scram-sha-256\n{rules}")
        execute(stack.database_url, "SELECT pg_reload_conf()")
        yield user
        file.write_text(rules)
        execute(stack.database_url, "SELECT pg_reload_conf()")


async def complaint(url: str) -> str:
    with pytest.raises(StorageUnavailable) as refused:
        await complain(url)
    return str(refused.value)


async def complain(url: str) -> None:
    async with opened(url) as store:
        await store.look()


def test_what_a_url_says_of_connecting_and_keeping_alive_is_done() -> None:
    said = conninfo_to_dict(dialled("postgresql://a/b?connect_timeout=9&keepalives_idle=60"))
    assert {name: said[name] for name in ("connect_timeout", "keepalives_idle", "keepalives_count")} == {
        "connect_timeout": "9",
        "keepalives_idle": "60",
        "keepalives_count": "3",
    }


async def test_a_connection_that_postgresql_ends_in_the_middle_is_said(url: str) -> None:
    async with opened(url) as store:
        with pytest.raises(StorageUnavailable, match=r"^57P01 terminating connection due to administrator command$"):
            await store.run(end_of_itself)


async def end_of_itself(tx: Transaction) -> None:
    await tx._connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_what_postgresql_refuses_is_said_without_what_the_rows_and_the_statement_contain(url: str) -> None:
    async with opened(url) as store:
        assert await admit(store, SECRET)
        with pytest.raises(StorageDefect, match=r"^23505 UniqueViolation participants ") as refused:
            await store.run(twice)
        with pytest.raises(StorageDefect) as refused_again:
            await store.run(twice_behind_a_savepoint)
    told = "".join(map("".join, map(traceback.format_exception, (refused.value, refused_again.value))))
    assert "in twice\n" in told
    assert SECRET not in told


async def twice(tx: Transaction) -> None:
    statement = "INSERT INTO participants (session_id, user_id, daily_user_id, role) SELECT id, :user, :user, 'student'"
    await tx._connection.execute(text(f"{statement} FROM sessions"), {"user": SECRET})


async def twice_behind_a_savepoint(tx: Transaction) -> None:
    async with tx.savepoint():
        await twice(tx)
