"""One row that somebody's psql has locked is that one's problem: all others in each line are seen to."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from sandbox.stack import Stack
from server.upkeep.sessions import _close_short_stays
from storage.store import Store
from tests.clients import DailyControl, Rest, eventually
from tests.faults.steps import (
    FAILED_STOP,
    STOP,
    call,
    enter,
    entries,
    eventually_ended,
    has_ended,
    make_due,
    said_to,
    stays,
)


@pytest.fixture
def unfinished(rest: Rest, daily: DailyControl) -> str:
    """A room whose stop was asked for and is not finished."""
    room = str(rest.recording()["roomName"])
    daily.fault("status", "POST", STOP.format(room), status=503, times=4)
    assert said_to(rest, "stop", room) == FAILED_STOP
    return room


@contextmanager
def locked(stack: Stack, table: str, where: str, *values: object) -> Iterator[None]:
    """By somebody's psql, who has gone for a coffee."""
    with psycopg.connect(stack.database_url) as idle:
        rows = idle.execute(f"SELECT FROM {table} WHERE {where} FOR UPDATE", values).rowcount
        assert rows == 1
        yield


def test_a_stop_is_finished_behind_one_whose_session_is_locked(
    stack: Stack, rest: Rest, database: psycopg.Connection, daily: DailyControl, unfinished: str
) -> None:
    other = rest.recording()["roomName"]
    daily.fault("status", "POST", STOP.format(other), status=503, times=4)
    assert said_to(rest, "stop", other) == FAILED_STOP
    with locked(stack, "sessions", "room_name = %s", unfinished):
        eventually_ended(rest, database, other)
        assert not has_ended(rest, unfinished)
    eventually_ended(rest, database, unfinished)


def test_a_room_is_removed_behind_one_whose_session_is_locked(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    rooms = [rest.recording()["roomName"] for _ in range(2)]
    assert [call(rest, "stop", room).status_code for room in rooms] == [200, 200]
    with locked(stack, "sessions", "room_name = %s", rooms[0]):
        make_due(database, rooms[1])
        eventually(lambda: rooms[1] not in daily.rooms())
        assert rooms[0] in daily.rooms()
    make_due(database, rooms[0])
    eventually(lambda: rooms[0] not in daily.rooms())


def test_a_start_is_gone_on_with_behind_one_whose_recording_is_locked(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    rooms = [rest.create()["roomName"] for _ in range(2)]
    for room in rooms:
        daily.fault("status", "POST", f"/rooms/{room}/recordings/start", status=503, times=None)
        assert call(rest, "start", room).status_code == 500
    daily.clear_faults()
    [first, second] = [entries(rest, room)[0]["_id"] for room in rooms]
    with locked(stack, "recordings", "id = %s", first):
        make_recording_due(database, second)
        eventually(lambda: entries(rest, rooms[1])[0]["recordingId"])
    make_recording_due(database, first)
    eventually(lambda: entries(rest, rooms[0])[0]["recordingId"])


def make_recording_due(database: psycopg.Connection, id: str) -> None:
    database.execute("UPDATE recordings SET due_at = clock_timestamp() WHERE id = %s", [id])


def test_a_file_is_found_behind_a_recording_that_is_locked(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.fault("webhook_drop", type="recording.ready-to-download", times=None)
    rooms = [rest.recording()["roomName"] for _ in range(2)]
    assert [call(rest, "stop", room).status_code for room in rooms] == [200, 200]
    for room in rooms:
        eventually(lambda room=room: daily.recordings(room)[0]["status"] == "finished")
    [first, second] = [entries(rest, room)[0]["_id"] for room in rooms]
    make_recording_due(database, first)
    with locked(stack, "recordings", "id = %s", first):
        make_recording_due(database, second)
        eventually(lambda: entries(rest, rooms[1])[0].get("s3Key"))
    make_recording_due(database, first)
    eventually(lambda: entries(rest, rooms[0])[0].get("s3Key"))


def test_attendance_is_compared_behind_a_meeting_and_a_chore_that_are_locked(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    rooms = [rest.create()["roomName"] for _ in range(2)]
    for room in rooms:
        daily.fault("webhook_drop", type="participant.left", room=room)
        sam = enter(rest, daily, room, "sam")
        eventually(lambda room=room: stays(rest, room)["sam"][0])
        daily.leave(room, sam["session_id"])
        eventually(lambda room=room: meeting_ended(database, room))
    first = eventually(lambda: meeting_ended(database, rooms[0]))
    with (
        locked(stack, "meetings", "id = %s", first),
        locked(stack, "chores", "id = 'webhook'"),
        locked(stack, "chores", "id = 'forget'"),
    ):
        make_due(database, rooms[1])
        eventually(lambda: compared(database, rooms[1]))
        assert not compared(database, rooms[0])
    make_due(database, rooms[0])
    eventually(lambda: compared(database, rooms[0]))


OF_ROOM = "FROM meetings JOIN sessions ON sessions.id = session_id WHERE room_name = %s"


def meeting_ended(database: psycopg.Connection, room: str) -> str | None:
    row = database.execute(f"SELECT meetings.id {OF_ROOM} AND ended_at IS NOT NULL", [room]).fetchone()
    return None if row is None else str(row[0])


def compared(database: psycopg.Connection, room: str) -> bool:
    return bool(database.execute(f"SELECT {OF_ROOM} AND compared_at IS NOT NULL", [room]).fetchone() is not None)


async def test_a_session_is_locked_before_stays_that_daily_has_no_record_of_are_closed(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    """As by all who write stays: the events that tell of them take their revisions from it."""
    room = rest.create()["roomName"]
    free = "SELECT FROM sessions WHERE room_name = %s FOR NO KEY UPDATE SKIP LOCKED"
    store = Store(stack.database_url, {})
    try:
        async with store.transaction() as tx:
            session = await tx.sessions.by_name(room)
            assert session is not None
            assert database.execute(free, [room]).rowcount == 1
            await _close_short_stays(tx, session, set(), session.created_at)
            assert database.execute(free, [room]).rowcount == 0
    finally:
        await store.close()
