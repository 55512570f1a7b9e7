"""What is committed is read once and in order, whoever commits when; what is present or was missed is of one moment."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from sandbox.stack import Stack
from storage import events
from storage.model import Connection, Follow, NewSession, Role, SessionEvent
from storage.store import Store, Transaction
from tests.databases import migrated

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Desk:
    """A store on a database of its own, and a second connection to that."""

    def __init__(self, url: str, store: Store, database: psycopg.AsyncConnection) -> None:
        self.url, self.store, self.database = url, store, database

    async def session(self) -> tuple[UUID, str]:
        """With its room, told of once."""
        room = str(uuid.uuid4())
        async with self.store.transaction() as tx:
            session = await tx.sessions.claim(NewSession("c", NOW, True, None), room, "ada", None, HOUR)
            assert session is not None
            await tx.sessions.confirm_room(session.id, None)
        return session.id, room

    async def join(self, session_id: UUID, *users: str) -> None:
        async with self.store.transaction() as tx:
            await self.join_in(tx, session_id, *users)

    async def join_in(self, tx: Transaction, session_id: UUID, *users: str) -> None:
        await tx.sessions.lock_by_id(session_id)
        await tx.participants.told(
            [(session_id, Connection(f"{session_id}-{user}", user, NOW, None)) for user in users]
        )

    async def rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        return await (await self.database.execute(query, values)).fetchall()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    with migrated(stack.database_url) as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
            store = Store(url, {})
            yield Desk(url, store, database)
            await store.close()


def of(read: list[SessionEvent], session_id: UUID) -> list[int]:
    return [event.revision for event in read if event.session_id == session_id]


# What was committed since the last look


async def test_each_event_is_read_once_and_only_of_what_is_watched(desk: Desk) -> None:
    (one, _), (other, _) = await desk.session(), await desk.session()
    since, nothing = await desk.store.events.committed(None, [one, other])
    assert nothing == []
    await desk.join(one, "sam", "eve")
    await desk.join(other, "sam")
    since, read = await desk.store.events.committed(since, [one])
    assert of(read, one) == [2, 3]
    assert of(read, other) == []
    assert (await desk.store.events.committed(since, [one, other]))[1] == []


async def test_what_was_rolled_back_is_told_to_nobody_and_takes_no_revision(desk: Desk) -> None:
    one, _ = await desk.session()
    since, _ = await desk.store.events.committed(None, [])

    async def join_and_fail(tx: Transaction) -> None:
        await desk.join_in(tx, one, "sam")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await desk.store.run(join_and_fail)
    await desk.join(one, "eve")
    _, read = await desk.store.events.committed(since, [one])
    assert [(event.revision, event.state.user_id) for event in read] == [(2, "eve")]  # type: ignore[union-attr]


async def test_what_is_watched_is_looked_up_in_a_set(desk: Desk) -> None:
    """However much is watched and however much was committed, a look reads the list of it once."""
    watched = f"{{{','.join(str(uuid.uuid4()) for _ in range(3))}}}"
    cursor = psycopg.AsyncClientCursor(desk.database)
    await cursor.execute("EXPLAIN " + events.COMMITTED, {"since": "1:1:", "watched": watched})
    plan = "\n".join(line for (line,) in await cursor.fetchall())
    assert re.search(r"Filter: .*ANY \(session_id = \(hashed SubPlan", plan), plan


async def test_what_is_committed_late_is_read_late_however_much_came_before(desk: Desk) -> None:
    (late, _), (early, _) = await desk.session(), await desk.session()
    since, _ = await desk.store.events.committed(None, [])
    async with desk.store.transaction() as tx:
        await desk.join_in(tx, late, "sam")
        await desk.join(early, "sam")
        since, read = await desk.store.events.committed(since, [late, early])
        assert (of(read, late), of(read, early)) == ([], [2])
        since, read = await desk.store.events.committed(since, [late, early])
        assert read == []
    since, read = await desk.store.events.committed(since, [late, early])
    assert (of(read, late), of(read, early)) == ([2], [])
    assert (await desk.store.events.committed(since, [late, early]))[1] == []


async def test_a_reader_sees_each_revision_once_and_in_order_while_many_write(desk: Desk) -> None:
    """Some of whom change several sessions at once, dawdle, or undo what they did."""
    sessions = sorted([(await desk.session())[0] for _ in range(4)])
    since, _ = await desk.store.events.committed(None, [])
    read: list[SessionEvent] = []

    async def write(number: int) -> None:
        async with desk.store.transaction() as tx:
            for session_id in sessions[number % 4 :]:
                await desk.join_in(tx, session_id, f"user-{number}")
                await asyncio.sleep(number % 3 / 500)
            if number % 5 == 0:
                raise ZeroDivisionError

    async def look(since: str) -> None:
        while True:
            since, some = await desk.store.events.committed(since, sessions)
            read.extend(some)
            await asyncio.sleep(0.002)

    looking = asyncio.create_task(look(since))
    for start in range(0, 60, 6):
        results = await asyncio.gather(*map(write, range(start, start + 6)), return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), ZeroDivisionError}
    rows = await desk.rows("SELECT id, revision FROM sessions WHERE id = ANY(%s)", sessions)
    async with asyncio.timeout(10):
        while len(read) < sum(revision - 1 for _, revision in rows):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    looking.cancel()
    for session_id in sessions:
        revisions = of(read, session_id)
        assert revisions == list(range(2, len(revisions) + 2))
    assert {id: revision - 1 for id, revision in rows} == {id: len(of(read, id)) for id in sessions}


# What is present, and what was missed


async def test_what_is_present_is_the_session_its_latest_recording_and_who_is_inside(desk: Desk) -> None:
    one, room = await desk.session()
    await desk.join(one, "sam", "eve")
    async with desk.store.transaction() as tx:
        await tx.participants.told([(one, Connection(f"{one}-eve", "eve", NOW, NOW + HOUR))])
        await tx.recordings.add(one, None, f"{room}-1", NOW, HOUR)
        await tx.recordings.add(one, None, f"{room}-2", NOW, HOUR)
        await tx.recordings.begin(one, uuid.uuid4(), made_live=False, lease=HOUR)
        latest = await tx.recordings.by_daily_id(f"{room}-2")
        assert latest is not None
    assert await desk.store.admission((room, "late", "late", "Late", Role.STUDENT))
    present = await desk.store.events.present(Follow(room, 0, everything=True))
    assert present is not None
    assert present.session == await desk.store.session(room)
    assert (present.id, present.revision, present.closed, present.missed) == (one, 6, False, None)
    assert [person.user_id for person in present.inside] == ["sam"]
    assert present.recording is not None
    assert present.recording.recording_id in (f"{room}-1", f"{room}-2")


async def test_of_a_session_that_nobody_has_there_is_nothing_present(desk: Desk) -> None:
    _, room = await desk.session()
    asked = [Follow("nowhere", 0, everything=True), Follow(room, 0, everything=False)]
    nowhere, somewhere = await asyncio.gather(*map(desk.store.events.present, asked))
    assert nowhere is None
    assert somewhere is not None


async def test_who_may_not_see_everything_gets_the_session_alone(desk: Desk) -> None:
    one, room = await desk.session()
    await desk.join(one, "sam")
    present = await desk.store.events.present(Follow(room, 0, everything=False))
    assert present is not None
    assert (present.inside, present.recording, present.revision) == ([], None, 2)


@pytest.mark.parametrize(("after", "missed"), [(0, None), (1, [2, 3]), (2, [3]), (3, []), (4, None), (99, None)])
async def test_what_was_missed_is_all_that_came_after_the_revision(
    desk: Desk, after: int, missed: list[int] | None
) -> None:
    one, room = await desk.session()
    await desk.join(one, "sam", "eve")
    present = await desk.store.events.present(Follow(room, after, everything=True))
    assert present is not None
    assert (None if present.missed is None else of(present.missed, one)) == missed
    assert len(present.inside) == (2 if missed is None else 0)


async def test_more_than_one_answer_holds_is_read_with_the_next(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MISSED", 2)
    one, room = await desk.session()
    await desk.join(one, "sam", "eve", "tom")
    read, last = [], 1
    while last < 4:
        present = await desk.store.events.present(Follow(room, last, everything=True))
        assert present is not None
        assert present.missed is not None
        read.append(of(present.missed, one))
        last = read[-1][-1]
    assert read == [[2, 3], [4]]


async def test_those_who_catch_up_together_share_what_is_read_at_once_and_miss_nothing(desk: Desk) -> None:
    one, room = await desk.session()
    await desk.join(one, *(f"student-{number}" for number in range(500)))

    async def missed(after: int) -> list[int]:
        present = await desk.store.events.present(Follow(room, after, everything=True))
        assert present is not None
        assert present.missed is not None
        assert (present.session.room_name, present.revision) == (room, 501)
        return of(present.missed, one)

    async def catch_up() -> list[int]:
        read = [1]
        while read[-1] < 501:
            read += await missed(read[-1])
        return read

    assert await missed(1) == list(range(2, 502))
    together = await asyncio.gather(*(missed(1) for _ in range(100)))
    assert desk.store.events.present.sizes[100] == 1
    assert together == [[2, 3, 4, 5, 6]] * 100
    assert await asyncio.gather(*(catch_up() for _ in range(100))) == [list(range(1, 502))] * 100


async def test_that_a_room_is_gone_is_present_too(desk: Desk) -> None:
    one, room = await desk.session()
    async with desk.store.transaction() as tx:
        await tx.sessions.request_end(one, HOUR, HOUR)
        await tx.sessions.end(one, closing=False)
        await tx.sessions.room_deleted(one, settled_after=-HOUR)
    present = await desk.store.events.present(Follow(room, 1, everything=False))
    assert present is not None
    assert present.missed is not None
    assert [event.type for event in present.missed] == ["session.ended", "session.closed"]
    assert (present.closed, present.session.status) == (True, "ended")


# What is kept


async def test_events_are_kept_for_a_week_and_then_the_present_state_is_told(desk: Desk) -> None:
    one, room = await desk.session()
    await desk.join(one, "sam", "eve")
    [(week,)] = await desk.rows(
        "SELECT DISTINCT forget_at - at > '6 d 23 h' FROM session_events WHERE session_id = %s", one
    )
    assert week
    await desk.rows("UPDATE session_events SET forget_at = now() - interval '1 s' WHERE revision < 3 RETURNING 1")
    assert await desk.store.events.forget(1) == 1
    assert await desk.store.events.forget(100_000) > 0
    assert await desk.store.events.forget(100_000) == 0
    for after, kept in ((1, False), (2, True), (3, True)):
        present = await desk.store.events.present(Follow(room, after, everything=False))
        assert present is not None
        assert (present.missed is not None) == kept


async def test_where_deliveries_are_asked_for_each_is_written_with_its_event_and_kept_for_a_month(desk: Desk) -> None:
    one, _ = await desk.session()
    async with await psycopg.AsyncConnection.connect(desk.url) as connection:
        await connection.execute("SET live_sessions.deliver = 'on'")
        await connection.execute("UPDATE sessions SET course_id = 'd' WHERE id = %s", [one])
        await connection.commit()
        await connection.execute("UPDATE sessions SET course_id = 'e' WHERE id = %s", [one])
        await connection.rollback()
        await connection.execute("UPDATE sessions SET room_deleted_at = now() WHERE id = %s", [one])
        await connection.commit()
    query = "SELECT revision, due_at <= clock_timestamp(), attempts FROM deliveries WHERE session_id = %s"
    assert await desk.rows(query, one) == [(2, True, 0)]
    kept = "SELECT revision, forget_at - at > '29 d' FROM session_events WHERE session_id = %s ORDER BY revision"
    assert await desk.rows(kept, one) == [(1, False), (2, True), (3, True)]
    await desk.rows(
        "UPDATE session_events SET forget_at = now() - interval '1 s' WHERE session_id = %s RETURNING 1", one
    )
    await desk.store.events.forget(100_000)
    assert await desk.rows(query, one) == []


# What it costs


async def test_ten_thousand_join_in_batches_and_then_are_muted(desk: Desk) -> None:
    one, _ = await desk.session()
    users = [f"student-{number}" for number in range(10_000)]
    for start in range(0, len(users), 500):
        await desk.join(one, *users[start : start + 500])
    async with desk.store.transaction() as tx:
        await tx.moderations.mute_students(one)
    query = (
        "SELECT type, count(*), min(revision), max(revision) FROM session_events WHERE session_id = %s GROUP BY type"
    )
    assert sorted(await desk.rows(query, one)) == [
        ("participant.joined", 10_000, 2, 10_001),
        ("participant.updated", 10_000, 10_002, 20_001),
        ("session.created", 1, 1, 1),
    ]


async def test_no_table_is_read_whole_though_it_was_empty_when_the_plans_were_made(stack: Stack) -> None:
    session = """
        INSERT INTO sessions (course_id, room_name, starts_at, created_by, room_created_at)
        VALUES ('c', 'room', now(), 'ada', now()) RETURNING id
    """
    people = """
        INSERT INTO participants (session_id, user_id, daily_user_id, role)
        SELECT %s, number, number, 'student' FROM generate_series(1, 2000) AS number
    """
    come = """
        INSERT INTO connections (id, session_id, daily_user_id, joined_at)
        SELECT number, %s, number, now() FROM generate_series(%s::int, %s::int) AS number
    """
    whole = "SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0"
    with migrated(stack.database_url) as url:
        async with await psycopg.AsyncConnection.connect(url) as database:
            [id] = await (await database.execute(session)).fetchone() or [None]
            await database.execute(come, [id, 1, 1])
            await database.execute(people, [id])
            await database.execute(come, [id, 2, 2000])
            read = {name for (name,) in await (await database.execute(whole)).fetchall()}
            [told] = await (await database.execute("SELECT revision FROM sessions")).fetchone() or [None]
    assert told == 2000
    assert read & {"connections", "participants", "session_events"} == set()
