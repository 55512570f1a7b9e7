"""From 1.0 to now: what its servers left unfinished is due, and its events that were not applied wait to be."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from subprocess import PIPE, Popen
from typing import Any, LiteralString

import psycopg
import pytest

from sandbox.stack import Stack
from storage import migrations
from storage.errors import StorageError, StorageUnavailable
from tests.databases import migrate, migrated, new_database
from tests.servers import ROOT

OF_1_0 = "0002"
LINES = """
SELECT 'end' AS line, room_name FROM sessions
    WHERE end_requested_at IS NOT NULL AND ends_at IS NULL AND due_at IS NOT NULL
UNION ALL SELECT 'closing', room_name FROM sessions WHERE ends_at IS NOT NULL AND due_at IS NOT NULL
UNION ALL SELECT 'session', room_name FROM sessions
    WHERE end_requested_at IS NULL AND ends_at IS NULL AND due_at IS NOT NULL
UNION ALL SELECT 'start', room_name FROM recordings JOIN sessions ON sessions.id = session_id
    WHERE recording_id IS NULL AND recordings.due_at IS NOT NULL
UNION ALL SELECT 'recording', room_name FROM recordings JOIN sessions ON sessions.id = session_id
    WHERE recording_id IS NOT NULL AND recordings.due_at IS NOT NULL
"""


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    """A database as 1.0 made it."""
    with new_database(stack.database_url) as url:
        migrate(url, OF_1_0)
        yield url


@pytest.fixture
def old(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as database:
        yield database


def session(database: psycopg.Connection, room: str, **columns: object) -> Any:
    """One with its room, unless told otherwise."""
    row = {"room_name": room, "course_id": "c", "created_by": "ada", "starts_at": "2026-01-05T09:00Z"}
    return insert(database, "sessions", row | {"room_created_at": "2026-01-05T08:00Z"} | columns)


def recording(database: psycopg.Connection, session_id: object, **columns: object) -> Any:
    return insert(database, "recordings", {"session_id": session_id, "made_live": True} | columns)


def insert(database: psycopg.Connection, table: str, row: dict[str, object]) -> Any:
    names, values = ", ".join(row), ", ".join(["%s"] * len(row))
    inserted = database.execute(f"INSERT INTO {table} ({names}) VALUES ({values}) RETURNING id", list(row.values()))
    [id] = inserted.fetchone() or [None]
    return id


def test_what_was_unfinished_is_due(url: str, old: psycopg.Connection) -> None:
    asked = "2026-01-05T09:30Z"
    session(old, "planned")
    session(old, "abandoned", room_created_at=None)
    starting = session(old, "starting", status="live")
    recording(old, starting)
    stopping = session(old, "stopping", status="live")
    recording(old, stopping, recording_id="r1", started_at="2026-01-05T09:00Z", stop_requested_at=asked)
    session(old, "deleting", delete_requested_at=asked)
    stopped = session(old, "stopped", status="ended", ends_at=asked)
    recording(old, stopped, recording_id="r2", status="completed", started_at="2026-01-05T09:00Z", stopped_at=asked)
    session(old, "deleted", status="ended", ends_at=asked, delete_requested_at=asked, room_deleted_at=asked)

    migrations.upgrade(url)

    due: dict[str, set[str]] = {}
    for line, room in old.execute(LINES):
        due.setdefault(line, set()).add(room)
    assert due == {
        "end": {"stopping", "deleting"},
        "closing": {"stopped"},
        "session": {"planned", "abandoned", "starting"},
        "start": {"starting"},
        "recording": {"stopping", "stopped"},
    }
    ends = old.execute(
        "SELECT room_name, end_requested_at = %s FROM sessions WHERE end_requested_at IS NOT NULL", [asked]
    )
    assert dict(ends.fetchall()) == {"stopping": True, "deleting": True, "stopped": True, "deleted": True}


def test_what_1_0_had_asked_daily_to_record_is_known_by_its_instance(url: str, old: psycopg.Connection) -> None:
    id = recording(old, session(old, "starting", status="live"))
    migrations.upgrade(url)
    assert old.execute("SELECT id, instance_id FROM recordings").fetchall() == [(id, id)]


def test_events_that_were_not_applied_wait_to_be(url: str, old: psycopg.Connection) -> None:
    for id, applied_at in (("waits", None), ("applied", "2026-01-05T09:00Z")):
        event = {"id": id, "type": "meeting.started", "body": '{"id": "é"}', "applied_at": applied_at}
        insert(old, "webhook_events", event)
    migrations.upgrade(url)
    kept = old.execute("SELECT id, type, convert_from(body, 'UTF8'), due_at IS NOT NULL FROM daily_events").fetchall()
    assert kept == [("waits", "meeting.started", '{"id": "é"}', True)]


@pytest.mark.parametrize("times", [1, 2], ids=["an empty database", "one that is migrated already"])
def test_many_may_migrate_at_once(stack: Stack, times: int) -> None:
    """Processes, for Alembic's state is the process's."""
    code = "import sys; from storage import migrations; print(flush=True); input(); migrations.upgrade(sys.argv[1])"
    with new_database(stack.database_url) as url, ExitStack() as running:
        for _ in range(times):
            command = [sys.executable, "-c", code, url]
            those = [running.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, cwd=ROOT)) for _ in range(4)]
            for one in those:
                assert one.stdout
                assert one.stdout.readline()  # it only waits for the word
            for one in those:
                assert one.stdin
                one.stdin.write(b"\n")
                one.stdin.flush()
            assert [one.wait(60) for one in those] == [0] * 4
        migrations.check(url)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("DROP TRIGGER tell_session ON sessions", "tell_session on sessions"),
        ("ALTER TABLE connections DISABLE TRIGGER USER", "tell_new_stays on connections, tell_stays on connections"),
        ("DROP FUNCTION tell", "tell()"),
    ],
)
def test_a_database_in_which_nothing_tells_of_changes_is_found(
    stack: Stack, change: LiteralString, missing: str
) -> None:
    """As one may be that was restored from a dump of the tables alone."""
    with migrated(stack.database_url) as url:
        migrations.check(url)
        with psycopg.connect(url, autocommit=True) as database:
            database.execute(change)
        with pytest.raises(StorageError, match=f"^missing or disabled: {re.escape(missing)}$"):
            migrations.check(url)


def test_what_is_checked_for_is_all_that_the_migrations_make(stack: Stack) -> None:
    with migrated(stack.database_url) as url, psycopg.connect(url) as database:
        assert {name for (name,) in database.execute(migrations.THERE)} == migrations.TELLING


def test_a_migration_that_finds_a_table_in_use_gives_up_soon_and_can_be_repeated(
    url: str, old: psycopg.Connection
) -> None:
    with old.transaction():
        old.execute("LOCK TABLE sessions IN ACCESS SHARE MODE")
        with pytest.raises(StorageUnavailable, match="lock timeout"):
            migrations.upgrade(url)
    migrations.upgrade(url)
    migrations.check(url)


def test_what_was_there_before_is_told_of_from_its_next_change(url: str, old: psycopg.Connection) -> None:
    stopped = session(old, "stopped", status="live")
    recording(old, stopped, recording_id="r1", started_at="2026-01-05T09:00Z")
    migrations.upgrade(url)
    assert old.execute("SELECT count(*) FROM session_events").fetchone() == (0,)
    old.execute("UPDATE sessions SET course_id = 'd'")
    told = old.execute("SELECT session_id, revision, type, state->>'course_id' FROM session_events").fetchall()
    assert told == [(stopped, 1, "session.updated", "d")]
