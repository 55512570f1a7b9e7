"""Attendance is complete, and every event applied, whatever was lost on the way or came too early."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.events import CLASS, Webhook
from tests.passes import entry, reconcile

ME = "attendance-instructor"


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


def test_a_join_that_was_lost_is_found_in_dailys_records(
    stack: Stack, rest: Rest, daily: DailyControl, room: str
) -> None:
    lose(daily, "meeting.started", "participant.joined")
    stay = daily.join(room, token(rest, room))
    reconcile(stack, room)
    assert times(rest, room) == (iso(stay["joined_at"]), None)
    assert rest.get(room)["status"] == "live"


def test_a_leave_that_was_lost_is_found_when_the_meeting_is_over(
    stack: Stack, rest: Rest, daily: DailyControl, room: str
) -> None:
    lose(daily, "participant.left", "meeting.ended")
    stay = daily.join(room, token(rest, room))
    eventually(lambda: times(rest, room)[0])
    left = daily.leave(room, stay["session_id"])
    reconcile(stack, room)
    assert times(rest, room) == (iso(stay["joined_at"]), iso(left["left_at"]))


def test_a_meeting_of_which_nothing_was_told_is_found_whole(
    stack: Stack, rest: Rest, daily: DailyControl, room: str
) -> None:
    lose(daily, "meeting.started", "participant.joined", "participant.left", "meeting.ended")
    stay = daily.join(room, token(rest, room))
    left = daily.leave(room, stay["session_id"])
    reconcile(stack, room)
    assert times(rest, room) == (iso(stay["joined_at"]), iso(left["left_at"]))
    assert rest.get(room)["status"] == "live"


def test_what_was_found_is_not_changed_by_the_event_that_comes_late(
    stack: Stack, rest: Rest, daily: DailyControl, room: str, database: psycopg.Connection
) -> None:
    lose(daily, "meeting.started", "participant.joined", "participant.left", "meeting.ended")
    stay = daily.join(room, token(rest, room))
    left = daily.leave(room, stay["session_id"])
    reconcile(stack, room)
    found = times(rest, room)
    payload = {"room": room, "session_id": stay["session_id"], "user_id": "sam", "joined_at": stay["joined_at"]}
    Webhook(stack, rest, database).send("participant.joined", payload)
    Webhook(stack, rest, database).send("participant.left", payload | {"duration": left["left_at"] - stay["joined_at"]})
    assert times(rest, room) == found


@pytest.fixture
def hopeless(database: psycopg.Connection) -> Iterator[None]:
    """As many events as one pass tries, all older than any other, which never can be applied."""
    database.execute(
        "INSERT INTO webhook_events (id, type, body, received_at, attempts)"
        " SELECT 'hopeless-' || number, 'meeting.started', '{}', now() - interval '1 hour', 5"
        " FROM generate_series(1, 100) AS number"
    )
    yield
    database.execute("DELETE FROM webhook_events WHERE id LIKE 'hopeless-%'")


@pytest.mark.usefixtures("hopeless")
def test_an_event_that_came_too_early_is_applied_once_it_can_be_however_many_others_cannot(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    session, id = rest.create(ME), str(uuid.uuid4())
    row = database.execute(
        "INSERT INTO recordings (session_id, made_live, lease_until) VALUES (%s, true, now() + '1 hour') RETURNING id",
        [session["_id"]],
    ).fetchone()
    assert row is not None
    webhook = Webhook(stack, rest, database)
    ready = {"recording_id": id, "room_name": session["roomName"], "duration": 5, "s3_key": "a/b"}
    early = webhook.send("recording.ready-to-download", ready)
    kept = webhook.kept(early)
    assert kept is not None
    assert kept["error"] == "NotYet('no recording of this session has that id')"

    webhook.send("recording.started", {"recording_id": id, "instance_id": str(row[0]), "start_ts": CLASS})
    eventually(lambda: (webhook.kept(early) or {})["applied"], 30)  # by the stack's own leader
    told = entry(rest, ME, session["roomName"])
    assert (told["status"], told["duration"], told["s3Key"]) == ("completed", 5, "a/b")
    assert (webhook.kept(early) or {})["error"] is None
