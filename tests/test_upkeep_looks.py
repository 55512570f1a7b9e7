"""One look at Daily that takes too long, fails, or finds something unreadable holds up nothing for ever."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest

from server import app, deadline
from server.caller import Caller
from server.daily.client import Daily
from server.daily.errors import DailyUnavailable
from server.settings import Settings
from server.upkeep import attendance, inbox, recordings
from server.usecases import rules, sessions
from server.usecases.service import Service
from storage.errors import StorageUnavailable
from storage.model import Chore, Meeting, NewSession, Recording, Role
from storage.queue import Line
from storage.store import Transaction
from tests.databases import migrated
from tests.events import event
from tests.parts import Parts
from tests.wire import KEY, Wire, until

DAY = 24 * 3600
INSTANCE = UUID(int=7)


@pytest.fixture(scope="module")
def database_url(parts: Parts) -> Iterator[str]:
    with migrated(parts.database_url) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE sessions, chores, daily_events CASCADE")
        yield connection


@pytest.fixture
async def service(database_url: str, at_daily: Wire) -> AsyncIterator[Service]:
    settings = Settings(database_url=database_url, daily_api_url=at_daily.url, daily_api_key=KEY, jwt_secret=KEY)
    async with app.service(settings) as service:
        yield service


@pytest.fixture
def session_id(database: psycopg.Connection) -> UUID:
    row = database.execute(
        "INSERT INTO sessions (course_id, room_name, starts_at, created_by, recording_enabled, room_created_at)"
        " VALUES ('c', 'algebra', now(), 'ada', true, now()) RETURNING id"
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


async def _take(tx: Transaction, line: Line) -> list[tuple[Chore | Meeting | Recording, int]]:
    return await tx.queue.take(line, 1, rules.LEASE)


async def look(service: Service, line: Line) -> timedelta | None:
    """What upkeep does with the only item of the line: the pause until the next look."""
    works = {
        Line.CHORES: attendance.sweep,
        Line.MEETINGS: attendance.compare,
        Line.RECORDINGS: recordings.look_after,
    }
    [(item, attempts)] = await service.store.run(_take, line)
    async with deadline.within(deadline.WORK):
        return await works[line](service, item, attempts)  # type: ignore[arg-type]


# The sweep of meetings


def due(database: psycopg.Connection) -> None:
    database.execute("UPDATE chores SET due_at = clock_timestamp()")


async def test_a_sweep_that_is_cut_off_goes_on_where_it_was(
    service: Service, at_daily: Wire, database: psycopg.Connection
) -> None:
    database.execute(
        "INSERT INTO chores (id, due_at, done_until) VALUES ('meetings', now(), now() - interval '100 min')"
    )
    at_daily.answers("GET /meetings", {"data": []})
    assert await look(service, Line.CHORES) == timedelta()

    at_daily.open.clear()
    due(database)
    [(chore, attempts)] = await service.store.run(_take, Line.CHORES)
    assert isinstance(chore, Chore)
    with pytest.raises(DailyUnavailable):
        async with deadline.within(1):
            await attendance.sweep(service, chore, attempts)
    at_daily.open.set()

    pauses = []
    while attendance.SWEEP not in pauses:
        due(database)
        pauses.append(await look(service, Line.CHORES))
    assert pauses == [timedelta(), attendance.SWEEP]
    first, cut_off, again, last = [
        (int(one.query["timeframe_start"]), int(one.query.get("timeframe_end", 0))) for one in at_daily.asked
    ]
    overlap = int(attendance.OVERLAP.total_seconds())
    assert cut_off[0] == again[0] == first[1] - overlap
    assert last == (again[1] - overlap, 0)


# What cannot be read


async def test_a_meeting_whose_record_cannot_be_read_is_given_up_as_one_that_has_none(
    service: Service, at_daily: Wire, database: psycopg.Connection, session_id: UUID
) -> None:
    at_daily.answers("GET /meetings/met-1", {"id": "met-1", "room": "algebra", "start_time": 1766761200})
    database.execute(
        "INSERT INTO meetings (id, session_id, started_at, ended_at, due_at, attempts)"
        " VALUES ('met-1', %s, now() - interval '1 h', now() - interval '50 min', clock_timestamp(), %s)",
        [session_id, attendance.RECORD_GIVEN_UP - 2],
    )
    assert await look(service, Line.MEETINGS) == 16 * attendance.PAUSE
    database.execute("UPDATE meetings SET due_at = clock_timestamp()")
    assert await look(service, Line.MEETINGS) is None
    assert database.execute("SELECT compared_at IS NOT NULL FROM meetings").fetchone() == (True,)


@pytest.mark.parametrize(("stopped", "status"), [(DAY - 60, "completed"), (DAY + 60, "failed")])
async def test_a_recording_that_cannot_be_read_has_failed_a_day_after_its_stop(
    service: Service, at_daily: Wire, database: psycopg.Connection, session_id: UUID, stopped: int, status: str
) -> None:
    at_daily.answers("GET /recordings/rec-1", json.dumps({"id": "rec-1", "start_ts": "soon"}))
    database.execute(
        "INSERT INTO recordings (id, session_id, made_live, recording_id, status, started_at, stopped_at, due_at)"
        " VALUES (%s, %s, false, 'rec-1', 'completed', now() - make_interval(secs => %s),"
        " now() - make_interval(secs => %s), clock_timestamp())",
        [uuid4(), session_id, stopped + 60, stopped],
    )
    await look(service, Line.RECORDINGS)
    assert database.execute("SELECT status FROM recordings").fetchone() == (status,)


# The inbox


POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.id = 'poison' THEN RAISE unique_violation; END IF;
    RETURN new;
END $$;
CREATE TRIGGER poison BEFORE INSERT ON connections FOR EACH ROW EXECUTE FUNCTION poison();
"""


