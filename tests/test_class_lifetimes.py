"""A class that nobody stops or deletes ends by itself, by the rules as they are unless set otherwise; and never while
somebody is there, whatever was lost on the way."""

import time
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.due import becomes, recorded_times

ME = "lifetimes-instructor"
DAY, QUARTER, HALF_DAY, HOUR = 86_400, 900, 43_200, 3600


def long_ago(database: psycopg.Connection, column: str, seconds: int, room: str) -> datetime:
    """As if the session had become so, so long ago, and is looked at now; when that was."""
    query = (
        f"UPDATE sessions SET {column} = now() - %s * interval '1 s', due_at = clock_timestamp()"
        f" WHERE room_name = %s RETURNING {column}"
    )
    row = database.execute(query, [seconds, room]).fetchone()
    assert row is not None
    return row[0]


def seen_empty(database: psycopg.Connection, room: str) -> None:
    """As if Daily had said half a minute ago that nobody is there, and it is asked again now."""
    database.execute(
        "UPDATE sessions SET seen_empty_at = now() - interval '31 s', due_at = clock_timestamp() WHERE room_name = %s",
        [room],
    )


def looked_at(database: psycopg.Connection, room: str) -> None:
    """Until it was seen to and put off: a look has a lease of less than half a minute."""
    query = "SELECT due_at > clock_timestamp() + interval '40 s' FROM sessions WHERE room_name = %s"
    eventually(lambda: database.execute(query, [room]).fetchone() == (True,))


def ended(rest: Rest, room: str) -> datetime:
    """When it ended, once it has."""
    session = eventually(lambda: one if (one := rest.get(room))["status"] == "ended" else {})
    return datetime.fromisoformat(session["endsAt"])


def join(rest: Rest, daily: DailyControl, room: str) -> dict[str, Any]:
    return daily.join(room, rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"])


def times(rest: Rest, room: str) -> tuple[str | None, str | None]:
    """When the only participant joined and left."""
    [person] = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return person.get("joinedAt"), person.get("leftAt")


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


@pytest.fixture
def occupied(rest: Rest, daily: DailyControl, room: str) -> str:
    """A live session in which Sam is."""
    join(rest, daily, room)
    eventually(lambda: times(rest, room)[0])
    return room


def test_a_session_to_which_nobody_came_ends_a_day_after_its_planned_start(
    rest: Rest, database: psycopg.Connection, room: str
) -> None:
    created_at = long_ago(database, "created_at", DAY + 1, room)
    assert ended(rest, room) >= created_at + timedelta(seconds=DAY)


def test_a_session_that_may_yet_begin_is_left_alone(rest: Rest, database: psycopg.Connection, room: str) -> None:
    long_ago(database, "created_at", DAY - 300, room)
    looked_at(database, room)
    assert rest.get(room)["status"] == "scheduled"


def test_a_session_whose_room_was_empty_for_a_quarter_ended_when_the_last_person_left(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    stay = join(rest, daily, room)
    daily.leave(room, stay["session_id"])
    eventually(lambda: times(rest, room)[1])
    query = (
        "UPDATE connections SET joined_at = now() - interval '902 s', left_at = now() - interval '901 s'"
        " WHERE id = %s RETURNING left_at"
    )
    row = database.execute(query, [stay["session_id"]]).fetchone()
    seen_empty(database, room)
    assert row == (ended(rest, room),)


def test_a_recorded_session_to_which_nobody_came_ended_when_it_became_live_and_is_stopped(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording(ME)["roomName"]
    live_at = long_ago(database, "live_at", QUARTER + 1, room)
    seen_empty(database, room)
    assert ended(rest, room) == live_at
    becomes(rest, ME, room, "completed")
    eventually(lambda: [one["status"] for one in daily.recordings(room)] == ["finished"])


def test_a_session_in_which_somebody_is_goes_on(rest: Rest, database: psycopg.Connection, occupied: str) -> None:
    long_ago(database, "live_at", HOUR + 1, occupied)
    looked_at(database, occupied)
    assert rest.get(occupied)["status"] == "live"


def test_a_session_in_which_somebody_is_though_no_event_told_so_goes_on_and_knows_them(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording(ME)["roomName"]
    daily.fault("webhook_drop", times=None)
    join(rest, daily, room)
    long_ago(database, "live_at", QUARTER + 1, room)
    looked_at(database, room)
    assert rest.get(room)["status"] == "live"
    assert times(rest, room)[0]


def test_a_leave_that_was_lost_keeps_no_session_open(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    stay = join(rest, daily, room)
    eventually(lambda: times(rest, room)[0])
    daily.fault("webhook_drop", times=None)
    daily.leave(room, stay["session_id"])
    long_ago(database, "live_at", HOUR + 1, room)
    eventually(lambda: times(rest, room)[1])
    assert times(rest, room)[1] == max(times(rest, room)[0] or "", recorded_times(stack, room, "sam")[1])

    database.execute(
        "UPDATE connections SET polled_left_at = now() - interval '901 s' WHERE session_id = %s::uuid",
        [rest.get(room)["_id"]],
    )
    database.execute("UPDATE connections SET joined_at = polled_left_at WHERE id = %s", [stay["session_id"]])
    seen_empty(database, room)
    ended(rest, room)


def test_a_room_that_empties_while_daily_is_asked_who_is_there_is_looked_at_a_quarter_later(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    stay = join(rest, daily, room)
    eventually(lambda: times(rest, room)[0])
    daily.settings(presence_lag=4.0)
    daily.fault("delay", "GET", "/rooms/*/presence", seconds=2)
    eventually(lambda: time.time() > stay["joined_at"] + 3)
    asked = daily.calls("GET /rooms/:name/presence")
    long_ago(database, "live_at", HOUR + 1, room)
    eventually(lambda: daily.calls("GET /rooms/:name/presence") > asked)
    daily.leave(room, stay["session_id"])
    query = (
        "SELECT due_at - left_at FROM sessions JOIN connections ON session_id = sessions.id"
        " WHERE room_name = %s AND left_at IS NOT NULL AND due_at > clock_timestamp() + interval '40 s'"
    )
    [(pause,)] = eventually(lambda: database.execute(query, [room]).fetchall(), 30)  # the lease ends before that
    assert abs(pause - timedelta(seconds=QUARTER)) < timedelta(seconds=1)


def test_a_session_ends_when_it_was_live_for_half_a_day_whoever_is_there(
    rest: Rest, database: psycopg.Connection, occupied: str
) -> None:
    live_at = long_ago(database, "live_at", HALF_DAY + 1, occupied)
    assert ended(rest, occupied) >= live_at + timedelta(seconds=HALF_DAY)
