"""What the tests of faults have in common: what is due comes at once; what Daily and we say of a room."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch

import httpx
import psycopg

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack, servers_in_use

OF_ROOM = "session_id = (SELECT id FROM sessions WHERE room_name = %s)"
Said = tuple[int, Any]
ENDED = (400, {"message": "Session has ended"})
FAILED_STOP = (500, {"error": "Failed to stop session recording"})
STOP = "/rooms/{}/recordings/stop"


class Own:
    """A stack of a test module's own, and what drives it."""

    def __init__(self, stack: Stack, http: httpx.Client, control: httpx.Client, database: psycopg.Connection) -> None:
        self.stack, self.database = stack, database
        self.rest, self.daily = Rest(stack, http), DailyControl(control)

    def crash(self) -> None:
        """Ends every server at once and starts them again."""
        for server in self.stack.servers:
            server.kill()
        for server in self.stack.servers:
            server.spawn()
        for server in self.stack.servers:
            server.wait_ready()
        eventually(lambda: servers_in_use(self.stack) == len(self.stack.servers))


@contextmanager
def own_stack(
    workers: int = 1, settings: Mapping[str, int] | None = None, daily_options: tuple[str, ...] = ()
) -> Iterator[Own]:
    """`settings` are those of the service, such as EMPTY_TIMEOUT=2."""
    given = {f"LIVE_SESSIONS_{name}": str(value) for name, value in (settings or {}).items()}
    with ExitStack() as opened:
        with patch.dict(os.environ, given):
            stack = opened.enter_context(new_stack(workers, daily_options))
        http, control = (opened.enter_context(http_client(url)) for url in (stack.rest_url, stack.daily_url or ""))
        database = opened.enter_context(psycopg.connect(stack.database_url, autocommit=True))
        yield Own(stack, http, control, database)


def make_due(database: psycopg.Connection, room: str) -> None:
    """What is to be done about the room, now or later, is due, as if its pause had passed."""
    database.execute(
        "UPDATE sessions SET due_at = clock_timestamp() WHERE room_name = %s AND due_at IS NOT NULL", [room]
    )
    for table in ("recordings", "meetings"):
        database.execute(
            f"UPDATE {table} SET due_at = clock_timestamp() WHERE due_at IS NOT NULL AND {OF_ROOM}", [room]
        )


def make_chore_due(database: psycopg.Connection, chore: str) -> None:
    database.execute("UPDATE chores SET due_at = clock_timestamp() WHERE id = %s", [chore])


def call(
    rest: Rest, verb: str, room: str, as_: str = "ada", role: str = "instructor", timeout: float = 20
) -> httpx.Response:
    method, path = {
        "start": ("POST", "/start-recording"),
        "stop": ("POST", "/stop-recording"),
        "recording": ("GET", "/recording"),
        "token": ("POST", "/token"),
        "delete": ("DELETE", ""),
    }[verb]
    return rest.call(method, f"/sessions/{room}{path}", as_, role, timeout=timeout)


def leave_hanging(rest: Rest, daily: DailyControl, verb: str, room: str, request: str, timeout: float = 20) -> None:
    """A call by somebody who goes away; returns when Daily has been asked for what it needs."""
    before = daily.calls(request)

    def ask() -> None:
        with suppress(httpx.HTTPError):
            call(rest, verb, room, timeout=timeout)

    threading.Thread(target=ask, daemon=True).start()
    eventually(lambda: daily.calls(request) > before)


def said_to(rest: Rest, verb: str, room: str, as_: str = "ada", role: str = "instructor") -> Said:
    answer = call(rest, verb, room, as_, role)
    return answer.status_code, answer.json()


def entries(rest: Rest, room: str, as_: str = "ada") -> list[dict[str, Any]]:
    """The session's recordings, newest first."""
    return list(rest.call("GET", f"/sessions/{room}/recordings", as_).json())


def stays(rest: Rest, room: str, as_: str = "ada") -> dict[str, tuple[str | None, str | None]]:
    """When each participant joined and left."""
    told = rest.call("GET", f"/sessions/{room}/participants", as_).json()
    return {one["userId"]: (one.get("joinedAt"), one.get("leftAt")) for one in told}


def enter(rest: Rest, daily: DailyControl, room: str, user: str, role: str = "student") -> dict[str, Any]:
    """The user gets a token and joins; their connection."""
    return daily.join(room, call(rest, "token", room, user, role).json()["token"])


def inside(daily: DailyControl, room: str) -> list[str]:
    return sorted(one["user_id"] for one in daily.of_room(room)["connections"] if one["left_at"] is None)


def running(daily: DailyControl, room: str) -> list[str]:
    """The ids of what Daily records in the room."""
    return [one["id"] for one in daily.recordings(room) if one["end_ts"] is None]


def has_ended(rest: Rest, room: str) -> bool:
    return bool(rest.get(room)["status"] == "ended")


def eventually_ended(rest: Rest, database: psycopg.Connection, room: str) -> None:
    """Without waiting for a pause or a lease."""
    make_due(database, room)
    eventually(lambda: has_ended(rest, room))


def warnings(stack: Stack) -> list[str]:
    """What the servers logged as a warning or worse."""
    lines = [line for server in stack.servers for line in server.log.read_text().splitlines()]
    return [line for line in lines if " WARNING " in line or " ERROR " in line]


def refuse_after_a_lost_answer(daily: DailyControl, room: str) -> None:
    """Daily stops the recording, and its answer is lost with those to all that we ask then."""
    daily.fault("lost_answer", "POST", STOP.format(room))
    daily.fault("status", "POST", STOP.format(room), status=503, times=None)


def is_completed(rest: Rest, room: str) -> bool:
    """Whether that is so of the session's one recording."""
    return [one["status"] for one in entries(rest, room)] == ["completed"]
