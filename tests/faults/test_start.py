"""A start of a recording is answered truly: late lists, lost answers, empty rooms, ends that come between."""

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, at_once, bearer, eventually
from tests.faults.steps import (
    ENDED,
    FAILED_STOP,
    OF_ROOM,
    STOP,
    call,
    entries,
    eventually_ended,
    make_due,
    running,
    said_to,
)

START = "/rooms/{}/recordings/start"
STARTS = "POST /rooms/:name/recordings/start"
FAILED_START = (500, {"error": "Failed to start session recording"})
NOBODY = (400, {"message": "Recording cannot start until someone has joined the session"})


def let_doubt_pass(database: psycopg.Connection, room: str) -> None:
    """As if it were so long ago that what was not answered can have no effect any more."""
    database.execute(f"UPDATE recordings SET in_doubt_until = clock_timestamp() WHERE {OF_ROOM}", [room])


def test_a_start_does_not_wait_for_daily_s_list_when_the_event_has_its_id(rest: Rest, daily: DailyControl) -> None:
    daily.settings(listing_lag=60)
    room = rest.create()["roomName"]
    answer = call(rest, "start", room)
    [at_daily] = daily.recordings(room)
    assert (answer.status_code, answer.json()["recordingId"]) == (200, at_daily["id"])
    assert said_to(rest, "start", room) == (200, answer.json())


def test_a_start_does_not_wait_for_the_event_when_daily_s_list_has_its_id(rest: Rest, daily: DailyControl) -> None:
    daily.fault("webhook_drop", type="recording.started")
    room = rest.create()["roomName"]
    assert call(rest, "start", room).json()["recordingId"] == daily.recordings(room)[0]["id"]


def test_a_start_that_neither_event_nor_list_has_told_of_is_recognised_later(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, stub: LiveSessionsStub
) -> None:
    daily.settings(listing_lag=60)
    daily.fault("webhook_drop", type="recording.started")
    room = rest.create()["roomName"]
    with pytest.raises(grpc.RpcError) as failed:
        stub.StartSessionRecording(
            rpc.StartSessionRecordingRequest(session_name=room), metadata=bearer(rest.token("ada")), timeout=2
        )
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    [at_daily] = daily.recordings(room)
    daily.settings(listing_lag=0)
    make_due(database, room)
    eventually(lambda: entries(rest, room)[0]["recordingId"] == at_daily["id"])
    assert said_to(rest, "start", room)[1]["recordingId"] == at_daily["id"]
    assert [one["id"] for one in daily.recordings(room)] == [at_daily["id"]]


def test_two_starts_at_once_behind_a_late_list_get_the_same_recording(rest: Rest, daily: DailyControl) -> None:
    daily.settings(listing_lag=60)
    room = rest.create()["roomName"]
    answers = at_once(*[lambda: said_to(rest, "start", room)] * 5)
    [at_daily] = daily.recordings(room)
    assert [(status, body["recordingId"]) for status, body in answers] == [(200, at_daily["id"])] * 5


def test_a_start_in_doubt_in_an_empty_room_is_refused_when_it_is_repeated_and_the_session_is_scheduled(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.settings(nobody_needed=False)
    room = rest.create()["roomName"]
    daily.fault("status", "POST", START.format(room), status=503)
    assert said_to(rest, "start", room) == FAILED_START
    let_doubt_pass(database, room)
    assert said_to(rest, "start", room) == NOBODY
    assert rest.get(room)["status"] == "scheduled"


def test_a_start_in_doubt_that_nobody_repeats_is_given_up_and_the_session_is_scheduled(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.settings(nobody_needed=False)
    room = rest.create()["roomName"]
    daily.fault("status", "POST", START.format(room), status=503)
    assert said_to(rest, "start", room) == FAILED_START
    let_doubt_pass(database, room)
    make_due(database, room)
    eventually(lambda: rest.get(room)["status"] == "scheduled")
    assert [(one["status"], one["failureReason"]) for one in entries(rest, room)] == [
        ("failed", "Nobody was in the room")
    ]


@pytest.mark.parametrize("status", [400, 403])
def test_a_start_in_doubt_that_daily_then_refuses_for_good_gives_scheduled_back(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, status: int
) -> None:
    room = rest.create()["roomName"]
    daily.fault("status", "POST", START.format(room), status=503, times=None)
    assert said_to(rest, "start", room) == FAILED_START
    daily.clear_faults()
    let_doubt_pass(database, room)
    daily.fault("status", "POST", START.format(room), status=status, times=None)
    assert said_to(rest, "start", room) == FAILED_START
    assert (rest.get(room)["status"], daily.recordings(room)) == ("scheduled", [])


def test_a_start_while_a_stop_is_pending_is_refused(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.recording()["roomName"]
    daily.fault("status", "POST", STOP.format(room), status=503, times=None)
    assert said_to(rest, "stop", room) == FAILED_STOP
    assert said_to(rest, "start", room) == ENDED
    daily.clear_faults()
    eventually_ended(rest, database, room)
    assert len(daily.recordings(room)) == 1


def test_a_start_whose_session_is_stopped_meanwhile_leaves_nothing_recording(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    """The stop must wait for what the start comes to: at Daily, nothing records yet."""
    room = rest.create()["roomName"]
    daily.fault("delay", "POST", START.format(room), seconds=1)
    before = daily.calls(STARTS)

    def stop() -> tuple[int, object]:
        eventually(lambda: daily.calls(STARTS) > before)
        return said_to(rest, "stop", room)

    (started, _), (stopped, body) = at_once(lambda: said_to(rest, "start", room), stop)
    assert (started in (200, 400), stopped) == (True, 200)
    assert body["recordingId"] == daily.recordings(room)[0]["id"]
    assert (running(daily, room), rest.get(room)["status"]) == ([], "ended")


def test_a_start_whose_session_is_deleted_meanwhile_leaves_nothing_recording(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.create()["roomName"]
    daily.fault("delay", "POST", START.format(room), seconds=1)
    before = daily.calls(STARTS)

    def delete() -> int:
        eventually(lambda: daily.calls(STARTS) > before)
        return call(rest, "delete", room).status_code

    _, deleted = at_once(lambda: call(rest, "start", room).status_code, delete)
    assert deleted == 200
    assert (running(daily, room), rest.get(room)["status"]) == ([], "ended")


def test_a_process_started_while_daily_is_down_issues_tokens(stack: Stack, rest: Rest, daily: DailyControl) -> None:
    room = rest.create()["roomName"]
    assert call(rest, "token", room, "sam", "student").status_code == 200
    daily.fault("status", "GET", "/", status=503, times=None)
    [server] = stack.servers
    server.kill()
    server.start()
    eventually(lambda: rest.call("GET", f"/sessions/{room}").status_code == 200)
    token = call(rest, "token", room, "eve", "student")
    assert token.status_code == 200
    assert daily.join(room, token.json()["token"])["user_id"] == "eve"
