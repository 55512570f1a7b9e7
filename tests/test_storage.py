"""What the database refuses by itself, whatever the code does; and that each hot query has its index."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.attendance import Attendance
from storage.deliveries import Deliveries
from storage.hot import ADMIT, BY_NAMES, LISTS
from storage.inbox import Inbox
from storage.model import Of, SessionStatus
from storage.moderation import Moderations
from storage.participants import RECOGNISE, Participants
from storage.queue import Line, Queue
from storage.recordings import Recordings
from storage.sessions import Sessions

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


class Rows:
    """Inserts rows in a transaction that is rolled back; what is not said is valid."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def session(self, **columns: object) -> UUID:
        return self._insert(
            "sessions",
            {"course_id": "algebra", "room_name": uuid4().hex, "starts_at": NOW, "created_by": "ada"} | columns,
        )

    def recording(self, session_id: UUID, **columns: object) -> UUID:
        return self._insert("recordings", {"session_id": session_id, "made_live": False} | columns)

    def participant(self, session_id: UUID, **columns: object) -> UUID:
        user = {"user_id": "sam", "daily_user_id": "sam", "role": "student"}
        return self._insert("participants", {"session_id": session_id} | user | columns)

    def connection(self, session_id: UUID) -> None:
        self._insert("connections", {"id": uuid4().hex, "session_id": session_id, "daily_user_id": "sam"})

    def _insert(self, table: str, row: dict[str, object]) -> Any:
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Placeholder, row)),
        )
        found = self._connection.execute(query, row).fetchone()
        assert found is not None
        return found[0]


@pytest.fixture
def rows(database: psycopg.Connection) -> Any:
    with database.transaction(force_rollback=True):
        yield Rows(database)


def refused_by(constraint: str, kind: type[psycopg.Error] = errors.CheckViolation) -> Any:
    return pytest.raises(kind, match=f'"{constraint}"')


def test_a_room_name_is_never_given_twice(rows: Rows) -> None:
    rows.session(room_name="algebra-1")
    with refused_by("sessions_room_name_key", errors.UniqueViolation):
        rows.session(room_name="algebra-1")


def test_an_idempotency_key_makes_one_session_per_instructor(rows: Rows) -> None:
    rows.session(created_by="ada", idempotency_key="k")
    rows.session(created_by="bob", idempotency_key="k")
    with refused_by("sessions_idempotency_key", errors.UniqueViolation):
        rows.session(created_by="ada", idempotency_key="k")


def test_a_session_has_one_running_recording_of_ours_at_most(rows: Rows) -> None:
    session = rows.session()
    rows.recording(session, status="completed")
    rows.recording(session, status="failed")
    rows.recording(session, instance_id=uuid4())
    rows.recording(session)  # from the button inside the call
    with refused_by("recordings_running", errors.UniqueViolation):
        rows.recording(session, instance_id=uuid4())


def test_two_rows_never_name_the_same_recording_at_daily(rows: Rows) -> None:
    rows.recording(rows.session(), recording_id="rec-1")
    with refused_by("recordings_recording_id", errors.UniqueViolation):
        rows.recording(rows.session(), recording_id="rec-1")


def test_a_user_is_one_participant_of_a_session(rows: Rows) -> None:
    session = rows.session()
    rows.participant(session)
    with refused_by("participants_session_id_user_id", errors.UniqueViolation):
        rows.participant(session, daily_user_id="other")


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"status": "ended"}, "sessions_ended_check"),
        ({"status": "scheduled", "ends_at": NOW}, "sessions_ended_check"),
        ({"status": "live", "ends_at": NOW}, "sessions_ended_check"),
        ({"status": "paused"}, "sessions_status_check"),
        ({"status": ""}, "sessions_status_check"),
        ({"max_participants": 0}, "sessions_max_participants_check"),
        ({"max_participants": -1}, "sessions_max_participants_check"),
    ],
)
def test_a_session_that_cannot_be_is_refused(rows: Rows, columns: dict[str, object], constraint: str) -> None:
    with refused_by(constraint):
        rows.session(**columns)


