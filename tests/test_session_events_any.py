"""Whatever is changed, and in whatever order: told is just what callers see otherwise than before, once."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.stack import Stack
from storage.events import UNTOLD, session_event
from storage.model import (
    Connection,
    NewSession,
    Participant,
    Recording,
    RecordingStatus,
    Role,
    SessionEvent,
    SessionRow,
)
from storage.store import Store, Transaction
from tests.databases import migrated

BEGAN = datetime(2026, 1, 5, 9, tzinfo=UTC)
LATER = timedelta(minutes=10)
Noun = SessionRow | Participant | Recording
EVENTS = """
SELECT session_id, revision, at, type, state FROM session_events
WHERE session_id = ANY(%s) ORDER BY session_id, revision
"""


@dataclass(frozen=True)
class Class:
    id: UUID
    room: str


@dataclass(frozen=True)
class Stay:
    of: int
    """Which of the classes."""
    device: int
    joined: int | None
    left: int | None

    @property
    def user(self) -> str:
        return f"user-{self.device % 2}"

    def of_class(self, one: Class) -> tuple[UUID, Connection]:
        joined, left = (None if at is None else BEGAN + timedelta(seconds=at) for at in (self.joined, self.left))
        return one.id, Connection(f"{one.room}-{self.device}", self.user, joined, left)


classes_ = st.integers(0, 1)
users = st.sampled_from(["user-0", "user-1", "stranger"])
seconds = st.integers(0, 60)
stays = st.builds(Stay, classes_, st.integers(0, 3), st.none() | seconds, st.none() | seconds)
some_stays = st.lists(stays, min_size=1, max_size=5)
flags = st.none() | st.booleans()
changes = st.one_of(
    st.tuples(st.just("told"), some_stays),
    st.tuples(st.just("recorded"), some_stays),
    st.tuples(st.just("meeting_ended"), classes_, seconds),
    st.tuples(st.just("gone"), classes_, st.integers(0, 3)),
    st.tuples(st.just("token"), classes_, users),
    st.tuples(st.just("permit"), classes_, users, st.booleans(), flags),
    st.tuples(st.sampled_from(["remove", "readmit"]), classes_, users),
    st.tuples(st.just("end"), classes_, seconds),
    st.tuples(st.sampled_from(["mute", "live", "scheduled", "update", "close", "seen"]), classes_),
    st.tuples(
        st.sampled_from(["begin", "name", "add", "runs_under", "complete", "finish", "fail", "fail_start", "reopen"]),
        classes_,
    ),
)


class World:
    """Two classes, and all that can be done with them: each change is a transaction of its own."""

    def __init__(self, store: Store, database: psycopg.AsyncConnection) -> None:
        self.store, self._database, self._numbers = store, database, count()

    async def begin(self) -> None:
        async with self.store.transaction() as tx:
            self.classes = [await self._create(tx) for _ in range(2)]

    async def _create(self, tx: Transaction) -> Class:
        room = str(uuid.uuid4())
        session = await tx.sessions.claim(NewSession("c", BEGAN, True, None), room, "ada", None, LATER)
        assert session is not None
        await tx.sessions.confirm_room(session.id, None)
        return Class(session.id, room)

    async def do(self, change: tuple[Any, ...], *, undo: bool) -> None:
        try:
            async with self.store.transaction() as tx:
                for one in self.classes:
                    await tx.sessions.lock_by_id(one.id)
                await self._do(tx, *change)
                if undo:
                    raise Undone
        except Undone:
            pass

    async def _do(self, tx: Transaction, what: str, *how: Any) -> None:
        if what == "told":
            await tx.participants.told([stay.of_class(self.classes[stay.of]) for stay in how[0]])
        elif what == "recorded":
            for number, one in enumerate(self.classes):
                if these := [stay.of_class(one)[1] for stay in how[0] if stay.of == number]:
                    await tx.participants.recorded(one.id, these)
        else:
            one, *rest = how
            await getattr(self, f"_{what}")(tx, self.classes[one], *rest)

    async def _meeting_ended(self, tx: Transaction, one: Class, at: int) -> None:
        await tx.participants.meeting_ended(one.id, "a meeting", BEGAN + timedelta(seconds=at))

    async def _gone(self, tx: Transaction, one: Class, device: int) -> None:
        await tx.participants.gone([f"{one.room}-{device}"])

    async def _token(self, tx: Transaction, one: Class, user: str) -> None:
        await self.store.admission((one.room, user, user, f"{user} {next(self._numbers)}", Role.STUDENT))

    async def _permit(self, tx: Transaction, one: Class, user: str, mic: bool, camera: bool | None) -> None:
        await tx.moderations.permit(one.id, user, mic, camera)

    async def _remove(self, tx: Transaction, one: Class, user: str) -> None:
        await tx.moderations.remove(one.id, user, user, LATER)

    async def _readmit(self, tx: Transaction, one: Class, user: str) -> None:
        await tx.moderations.readmit(one.id, user)

    async def _mute(self, tx: Transaction, one: Class) -> None:
        await tx.moderations.mute_students(one.id)

    async def _live(self, tx: Transaction, one: Class) -> None:
        await tx.sessions.make_live([one.id], LATER)

    async def _scheduled(self, tx: Transaction, one: Class) -> None:
        await tx.sessions.give_back_scheduled(one.id)

    async def _update(self, tx: Transaction, one: Class) -> None:
        await tx.sessions.change(one.id, {"course_id": f"c{next(self._numbers)}"}, "", LATER, of_room=True)

    async def _seen(self, tx: Transaction, one: Class) -> None:
        await tx.sessions.seen_empty(one.id)

    async def _end(self, tx: Transaction, one: Class, at: int) -> None:
        await tx.sessions.request_end(one.id, LATER, LATER, as_of=BEGAN + timedelta(seconds=at))
        await tx.sessions.end(one.id, closing=False)

    async def _close(self, tx: Transaction, one: Class) -> None:
        await tx.sessions.room_deleted(one.id, settled_after=-LATER)

    async def _latest(self, tx: Transaction, one: Class) -> tuple[UUID | None, bool]:
        """The session's latest row, and whether something runs."""
        rows = await tx.recordings.of_session(one.id)
        return (rows[0].id if rows else None), any(row.status == RecordingStatus.PROCESSING for row in rows)

    async def _begin(self, tx: Transaction, one: Class) -> None:
        if not (await self._latest(tx, one))[1]:
            await tx.recordings.begin(one.id, uuid.uuid4(), made_live=False, lease=LATER)

    async def _name(self, tx: Transaction, one: Class) -> None:
        if id := (await self._latest(tx, one))[0]:
            await tx.recordings.name(id, str(uuid.uuid4()), BEGAN, LATER)

    async def _add(self, tx: Transaction, one: Class) -> None:
        await tx.recordings.add(one.id, None, str(uuid.uuid4()), BEGAN, LATER)

    async def _runs_under(self, tx: Transaction, one: Class) -> None:
        if id := (await self._latest(tx, one))[0]:
            await tx.recordings.runs_under(id, None)

    async def _complete(self, tx: Transaction, one: Class) -> None:
        if id := (await self._latest(tx, one))[0]:
            await tx.recordings.complete(id, BEGAN + LATER, LATER)

    async def _finish(self, tx: Transaction, one: Class) -> None:
        if id := (await self._latest(tx, one))[0]:
            await tx.recordings.finish(id, BEGAN, 7, "a/b", at=BEGAN, tolerance=timedelta())

    async def _fail(self, tx: Transaction, one: Class) -> None:
        if id := (await self._latest(tx, one))[0]:
            await tx.recordings.fail(id, "it failed")

    async def _fail_start(self, tx: Transaction, one: Class) -> None:
        if id := (await self._latest(tx, one))[0]:
            await tx.recordings.fail_start(id, "it failed")

    async def _reopen(self, tx: Transaction, one: Class) -> None:
        id, running = await self._latest(tx, one)
        if id and not running:
            await tx.recordings.reopen(id, LATER)

    async def seen(self) -> dict[str, Noun]:
        """What callers see, by id."""
        seen: dict[str, Noun] = {}
        async with self.store.transaction() as tx:
            for one in self.classes:
                session = await self.store.session(one.room)
                assert session is not None
                seen[session.id] = session
                for person in await tx.participants.of_session(one.id, None, None):
                    seen[str(person.id)] = person
                for recording in await tx.recordings.of_session(one.id):
                    if recording.recording_id or recording.status == RecordingStatus.FAILED:
                        seen[str(recording.id)] = replace(recording, **dict.fromkeys(UNTOLD))
        return seen

    async def told(self) -> list[SessionEvent]:
        cursor = await self._database.execute(EVENTS, [[one.id for one in self.classes]])
        return [session_event(*row) for row in await cursor.fetchall()]


