"""Attendance is complete, and every event applied, whatever was lost on the way or came too early."""

import uuid
from typing import Any

import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.due import entry, meetings_are_due, recorded_times
from tests.events import CLASS, Webhook

ME = "attendance-instructor"
OF_MEETINGS = ("meeting.started", "participant.joined", "participant.left", "meeting.ended")


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


def token(rest: Rest, room: str) -> str:
    return str(rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"])


def lose(daily: DailyControl, *types: str) -> None:
    for type in types:
        daily.fault("webhook_drop", type=type, times=None)


def times(rest: Rest, room: str) -> tuple[str | None, str | None]:
    """When the only participant joined and left."""
    [person] = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return person.get("joinedAt"), person.get("leftAt")


def stay_untold(rest: Rest, daily: DailyControl, room: str) -> dict[str, Any]:
    """Somebody's stay, of which no event comes: how Daily tells it."""
    lose(daily, *OF_MEETINGS)
    stay = daily.join(room, token(rest, room))
    return stay | daily.leave(room, stay["session_id"])


def test_a_join_that_was_lost_is_found_in_dailys_records(
    rest: Rest, daily: DailyControl, room: str, database: psycopg.Connection
) -> None:
    lose(daily, "meeting.started", "participant.joined")
    stay = daily.join(room, token(rest, room))
    meetings_are_due(database)
    eventually(lambda: times(rest, room) == (iso(int(stay["joined_at"])), None))
    assert rest.get(room)["status"] == "live"


def test_a_leave_that_was_lost_is_found_when_the_meeting_is_over(
    stack: Stack, rest: Rest, daily: DailyControl, room: str, database: psycopg.Connection
) -> None:
    lose(daily, "participant.left", "meeting.ended")
    stay = daily.join(room, token(rest, room))
    eventually(lambda: times(rest, room)[0])
    daily.leave(room, stay["session_id"])
    meetings_are_due(database)
    joined = iso(stay["joined_at"])
    left = max(joined, recorded_times(stack, room, "sam")[1])
    eventually(lambda: times(rest, room) == (joined, left))


def test_a_meeting_of_which_nothing_was_told_is_found_whole(
    stack: Stack, rest: Rest, daily: DailyControl, room: str, database: psycopg.Connection
) -> None:
    stay_untold(rest, daily, room)
    meetings_are_due(database)
    eventually(lambda: times(rest, room) == recorded_times(stack, room, "sam"))
    assert rest.get(room)["status"] == "live"


def test_what_was_found_is_made_exact_by_the_events_that_come_late(
    stack: Stack, rest: Rest, daily: DailyControl, room: str, database: psycopg.Connection
) -> None:
    stay = stay_untold(rest, daily, room)
    meetings_are_due(database)
    eventually(lambda: times(rest, room) == recorded_times(stack, room, "sam"))
    payload = {"room": room, "session_id": stay["session_id"], "user_id": "sam", "joined_at": stay["joined_at"]}
    webhook = Webhook(stack, rest, database)
    webhook.tell("participant.joined", payload)
    webhook.tell("participant.left", payload | {"duration": stay["left_at"] - stay["joined_at"]})
    assert times(rest, room) == (iso(stay["joined_at"]), iso(stay["left_at"]))


def starting(rest: Rest, database: psycopg.Connection) -> tuple[str, str]:
    """A room whose recording was asked for and not confirmed yet, and our id of that recording."""
    session, id = rest.create(ME), str(uuid.uuid4())
    database.execute(
        "INSERT INTO recordings (id, instance_id, session_id, made_live, due_at)"
        " VALUES (%s, %s, %s, true, now() + '1 hour')",
        [id, id, session["_id"]],
    )
    return session["roomName"], id


@pytest.fixture
def hopeless(rest: Rest, database: psycopg.Connection) -> None:
    """More events than one transaction takes, all older than any other, that wait for one that never comes."""
    room, _ = starting(rest, database)
    database.execute(
        "INSERT INTO daily_events (digest, id, type, room_name, received_at, body)"
        " SELECT sha256(number::text::bytea), 'hopeless-' || number, 'recording.ready-to-download', %s,"
        " now() - interval '1 hour', convert_to("
        """ '{"type": "recording.ready-to-download", "payload": {"recording_id": "r' || number ||"""
        """ '", "room_name": "' || %s || '"}}', 'UTF8') FROM generate_series(1, 1200) AS number""",
        [room, room],
    )


@pytest.mark.usefixtures("hopeless")
def test_an_event_that_came_too_early_is_applied_once_it_can_be_however_many_others_cannot(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    (room, instance), id = starting(rest, database), str(uuid.uuid4())
    webhook = Webhook(stack, rest, database)
    ready = {"recording_id": id, "room_name": room, "duration": 5, "s3_key": "a/b"}
    early = webhook.send("recording.ready-to-download", ready)
    assert webhook.put_off(early)["error"] == "it waits for another event"

    webhook.tell("recording.started", {"recording_id": id, "instance_id": instance, "start_ts": CLASS})
    assert webhook.done(early)["error"] is None
    told = entry(rest, ME, room)
    assert (told["recordingId"], told["status"], told["duration"], told["s3Key"]) == (id, "completed", 5, "a/b")
