"""Whatever the order of commits, and wherever watchers, servers and the reader are when they happen: each revision is
told once, in order, and what was told last is what is so."""

import asyncio
import gc
import itertools
from asyncio import Event
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.stack import Stack
from server.caller import Caller
from server.errors import StreamEnded
from server.usecases import watching
from server.usecases.watching import Channel, Told, Watcher, Watching
from storage.model import Follow, Participant, Role
from storage.store import Store

ADA = Caller("order-ada", None, Role.INSTRUCTOR)
ROOMS = 2
USERS = ("sam", "eve")
numbers = itertools.count()

Change = tuple[str, ...]
changes = st.one_of(
    st.tuples(st.just("limit"), st.integers(1, 9).map(str)),
    st.tuples(st.sampled_from(["kick", "readmit", "mute"]), st.sampled_from(USERS)),
    st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from(USERS)),
)
transactions = st.tuples(
    st.just("commit"), st.booleans(), st.integers(0, ROOMS - 1), st.lists(changes, min_size=1, max_size=4)
)
moves = st.tuples(st.sampled_from(["come", "go", "come back", "new server", "wait"]), st.integers(0, ROOMS - 1))
scripts = st.lists(st.one_of(transactions, moves), min_size=4, max_size=25)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK", 0.005)


class Follower:
    """One who comes back with the last revision, and what they were told in all."""

    def __init__(self, room: str) -> None:
        self.room, self.last = room, 0
        self.told: list[tuple[int, Any]] = []
        self._task: asyncio.Task[None] | None = None

    async def come(self, server: Watching) -> None:
        await self.go()
        self._task = asyncio.create_task(self._follow(server))

    async def _follow(self, server: Watching) -> None:
        async for message in server.watch(ADA, self.room, self.last):
            revision, noun = message  # type: ignore[misc]  # as `encode` below makes it
            self.last = revision or self.last
            if noun is not None:
                self.told.append((revision, noun))

    async def go(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def encode(revision: int, at: datetime, noun: Any) -> Any:
    return revision, noun


def apply(database: psycopg.AsyncConnection[Any], room: str, change: Change) -> Any:
    session = "(SELECT id FROM sessions WHERE room_name = %(room)s)"
    what, value = change
    person = f"session_id = {session} AND user_id = %(value)s"
    statement = {
        "limit": "UPDATE sessions SET max_participants = %(value)s::int WHERE room_name = %(room)s",
        "kick": f"UPDATE participants SET was_kicked = true WHERE {person}",
        "readmit": f"UPDATE participants SET was_kicked = false WHERE {person}",
        "mute": f"UPDATE participants SET mic_allowed = NOT mic_allowed WHERE {person}",
        "join": f"INSERT INTO connections (id, session_id, daily_user_id, joined_at) "
        f"SELECT gen_random_uuid(), {session}, %(value)s, clock_timestamp()",
        "leave": f"UPDATE connections SET left_at = clock_timestamp() "
        f"WHERE session_id = {session} AND daily_user_id = %(value)s AND left_at IS NULL",
    }[what]
    return database.execute(statement, {"room": room, "value": value})


async def make_rooms(database: psycopg.AsyncConnection[Any]) -> list[str]:
    """Sessions with two participants each, whose revision is 1 as yet."""
    rooms = [f"order-{next(numbers)}-{id(database)}" for _ in range(ROOMS)]
    for room in rooms:
        await database.execute(
            "INSERT INTO sessions (course_id, room_name, starts_at, created_by, room_created_at)"
            " VALUES ('c', %s, now(), %s, now())",
            [room, ADA.id],
        )
        for user in USERS:
            await database.execute(
                "INSERT INTO participants (session_id, user_id, daily_user_id, role)"
                " SELECT id, %s, %s, 'student' FROM sessions WHERE room_name = %s",
                [user, user, room],
            )
    return rooms


class World:
    """Servers in turn, followers of two rooms, and a transaction that may stay open while others commit."""

    def __init__(self, store: Store, rooms: list[str], url: str) -> None:
        self.store, self.rooms, self.url = store, rooms, url
        self.server = Watching(store, encode)
        self.followers = [Follower(room) for room in rooms]
        self.open: dict[int, psycopg.AsyncConnection[Any]] = {}

    async def act(self, step: tuple[Any, ...]) -> None:
        if step[0] == "commit":
            await self.commit(*step[1:])
        elif step[0] == "new server":  # the old one dies with its streams
            self.server = Watching(self.store, encode)
            for follower in self.followers:
                await follower.come(self.server)
        elif step[0] == "go":
            await self.followers[step[1]].go()
        elif step[0] == "wait":
            await asyncio.sleep(0.01)
        else:
            await self.followers[step[1]].come(self.server)

    async def commit(self, later: bool, room: int, changes: list[Change]) -> None:
        """`later`: the transaction takes its number now, and is committed when the room is changed again."""
        if room in self.open:
            await self.finish(room)
        connection = await psycopg.AsyncConnection.connect(self.url)
        await connection.execute("SELECT pg_current_xact_id()")
        for change in changes:
            await apply(connection, self.rooms[room], change)
        self.open[room] = connection
        if not later:
            await self.finish(room)

    async def finish(self, room: int) -> None:
        connection = self.open.pop(room)
        await connection.commit()
        await connection.close()


async def play(store: Store, url: str, script: list[tuple[Any, ...]]) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        world = World(store, await make_rooms(database), url)
        for step in script:
            await world.act(step)
        for room in list(world.open):
            await world.finish(room)
        for follower in world.followers:
            await follower.come(world.server)
            await told_well(store, follower)
            await follower.go()


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def told_well(store: Store, follower: Follower) -> None:
    present = await store.events.present(Follow(follower.room, 0, everything=True))
    assert present is not None
    await until(lambda: follower.last >= present.revision)
    revisions = [revision for revision, _ in follower.told if revision]
    assert revisions == sorted(set(revisions))
    assert revisions[-1] == present.revision
    # The state that came first may stand for several revisions; after it none is left out.
    assert revisions == list(range(revisions[0], present.revision + 1))
    last: dict[UUID | str, Any] = {noun.id: noun for _, noun in follower.told}
    assert last[present.session.id] == present.session
    inside = {noun.user_id: noun for noun in last.values() if isinstance(noun, Participant) and is_inside(noun)}
    assert inside == {one.user_id: one for one in present.inside}


def is_inside(participant: Participant) -> bool:
    return participant.joined_at is not None and participant.left_at is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=scripts)
