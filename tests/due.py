"""What is due is due now, as upkeep itself would say later; and what it is to find at Daily."""

from typing import Any

import httpx
import psycopg

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually

FOUND = {
    "sessions": "UPDATE sessions SET due_at = clock_timestamp() WHERE room_name = %s",
    "recordings": "UPDATE recordings SET due_at = clock_timestamp() FROM sessions"
    " WHERE session_id = sessions.id AND room_name = %s",
}


def is_due(database: psycopg.Connection, table: str, room_name: str) -> None:
    """The room's session, or its recordings: the stack's own upkeep sees to them within the second."""
    assert database.execute(FOUND[table], [room_name]).rowcount > 0


def meetings_are_due(database: psycopg.Connection) -> None:
    """Those are looked for that nobody told us of."""
    assert database.execute("UPDATE chores SET due_at = clock_timestamp() WHERE id = 'meetings'").rowcount == 1


def at_daily(stack: Stack, method: str, path: str, **body: object) -> httpx.Response:
    """Calls Daily behind our service's back: its API under /v1, the stand-in's control under /sandbox."""
    headers = {"Authorization": f"Bearer {stack.environment['LIVE_SESSIONS_DAILY_API_KEY']}"}
    answer = httpx.request(method, f"{stack.daily_url}{path}", json=body, headers=headers, trust_env=False, timeout=20)
    assert answer.is_success, answer.text
    return answer


def recorded_times(stack: Stack, room: str, user: str) -> tuple[str, str]:
    """When the user joined and left by Daily's record of the room's only meeting: in whole seconds."""
    [meeting] = at_daily(stack, "GET", f"/v1/meetings?room={room}").json()["data"]
    [stay] = [one for one in meeting["participants"] if one["user_id"] == user]
    return iso(stay["join_time"]), iso(stay["join_time"] + stay["duration"])


def entry(rest: Rest, instructor: str, room: str) -> dict[str, Any]:
    """The one recording of the session."""
    [one] = rest.call("GET", f"/sessions/{room}/recordings", instructor).json()
    return dict(one)


def becomes(rest: Rest, instructor: str, room: str, status: str) -> dict[str, Any]:
    """The one recording of the session, once it has this status."""
    return eventually(lambda: one if (one := entry(rest, instructor, room))["status"] == status else {})


def at_end(daily: DailyControl, room: str, status: str = "finished") -> dict[str, Any]:
    """Daily's recording of the room that has come to this status."""
    return eventually(lambda: next((one for one in daily.recordings(room) if one["status"] == status), {}))
