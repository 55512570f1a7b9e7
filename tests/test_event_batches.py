"""Daily's events are applied in batches, many rooms at a time, and none of them waits for another room's."""

import json
import uuid
from typing import Any

import psycopg

from sandbox.stack import Stack
from server.upkeep.inbox import EVENTS
from tests.clients import Rest, eventually

ME = "batches-instructor"
AT = 1766761200.0
KEEP = "INSERT INTO daily_events (id, type, room_name, body) VALUES (%s, %s, %s, %s)"


def told(room: str, user: str, **more: Any) -> tuple[str, str, str, bytes]:
    """A row of the inbox: that somebody joined."""
    stay = str(uuid.uuid4())
    payload = {"room": room, "user_id": user, "session_id": stay, "joined_at": AT, "owner": False} | more
    event = {"type": "participant.joined", "id": stay, "payload": payload, "event_ts": AT}
    return stay, "participant.joined", room, json.dumps(event).encode()


def keep(database: psycopg.Connection, *events: tuple[str, str, str, bytes]) -> None:
    """All at once, so that they are due together."""
    with database.transaction(), database.cursor() as cursor:
        cursor.executemany(KEEP, events)


def people(rest: Rest, room: str) -> list[str]:
    answer = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return sorted(person["userId"] for person in answer if person.get("joinedAt"))


def test_events_of_many_rooms_go_each_to_its_own(rest: Rest, database: psycopg.Connection) -> None:
    rooms = [str(rest.create(ME)["roomName"]) for _ in range(3)]
    keep(database, *(told(room, f"{user}-of-{room}") for user in ("ada", "lin") for room in rooms))
    for room in rooms:
        eventually(lambda room=room: people(rest, room) == [f"ada-of-{room}", f"lin-of-{room}"])
        assert rest.get(room)["status"] == "live"


def test_an_event_that_cannot_be_read_keeps_none_of_its_batch(rest: Rest, database: psycopg.Connection) -> None:
    room = str(rest.create(ME)["roomName"])
    odd = told(room, "nobody", session_id=None)
    keep(database, told(room, "ada"), odd, told(room, "lin"))
    eventually(lambda: people(rest, room) == ["ada", "lin"])
    assert database.execute("SELECT error FROM daily_events WHERE id = %s", [odd[0]]).fetchone() == (
        "Unreadable('no session_id')",
    )


def test_a_session_that_somebody_has_locked_keeps_no_other_waiting(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    locked, free = (str(rest.create(ME)["roomName"]) for _ in range(2))
    with psycopg.connect(stack.database_url) as idle:
        idle.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [locked])
        keep(database, *(told(locked, "ada") for _ in range(3 * EVENTS)))
        keep(database, told(free, "lin"))
        eventually(lambda: people(rest, free) == ["lin"])
        assert people(rest, locked) == []
    eventually(lambda: people(rest, locked) == ["ada"])