@pytest.mark.parametrize("status", ["processing", "completed", "failed"])
def test_every_documented_status_of_a_recording_is_kept(rows: Rows, status: str) -> None:
    assert rows.recording(rows.session(), status=status, duration=0)


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"status": "finished"}, "recordings_status_check"),
        ({"status": ""}, "recordings_status_check"),
        ({"duration": -1}, "recordings_duration_check"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(rows: Rows, columns: dict[str, object], constraint: str) -> None:
    session = rows.session()
    with refused_by(constraint):
        rows.recording(session, **columns)


@pytest.mark.parametrize("role", ["teacher", "Instructor", ""])
def test_a_participant_of_an_unknown_role_is_refused(rows: Rows, role: str) -> None:
    session = rows.session()
    with refused_by("participants_role_check"):
        rows.participant(session, role=role)


@pytest.mark.parametrize("column", ["course_id", "room_name", "starts_at", "created_by", "status", "recording_enabled"])
def test_what_a_session_must_have_is_never_null(rows: Rows, column: str) -> None:
    with pytest.raises(errors.NotNullViolation, match=f'"{column}"'):
        rows.session(**{column: None})


def test_what_belongs_to_a_session_is_refused_without_one(rows: Rows) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        rows.recording(uuid4())


def test_what_belongs_to_a_session_goes_with_it(rows: Rows, database: psycopg.Connection) -> None:
    session = rows.session()
    rows.recording(session)
    rows.participant(session)
    rows.connection(session)
    database.execute("DELETE FROM sessions WHERE id = %s", [session])
    for table in ("recordings", "participants", "connections"):
        query = sql.SQL("SELECT count(*) FROM {} WHERE session_id = %s").format(sql.Identifier(table))
        assert database.execute(query, [session]).fetchone() == (0,)


SOME_ID = UUID(int=1)
ADMITTED = ("rooms", "users", "daily_users", "names", "roles")


def a_list(connection: AsyncConnection, of: Of, status: SessionStatus | None = None) -> Awaitable[object]:
    return connection.exec_driver_sql(LISTS[of, status], {"of": "ada", "starts_at": NOW, "id": SOME_ID, "limit": 10})


DUE_INDEXES = {
    Line.ENDS: "sessions_due_ends",
    Line.CLOSINGS: "sessions_due_closings",
    Line.SESSIONS: "sessions_due",
    Line.MODERATIONS: "moderations_due",
    Line.STARTS: "recordings_due_starts",
    Line.RECORDINGS: "recordings_due",
    Line.MEETINGS: "meetings_due",
    Line.OUTBOXES: "outboxes_due",
}
"""But for chores, of which there are a handful."""
QUERIES: dict[str, tuple[Callable[[AsyncConnection], Awaitable[object]], str]] = {
    "GetLiveSession": (lambda c: c.exec_driver_sql(BY_NAMES, {"names": ["a", "b"]}), "sessions_room_name_key"),
    "sessions of an instructor": (lambda c: a_list(c, Of.INSTRUCTOR), "Only Scan using sessions_by_instructor"),
    "sessions of a course": (lambda c: a_list(c, Of.COURSE), "Only Scan using sessions_by_course"),
    **{
        f"{status} sessions of {of.name.lower()}": (
            lambda c, of=of, status=status: a_list(c, of, status),
            f"Only Scan using sessions_{'' if status == SessionStatus.ENDED else 'open_'}by_{of.name.lower()}",
        )
        for of in Of
        for status in SessionStatus
    },
    "whom Daily must be told of": (
        lambda c: Moderations(c).moderated(SOME_ID, timedelta()),
        "participants_moderated",
    ),
    "who of them has come": (
        lambda c: c.execute(RECOGNISE, {key: [] for key in ("sessions", "users", "names", "roles")}),
        "participants_daily_user_id",
    ),
    "attendance": (
        lambda c: Attendance(c).of_session(SOME_ID, 10, (NOW, SOME_ID)),
        "participants_session_id_created_at",
    ),
    "repeated create": (lambda c: Sessions(c).by_key("ada", "k"), "sessions_idempotency_key"),
    "GetSessionToken": (
        lambda c: c.exec_driver_sql(ADMIT, {key: ["student"] for key in ADMITTED}),
        "participants_session_id_user_id",
    ),
    "first page of participants": (
        lambda c: Participants(c).of_session(SOME_ID, 10, None),
        "participants_session_id_created_at",
    ),
    "next page of participants": (
        lambda c: Participants(c).of_session(SOME_ID, 10, (NOW, SOME_ID)),
        "participants_session_id_created_at",
    ),
    "latest recording": (lambda c: Recordings(c).latest(SOME_ID), "recordings_session_id"),
    "recording of an event": (lambda c: Recordings(c).by_daily_id("rec-1"), "recordings_recording_id"),
    "old events": (lambda c: Inbox(c).forget(timedelta(days=30), 10), "daily_events_received_at"),
}


# Each reads an index as far as now: what will be due some time costs nothing, however much it is.
DUE: dict[str, tuple[Callable[[AsyncConnection], Awaitable[object]], set[str]]] = {
    **{
        f"the line of each {line.value}": (lambda c, line=line: Queue(c).take(line, 10, timedelta()), {index})
        for line, index in DUE_INDEXES.items()
    },
    "all lines": (lambda c: Queue(c).lines(), set(DUE_INDEXES.values())),
    "what waits": (lambda c: Queue(c).waiting(), {*DUE_INDEXES.values(), "daily_events_due"}),
    "rooms that events wait for": (lambda c: Inbox(c).rooms(10), {"daily_events_due"}),
    "events to apply": (lambda c: Inbox(c).due(10), {"daily_events_due"}),
    "events of no room": (lambda c: Inbox(c).of_no_room(10, timedelta()), {"daily_events_due"}),
    "deliveries of a session": (lambda c: Deliveries(c).take(SOME_ID, 10, timedelta()), {"deliveries_due"}),
}


@pytest.mark.parametrize("query", QUERIES)
async def test_a_hot_query_uses_its_index(connection: AsyncConnection, query: str) -> None:
    run, index = QUERIES[query]
    plan = await plan_of(connection, run)
    assert f" {index} " in plan, plan


@pytest.mark.parametrize("query", DUE)
async def test_what_is_not_due_yet_is_not_read(connection: AsyncConnection, query: str) -> None:
    run, indexes = DUE[query]
    plan = await plan_of(connection, run)
    searched = re.findall(r"using (\w+) on [^>]*?Index Cond: \([^>]*due_at <= statement_timestamp\(\)", plan)
    assert set(searched) == indexes, plan


async def plan_of(connection: AsyncConnection, run: Callable[[AsyncConnection], Awaitable[object]]) -> str:
    """As PostgreSQL makes it for large tables."""
    executed: list[tuple[str, Any]] = []

    @event.listens_for(connection.sync_connection, "before_cursor_execute")
    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        executed.append((statement, parameters))

    await run(connection)
    [(statement, parameters)] = executed
    for way in ("seqscan", "bitmapscan", "sort"):  # which win while tables are small
        await connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
    return "\n".join((await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars())