@pytest.fixture
def poison(database: psycopg.Connection) -> Iterator[None]:
    """A connection with this id cannot be written."""
    database.execute(POISON)
    yield
    database.execute("DROP FUNCTION poison CASCADE")


@pytest.fixture
async def applying(service: Service) -> AsyncIterator[None]:
    task = asyncio.create_task(inbox.run(service))
    yield
    task.cancel()


def came(database: psycopg.Connection, *events: dict[str, Any]) -> None:
    """The events, at one moment."""
    with database.transaction():
        for told in events:
            payload = told["payload"]
            room = payload.get("room") or payload.get("room_name")
            database.execute(
                "INSERT INTO daily_events (digest, id, type, room_name, body) VALUES (%s, %s, %s, %s, %s)",
                [uuid4().bytes, told["id"], told["type"], room, json.dumps(told).encode()],
            )


def error(database: psycopg.Connection, told: dict[str, Any]) -> str:
    row = database.execute("SELECT error FROM daily_events WHERE id = %s", [told["id"]]).fetchone()
    return str(row and row[0])


@pytest.mark.usefixtures("poison", "applying")
async def test_an_event_that_cannot_be_applied_makes_none_beside_it_impatient(
    database: psycopg.Connection, session_id: UUID
) -> None:
    database.execute(
        "INSERT INTO recordings (id, instance_id, session_id, made_live) VALUES (%s, %s, %s, false)",
        [INSTANCE, INSTANCE, session_id],
    )
    odd = event("participant.joined", {"room": "algebra", "session_id": "poison", "user_id": "sam"})
    early = event("recording.ready-to-download", {"room_name": "algebra", "recording_id": "rec-1", "duration": 5})
    came(database, odd, early)
    await until(lambda: "23505" in error(database, odd))
    assert error(database, early) == "it waits for another event"
    assert database.execute("SELECT recording_id FROM recordings").fetchall() == [(None,)]


class Defective:
    """Stands where Daily stands, and is broken."""

    async def recording(self, recording_id: str) -> None:
        raise ZeroDivisionError(recording_id)


async def test_an_event_whose_room_cannot_be_found_by_a_defect_of_ours_is_put_off(
    service: Service, database: psycopg.Connection
) -> None:
    broken = replace(service, daily=cast("Daily", Defective()))
    told = event("recording.started", {"recording_id": "rec-1"})
    came(database, told)
    task = asyncio.create_task(inbox.run(broken))
    await until(lambda: error(database, told) == "ZeroDivisionError('rec-1')")
    task.cancel()


# Creations


class OneTurn:
    """Stands where the budget stands, and is out of reach after one turn."""

    def __init__(self) -> None:
        self._given = False

    async def reserve(self, endpoints: str, count: int) -> list[float]:
        if self._given:
            raise StorageUnavailable("out of reach")
        self._given = True
        return [0.0]

    async def pause(self, endpoints: str, seconds: float) -> None:
        raise AssertionError


async def test_a_create_without_an_answer_and_then_without_a_turn_waits_until_that_request_is_over(
    service: Service, at_daily: Wire, database: psycopg.Connection
) -> None:
    at_daily.answers("POST /rooms", {"error": "server-error"}, 500)
    known = service.store.budgets
    daily = Daily(
        at_daily.url, KEY, OneTurn(), recall_domain=known.recall_domain, remember_domain=known.remember_domain
    )
    ada = Caller("ada", "Ada", Role.INSTRUCTOR)
    with pytest.raises(StorageUnavailable):
        await sessions.create(replace(service, daily=daily), ada, NewSession("c", datetime.now(UTC), True, None), None)
    await daily.close()
    assert at_daily.calls == ["POST /rooms"]
    left = "SELECT due_at - clock_timestamp() > interval '3 s' FROM sessions"
    assert database.execute(left).fetchall() == [(True,)]