def test_each_revision_is_told_once_in_order_and_the_last_ones_are_the_present_state(
    stack: Stack, script: list[tuple[Any, ...]]
) -> None:
    async def run() -> None:
        store = Store(stack.database_url, {})
        try:
            await play(store, stack.database_url, script)
        finally:
            await store.close()

    asyncio.run(run())


async def come_during_a_look(url: str) -> list[int]:
    """The revisions told to one who comes, and is told the present state, between the beginning of a look, which knows
    nothing of them, and the moment whose commits it sees; and something changes just then."""
    store, committed = Store(url, {}), Event()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        rooms, server = await make_rooms(database), Watching(store, encode)
        first, late = map(Follower, rooms)
        await first.come(server)
        await until(lambda: bool(first.told))
        looks = store.events.committed
        held: list[UUID] = []

        async def look(since: str | None, watched: Sequence[UUID]) -> Any:
            held[:] = watched
            await committed.wait()
            return await looks(since, watched)

        store.events.committed = look  # type: ignore[method-assign]
        await until(lambda: len(held) == 1)
        await late.come(server)
        await until(lambda: bool(late.told))
        await apply(database, late.room, ("limit", "7"))
        committed.set()
        await until(lambda: late.last == 2)
        await asyncio.gather(first.go(), late.go())
    await until(lambda: len(asyncio.all_tasks()) == 1)
    await store.close()
    return [revision for revision, _ in late.told]


def test_who_comes_while_the_reader_looks_misses_nothing(stack: Stack) -> None:
    assert asyncio.run(come_during_a_look(stack.database_url)) == [1, 2]


def test_a_stream_that_reads_as_the_drain_begins_is_told_what_it_read_and_ends(stack: Stack) -> None:
    async def run() -> list[Any]:
        store, told = Store(stack.database_url, {}), []
        async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as database:
            [room, _], server = await make_rooms(database), Watching(store, encode)
            reads = store.events.present

            async def read(asked: Follow) -> Any:
                server.end()
                return await reads(asked)

            async def follow() -> None:
                async for message in server.watch(ADA, room, 0):
                    told.append(message)

            store.events.present = read  # type: ignore[assignment]
            with pytest.raises(StreamEnded):
                await asyncio.wait_for(follow(), watching.HEARTBEAT / 2)
        await store.close()
        return told

    [(revision, session)] = asyncio.run(run())
    assert (revision, session.course_id) == (1, "c")


def left_over() -> int:
    gc.collect()
    return sum(isinstance(thing, Watcher | Channel | Told) for thing in gc.get_objects())


async def come_and_go(url: str) -> None:
    store = Store(url, {})
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        rooms, server = await make_rooms(database), Watching(store, encode)
        followers = [Follower(room) for room in rooms for _ in range(50)]
        await asyncio.gather(*[follower.come(server) for follower in followers])
        await until(lambda: all(follower.told for follower in followers))
        for limit in range(100):
            await apply(database, rooms[limit % 2], ("limit", str(1 + limit)))
        await until(lambda: all(follower.last == 51 for follower in followers))
        await asyncio.gather(*[follower.go() for follower in followers])
    await until(lambda: len(asyncio.all_tasks()) == 1)  # ours: nobody reads any more
    await store.close()


def test_nothing_is_kept_of_a_session_when_its_last_follower_has_gone(stack: Stack) -> None:
    assert left_over() == 0
    asyncio.run(come_and_go(stack.database_url))
    assert left_over() == 0
