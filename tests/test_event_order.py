"""In any order, late and repeated, one by one and in batches, the same events end in the same rows, of which each is
told."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox.stack import Stack
from server import app
from server.settings import Settings
from server.upkeep import inbox
from server.usecases import room_events
from server.usecases.service import Service
from storage import migrations
from storage.events import UNTOLD, session_event
from tests.events import CLASS, event, signature

SECRET = "NQrSA5z0FkJ44QPrFerW7uCc5kdNLv3l2FDEKDanL1U="
LATER = None
"""In a delivery: what was kept so far is applied, as far as it can be, before the next event comes."""
SEEN = ("status", "failure_reason", "s3_key", "duration", "started_at", "stopped_at")
Told = tuple[str, dict[str, Any], float]


@dataclass(frozen=True)
class Recorded:
    """How far our own calls had come with the recording, and what Daily tells of it."""

    row: str
    """`starting`, `running` or `stopped`."""
    ends: tuple[str, ...]
    fraction: float
    """Daily's events may tell the start more exactly than its REST does."""


@dataclass(frozen=True)
class Lesson:
    """What happened in one session. Names in it are replaced by ids of its own wherever it is told."""

    stays: list[tuple[str, float, float | None]]
    """User, and the seconds of the class at which one of their devices joined and left."""
    ended: float | None
    recorded: Recorded | None

    def told(self, ids: "Ids") -> list[Told]:
        """The events, in the order in which things happened."""
        return sorted([*self._meeting(ids), *self._stays(ids), *self._recording(ids)], key=lambda event: event[2])

    def _meeting(self, ids: "Ids") -> list[Told]:
        meeting = {"room": ids.room, "meeting_id": ids["meeting"], "start_ts": CLASS}
        ended = [] if self.ended is None else [("meeting.ended", self.ended)]
        return [
            (type, meeting | {"end_ts": CLASS + at}, CLASS + at + 0.5) for type, at in [("meeting.started", 0), *ended]
        ]

    def _stays(self, ids: "Ids") -> list[Told]:
        told: list[Told] = []
        for number, (user, joined, left) in enumerate(self.stays):
            stay = {"room": ids.room, "session_id": ids[f"stay {number}"], "user_id": user, "owner": user == "ada"}
            stay["joined_at"] = CLASS + joined
            told.append(("participant.joined", stay, CLASS + joined + 0.1))
            if left is not None:
                told.append(("participant.left", stay | {"duration": left - joined}, CLASS + left + 0.1))
        return told

    def _recording(self, ids: "Ids") -> list[Told]:
        if self.recorded is None:
            return []
        id, instance, start = ids["recording"], ids["instance"], CLASS + 5
        started = {"recording_id": id, "instance_id": instance, "start_ts": start + self.recorded.fraction}
        ready = {"recording_id": id, "room_name": ids.room, "start_ts": start, "duration": 40, "s3_key": "a/b"}
        error = {"instance_id": instance, "room_name": ids.room, "error_msg": "disk full", "timestamp": "1"}
        ends = {
            "ready": ("recording.ready-to-download", ready, start + 60),
            "error": ("recording.error", error, start + 50),
        }
        return [("recording.started", started, start + 1), *(ends[end] for end in self.recorded.ends)]


@dataclass
class Ids:
    """One session's own ids for the names in a lesson."""

    room: str
    _made: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self._made.setdefault(name, str(uuid.uuid4()))


@st.composite
def lessons(draw: st.DrawFn) -> Lesson:
    milliseconds = st.integers(1, 50_000).map(lambda value: value / 1000)
    over = draw(st.booleans())
    stays: list[tuple[str, float, float | None]] = []
    for user in ("ada", "sam", "eve")[: draw(st.integers(1, 3))]:
        for _ in range(draw(st.integers(1, 3))):
            joined = draw(milliseconds)
            left = joined + draw(milliseconds) if over or draw(st.booleans()) else None
            stays.append((user, joined, left))
    rows = st.sampled_from(["starting", "running", "stopped"])
    ends = st.sampled_from([(), ("ready",), ("error",), ("error", "ready")])
    recorded = draw(st.none() | st.builds(Recorded, rows, ends, st.sampled_from([0.0, 0.25])))
    return Lesson(stays, 101.0 if over else None, recorded)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[Lesson, list[tuple[int, int] | None]]:
    """A lesson, and how its events come: each as (its number, under which of its ids), some of them often."""
    lesson = draw(lessons())
    count = len(lesson.told(Ids("")))
    again = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, 2)), max_size=6))
    pauses = [LATER] * draw(st.integers(0, 2))
    return lesson, draw(st.permutations([*((number, 0) for number in range(count)), *again, *pauses]))