class Undone(Exception):
    pass


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(stack: Stack) -> AsyncIterator[World]:
    with migrated(stack.database_url) as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
            store = Store(url, {})
            yield World(store, database)
            await store.close()


def is_told(noun: Noun) -> bool:
    """Somebody who only has a token is no news."""
    return not isinstance(noun, Participant) or bool(
        noun.joined_at or noun.left_at or noun.was_kicked or not noun.mic_allowed or not noun.camera_allowed
    )


def kind(before: Noun | None, now: Noun) -> str:
    """As what a change is told."""
    match before, now:
        case _, Recording():
            return "recording." + ("started" if now.status == RecordingStatus.PROCESSING else now.status)
        case SessionRow(), SessionRow():
            return f"session.{now.status if now.status not in (before.status, 'scheduled') else 'updated'}"
        case _, Participant():
            was = before if isinstance(before, Participant) else replace(now, joined_at=None, left_at=None)
            if before is None and now.was_kicked:
                return "participant.removed"
            if now.was_kicked != was.was_kicked:
                return "participant.removed" if now.was_kicked else "participant.readmitted"
            if now.left_at and not was.left_at:
                return "participant.left"
            inside, was_inside = (bool(one.joined_at and not one.left_at) for one in (now, was))
            return "participant.joined" if inside and not was_inside else "participant.updated"
    raise AssertionError


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.tuples(changes, st.sampled_from([False, False, False, True])), min_size=1, max_size=20))
async def test_each_change_tells_once_of_just_what_is_seen_otherwise(
    world: World, steps: list[tuple[tuple[Any, ...], bool]]
) -> None:
    await world.begin()
    before, told = await world.seen(), await world.told()
    assert [event.type for event in told] == ["session.created"] * 2
    for change, undo in steps:
        await world.do(change, undo=undo)
        now, known = await world.seen(), {(event.session_id, event.revision) for event in told}
        told = await world.told()
        new = [event for event in told if (event.session_id, event.revision) not in known]
        expected = {
            id: (kind(before.get(id), noun), noun)
            for id, noun in now.items()
            if noun != before.get(id) and (is_told(noun) or is_told(before.get(id, noun)))
        }
        open_ends = [event for event in new if event.type != "session.closed"]
        assert {str(event.state.id): (event.type, event.state) for event in open_ends} == expected
        assert len(open_ends) == len(expected)
        before = now
    for one in world.classes:
        revisions = [event.revision for event in told if event.session_id == one.id]
        assert revisions == list(range(1, len(revisions) + 1))
