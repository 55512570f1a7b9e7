"""A server is ready once it has found PostgreSQL with its schema, and says why it is not; alive it is in any case."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from sandbox.stack import Stack
from storage import migrations
from tests.clients import eventually
from tests.databases import migrate, new_database
from tests.servers import NOT_SERVING, SERVING, Server, serving

URL = "LIVE_SESSIONS_DATABASE_URL"
OTHERS_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
DIFFER = "this machine's clock and PostgreSQL's differ by "
NEWEST = migrations.revisions()[0]


@pytest.fixture
def empty(stack: Stack) -> Iterator[str]:
    with new_database(stack.database_url) as url:
        yield url


@pytest.fixture
def server(stack: Stack, empty: str, tmp_path: Path) -> Iterator[Server]:
    """One on an empty database."""
    with serving(stack.environment | {URL: empty}, tmp_path / "log", ready=False) as running:
        yield running


def said(server: Server, what: str) -> list[str]:
    """The ends of its lines that contain this."""
    return [line.partition(what)[2] for line in server.log.read_text().splitlines() if what in line]


def looks(url: str, count: int) -> None:
    """Returns after so many more looks at the database, of two statements each."""
    query = """
        SELECT query_start FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'transaction_read_only|version_num'
    """
    with psycopg.connect(url, autocommit=True) as database:
        seen: set[object] = set()
        eventually(lambda: seen.update(database.execute(query).fetchall()) or len(seen) > 2 * count)


def test_a_server_is_ready_when_its_schema_is_there_and_until_then_says_once_what_is_missing(
    server: Server, empty: str
) -> None:
    looks(empty, 3)
    assert (server.liveness, server.readiness) == (SERVING, NOT_SERVING)
    migrate(empty, "0002")
    looks(empty, 3)
    assert (server.liveness, server.readiness) == (SERVING, NOT_SERVING)
    migrate(empty)
    eventually(lambda: server.readiness == SERVING)
    assert said(server, "not ready: ") == [
        f"the schema is missing, and {NEWEST} is needed: run `migrate`",
        f"the schema is 0002, and {NEWEST} is needed: run `migrate`",
    ]
    assert said(server, " WARNING ") == []


def test_a_server_does_not_begin_on_a_newer_schema_and_goes_on_when_it_comes(server: Server, empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as database:
        database.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")
        newer = f"the schema is of tomorrow, which is newer than this server, made for {NEWEST}"
        eventually(lambda: newer in said(server, "not ready: "))
        assert server.readiness == NOT_SERVING
        database.execute("UPDATE alembic_version SET version_num = %s", [NEWEST])
        eventually(lambda: server.readiness == SERVING)
        database.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")
        looks(empty, 3)
        assert server.readiness == SERVING


def test_a_clock_that_differs_from_postgresqls_is_warned_of_once_until_it_is_right_again(
    server: Server, empty: str
) -> None:
    """PostgreSQL's is made to: a function of ours stands before its own."""
    migrate(empty)
    eventually(lambda: server.readiness == SERVING)
    pushed = "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
    name = urlsplit(empty).path[1:]
    with psycopg.connect(empty, autocommit=True) as database:
        database.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog".encode())
        for episode, ahead in enumerate((9, -9), 1):
            change = f"{pushed} AS $$ SELECT pg_catalog.clock_timestamp() + interval '{ahead} s' $$"
            database.execute(change.encode())
            database.execute(OTHERS_END)  # they know the old search_path
            eventually(lambda episode=episode: len(said(server, DIFFER)) == episode)
            looks(empty, 3)
            database.execute("DROP FUNCTION public.clock_timestamp()")
            looks(empty, 3)
    assert [round(float(gap.removesuffix(" s"))) for gap in said(server, DIFFER)] == [9, 9]