class Sessions:
    """A database in which every lesson gets sessions of its own, and where upkeep applies events and does nothing
    else."""

    def __init__(self, service: Service, database: psycopg.AsyncConnection) -> None:
        self.service = service
        self._database = database

    async def begin(self, lesson: Lesson) -> tuple[UUID, Ids]:
        ids = Ids(f"order-{uuid.uuid4()}")
        cursor = await self._database.execute(
            "INSERT INTO sessions (course_id, room_name, starts_at, created_by, recording_enabled, room_created_at)"
            " VALUES ('c', %s, now(), 'ada', true, now()) RETURNING id",
            [ids.room],
        )
        [id] = await cursor.fetchone() or [None]
        if lesson.recorded:
            await self._record(id, ids, lesson.recorded.row)
        return id, ids

    async def _record(self, session_id: UUID, ids: Ids, row: str) -> None:
        known, stopped = row != "starting", row == "stopped"
        await self._database.execute(
            "INSERT INTO recordings (id, instance_id, session_id, made_live, recording_id, started_at, status,"
            " stopped_at, duration) VALUES (%s, %s, %s, false, %s, to_timestamp(%s), %s, to_timestamp(%s), %s)",
            [
                ids["instance"],
                ids["instance"],
                session_id,
                ids["recording"] if known else None,
                CLASS + 5 if known else None,
                "completed" if stopped else "processing",
                CLASS + 46.5 if stopped else None,
                41 if stopped else None,
            ],
        )

    async def rows(self, session_id: UUID, ids: Ids) -> dict[str, Any]:
        """All that callers can see of the session, without ids and without times of our own."""
        async with self.service.store.transaction() as tx:
            session = await tx.sessions.by_name(ids.room)
            people = await tx.participants.of_session(session_id, None, None)
            recordings = await tx.recordings.of_session(session_id)
        assert session is not None
        return {
            "status": session.status,
            "people": {one.user_id: (one.role, one.joined_at, one.left_at) for one in people},
            "recordings": [
                (
                    one.recording_id == ids["recording"],
                    one.settled_at is not None,
                    *(getattr(one, name) for name in SEEN),
                )
                for one in recordings
            ],
        }

    async def agree(self, session_id: UUID, ids: Ids) -> None:
        """Everything that callers can see was told, and told last as it is."""
        query = (
            "SELECT session_id, revision, at, type, state FROM session_events WHERE session_id = %s ORDER BY revision"
        )
        cursor = await self._database.execute(query, [session_id])
        told = [session_event(*row) for row in await cursor.fetchall()]
        async with self.service.store.transaction() as tx:
            people = await tx.participants.of_session(session_id, None, None)
            recordings = await tx.recordings.of_session(session_id)
        session = await self.service.store.session(ids.room)
        assert session is not None
        known = [
            replace(one, **dict.fromkeys(UNTOLD)) for one in recordings if one.recording_id or one.status == "failed"
        ]
        assert {str(event.state.id): event.state for event in told} == {
            str(one.id): one for one in (session, *people, *known)
        }
        assert [event.revision for event in told] == list(range(1, len(told) + 1))

    async def remove(self, *session_ids: UUID) -> None:
        await self._database.execute("DELETE FROM sessions WHERE id = ANY(%s)", [list(session_ids)])

    async def apply(self) -> bool:
        """Tries every event that waits, once; whether any still waits."""
        await self._database.execute("UPDATE daily_events SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
        self.service.news.set()
        while await self._count("due_at <= clock_timestamp()"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return await self._count("due_at IS NOT NULL")

    async def errors(self) -> bool:
        return await self._count("error IS NOT NULL")

    async def _count(self, which: LiteralString) -> bool:
        cursor = await self._database.execute(f"SELECT count(*) FROM daily_events WHERE {which}")
        return await cursor.fetchone() != (0,)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sessions(stack: Stack) -> AsyncIterator[Sessions]:
    async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as connection:
        await connection.execute("CREATE DATABASE event_order")
    url = urlsplit(stack.database_url)._replace(path="/event_order").geturl()
    await asyncio.to_thread(migrations.upgrade, url)
    settings = Settings(database_url=url, daily_api_key="unused", jwt_secret=SECRET)
    async with (
        app.service(settings) as service,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as database,
        asyncio.TaskGroup() as tasks,
    ):
        applying = tasks.create_task(inbox.run(service))
        yield Sessions(service, database)
        applying.cancel()


async def deliver(sessions: Sessions, told: list[Told], order: list[tuple[int, int] | None]) -> None:
    """Through the door, as Daily does, until nothing of it waits."""
    delivery = uuid.uuid4()
    for item in order:
        if item is LATER:
            await sessions.apply()
            continue
        number, copy = item
        type, payload, at = told[number]
        body = json.dumps(event(type, payload, f"{delivery}-{number}-{copy}", at)).encode()
        stamp = str(int(time.time()))
        await room_events.receive(sessions.service, SECRET, signature(SECRET, stamp, body), stamp, body)
    await sessions.apply()
    assert not await sessions.apply()
    assert not await sessions.errors()


# The error of a recording that was stopped, before the file that is there after all.
STOPPED = Lesson([("ada", 0.001, 0.002)], 101.0, Recorded("stopped", ("error", "ready"), 0.0))


@example(delivery=(STOPPED, [(0, 0), (1, 0), (2, 0), (3, 0), (5, 0), (4, 0), (6, 0)]))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(delivery=deliveries())
async def test_in_any_order_and_however_often_the_same_events_end_in_the_same_rows(
    sessions: Sessions, delivery: tuple[Lesson, list[tuple[int, int] | None]]
) -> None:
    lesson, order = delivery
    first, ids = await sessions.begin(lesson)
    twin, twin_ids = await sessions.begin(lesson)
    in_order = lesson.told(ids)
    for number in range(len(in_order)):
        await deliver(sessions, in_order, [(number, 0)])
    await deliver(sessions, lesson.told(twin_ids), order)
    assert await sessions.rows(twin, twin_ids) == await sessions.rows(first, ids)
    await sessions.agree(first, ids)
    await sessions.agree(twin, twin_ids)
    await sessions.remove(first, twin)
