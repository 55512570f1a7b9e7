"""A session is moved, enlarged and made recordable: here at once, and at Daily with the call or soon after."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from tests.clients import EXAMPLE, DailyControl, Rest, at_once, bearer, eventually, said

ME = "updating-instructor"
LATER = "2031-05-06T07:08:09.010Z"


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


def update(rest: Rest, room: str, **changes: object) -> tuple[int, Any]:
    return said(rest.call("PATCH", f"/sessions/{room}", ME, json=changes))


def at_daily(daily: DailyControl, room: str) -> dict[str, Any]:
    """What is set of the room there."""
    [found] = daily.of_room(room)["rooms"]
    return dict(found["config"])


@pytest.mark.parametrize(
    "changes",
    [
        {"courseId": "another course"},
        {"startsAt": LATER},
        {"recordingEnabled": False},
        {"maxParticipants": 7},
        {"courseId": "geometry", "startsAt": LATER, "recordingEnabled": False, "maxParticipants": 200},
    ],
)
def test_what_is_given_changes_and_nothing_else(rest: Rest, room: str, changes: dict[str, object]) -> None:
    before = rest.get(room)
    status, after = update(rest, room, **changes)
    assert (status, after) == (200, before | changes | {"updatedAt": after["updatedAt"]})
    assert after["updatedAt"] > before["updatedAt"]
    assert rest.get(room) == after


def test_the_limit_and_the_recording_are_so_at_daily_when_the_call_answers(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    update(rest, room, maxParticipants=7, recordingEnabled=False)
    assert at_daily(daily, room)["max_participants"] == 7
    assert "enable_recording" not in at_daily(daily, room)
    update(rest, room, maxParticipants=0, recordingEnabled=True)
    assert "max_participants" not in at_daily(daily, room)
    assert at_daily(daily, room)["enable_recording"] == "cloud"


def test_without_a_limit_the_session_has_none(rest: Rest, room: str) -> None:
    after = update(rest, room, maxParticipants=0)[1]
    assert "maxParticipants" not in after


def test_a_session_that_is_moved_later_keeps_its_room_for_longer(rest: Rest, daily: DailyControl, room: str) -> None:
    before = at_daily(daily, room)["exp"]
    update(rest, room, startsAt=LATER)
    assert at_daily(daily, room)["exp"] > datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC).timestamp() > before


def test_a_limit_below_the_number_of_those_inside_puts_nobody_out(rest: Rest, daily: DailyControl, room: str) -> None:
    inside = daily.fill(room, 5)
    assert update(rest, room, maxParticipants=2)[0] == 200
    stays = daily.of_room(room)["connections"]
    assert [one["session_id"] for one in stays if one["left_at"] is None] == inside


def test_what_changes_nothing_leaves_the_time_of_the_last_change(rest: Rest, room: str) -> None:
    before = rest.get(room)
    same = {name: EXAMPLE[name] for name in ("courseId", "startsAt", "recordingEnabled", "maxParticipants")}
    assert update(rest, room, **same) == (200, before)


def test_a_change_while_daily_is_down_is_made_and_reaches_the_room_later(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    daily.fault("status", "POST", f"/rooms/{room}", status=500, times=4)
    assert update(rest, room, maxParticipants=9) == (500, {"error": "Failed to update session"})
    assert rest.get(room)["maxParticipants"] == 9
    eventually(lambda: at_daily(daily, room)["max_participants"] == 9, 30)


def test_a_change_that_met_a_wrong_key_reaches_the_room_when_the_key_is_right(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    daily.fault("status", "POST", f"/rooms/{room}", status=401, times=2)
    assert update(rest, room, maxParticipants=9) == (500, {"error": "Failed to update session"})
    eventually(lambda: at_daily(daily, room)["max_participants"] == 9, 30)


@pytest.mark.parametrize("status", [403, 500])
def test_a_session_whose_room_daily_does_not_change_ends_by_its_rules_all_the_same(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str, status: int
) -> None:
    daily.fault("status", "POST", f"/rooms/{room}", status=status, times=None)
    assert update(rest, room, maxParticipants=9)[0] == 500
    two_days_ago = "created_at = now() - interval '2 days', due_at = clock_timestamp()"
    database.execute(f"UPDATE sessions SET {two_days_ago} WHERE room_name = %s", [room])
    eventually(lambda: rest.get(room)["status"] == "ended")


def test_of_two_changes_at_once_daily_has_what_the_row_has(rest: Rest, daily: DailyControl, room: str) -> None:
    at_once(*(lambda limit=limit: update(rest, room, maxParticipants=limit) for limit in (11, 12, 13, 14)))
    limit = rest.get(room)["maxParticipants"]
    eventually(lambda: at_daily(daily, room)["max_participants"] == limit, 60)


def test_two_changes_of_different_fields_at_once_are_both_made(rest: Rest, room: str) -> None:
    at_once(lambda: update(rest, room, maxParticipants=11), lambda: update(rest, room, courseId="geometry"))
    after = rest.get(room)
    assert (after["maxParticipants"], after["courseId"]) == (11, "geometry")


# When


def test_a_live_session_is_not_moved_but_may_be_enlarged(rest: Rest, room: str) -> None:
    rest.call("POST", f"/sessions/{room}/start-recording", ME)
    assert update(rest, room, startsAt=LATER) == (400, {"message": "Session has started"})
    assert update(rest, room, startsAt=LATER, maxParticipants=3)[0] == 400
    assert rest.get(room)["maxParticipants"] == EXAMPLE["maxParticipants"]
    assert update(rest, room, maxParticipants=3)[1]["maxParticipants"] == 3


def test_an_ended_session_is_not_changed(rest: Rest, room: str) -> None:
    ended = rest.call("DELETE", f"/sessions/{room}", ME).json()
    assert update(rest, room, courseId="geometry") == (400, {"message": "Session has ended"})
    assert rest.get(room) == ended


def test_a_recording_that_runs_when_recording_is_switched_off_is_stopped_with_the_session(
    rest: Rest, daily: DailyControl, room: str
) -> None:
    started = rest.call("POST", f"/sessions/{room}/start-recording", ME).json()
    assert update(rest, room, recordingEnabled=False)[0] == 200
    assert [one["status"] for one in daily.recordings(room)] == ["in-progress"]
    stopped = rest.call("POST", f"/sessions/{room}/stop-recording", ME).json()
    assert stopped["recordingId"] == started["recordingId"]
    assert all(one["end_ts"] for one in daily.recordings(room))


def test_a_session_made_recordable_is_recorded(rest: Rest) -> None:
    room = rest.create(ME, recordingEnabled=False)["roomName"]
    assert rest.call("POST", f"/sessions/{room}/start-recording", ME).status_code == 400
    update(rest, room, recordingEnabled=True)
    assert rest.call("POST", f"/sessions/{room}/start-recording", ME).status_code == 200


def test_a_session_moved_into_the_past_ends_when_nobody_comes(
    rest: Rest, database: psycopg.Connection, room: str
) -> None:
    """A session that was created two days ago, that is: before its creation nobody could come."""
    query = "UPDATE sessions SET created_at = now() - interval '2 days', due_at = NULL WHERE room_name = %s"
    database.execute(query, [room])
    update(rest, room, startsAt="2031-01-01T00:00:00Z")
    update(rest, room, startsAt="2020-01-01T00:00:00Z")
    eventually(lambda: rest.get(room)["status"] == "ended", 60)


def test_a_repeated_create_gets_the_session_that_was_changed_since(rest: Rest) -> None:
    key = {"Idempotency-Key": "update-and-create-again"}
    first = rest.call("POST", "/sessions", ME, json=EXAMPLE, headers=key).json()
    update(rest, first["roomName"], courseId="geometry", maxParticipants=3)
    again = rest.call("POST", "/sessions", ME, json=EXAMPLE, headers=key)
    assert (again.status_code, again.json()["_id"], again.json()["courseId"]) == (201, first["_id"], "geometry")
    other = rest.call("POST", "/sessions", ME, json=EXAMPLE | {"courseId": "geometry"}, headers=key)
    assert said(other) == (400, {"error": "Idempotency-Key was used before with another request"})


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "courseId, startsAt, recordingEnabled or maxParticipants is required"),
        ({"maxParticipants": 201}, "maxParticipants must be between 1 and 200, or 0 for no limit"),
        ({"maxParticipants": -1}, "maxParticipants must be between 1 and 200, or 0 for no limit"),
        ({"courseId": " "}, "courseId must not be blank"),
        ({"courseId": "x" * 129}, "courseId must be 1 to 128 characters without control characters"),
        ({"courseId": '\\"' * 10_000}, "courseId must be 1 to 128 characters without control characters"),
        ({"startsAt": "1999-12-31T23:59:59Z"}, "startsAt must lie between the years 2000 and 9999"),
    ],
)
def test_a_change_that_cannot_be_is_refused(rest: Rest, room: str, changes: dict[str, object], message: str) -> None:
    assert update(rest, room, **changes) == (400, {"error": message})


def test_grpc_tells_an_empty_change_by_its_fields(stub: LiveSessionsStub, rest: Rest, room: str) -> None:
    changed = stub.UpdateLiveSession(
        rpc.UpdateLiveSessionRequest(session_name=room, max_participants=0), metadata=bearer(rest.token(ME)), timeout=10
    )
    assert not changed.HasField("max_participants")
    assert changed.course_id == EXAMPLE["courseId"]
