"""When Daily fails: every call says so in its documented words and in time, leaves nothing behind that is not true, and
succeeds when it is repeated; what nobody repeats is finished without them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, at_once, bearer, eventually, said
from tests.daily_calls import FAILURES, Call, break_daily
from tests.servers import serving

NO_TOKEN = "Failed to get session token"
NOBODY = (400, {"message": "Recording cannot start until someone has joined the session"})


@pytest.fixture
def calls(rest: Rest, daily: DailyControl) -> list[Call]:
    return [Call(kind, rest, daily) for kind in FAILURES]


@pytest.fixture
def other_calls(rest: Rest, daily: DailyControl) -> list[Call]:
    return [Call(kind, rest, daily) for kind in FAILURES]


def unavailable(call: Callable[[], object]) -> tuple[str, int, float]:
    """The text, the seconds of RetryInfo and the duration of a gRPC call that ends with UNAVAILABLE."""
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as failed:
        call()
    seconds = time.monotonic() - began
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE, failed.value
    retry = error_details_pb2.RetryInfo()
    [packed] = [each for each in rpc_status.from_call(failed.value).details if each.Is(retry.DESCRIPTOR)]
    packed.Unpack(retry)
    return failed.value.details(), retry.retry_delay.seconds, seconds


def assert_documented_failure(
    stub: LiveSessionsStub, by_rest: list[Call], by_grpc: list[Call], deadline: float
) -> None:
    answers = at_once(
        *[lambda call=call: said(call.by_rest()) for call in by_rest],
        *[lambda call=call: unavailable(lambda: call.by_grpc(stub, deadline)) for call in by_grpc],
    )
    assert answers[: len(by_rest)] == [(500, {"error": call.failure}) for call in by_rest]
    assert [answer[:2] for answer in answers[len(by_rest) :]] == [(call.failure, 1) for call in by_grpc]
    assert all(answer[2] < deadline for answer in answers[len(by_rest) :])


def assert_succeeds(calls: list[Call]) -> None:
    answers = at_once(*[call.by_rest for call in calls])
    assert {call.kind: answer.status_code for call, answer in zip(calls, answers, strict=True)} == {
        kind: 201 if kind == "create" else 200 for kind in FAILURES
    }
    for call in calls:
        eventually(call.is_done)


@pytest.mark.parametrize(
    "fault",
    [{"fault": "status", "status": 500}, {"fault": "status", "status": 503}, {"fault": "rate_limit"}],
    ids=["500", "503", "429"],
)
def test_while_daily_fails_each_call_says_so_and_succeeds_when_it_is_repeated(
    stub: LiveSessionsStub, daily: DailyControl, calls: list[Call], other_calls: list[Call], fault: dict[str, Any]
) -> None:
    break_daily(daily, calls + other_calls, **fault, times=None)
    assert_documented_failure(stub, calls, other_calls, deadline=8)
    daily.clear_faults()
    assert_succeeds(calls)


def test_while_daily_hangs_each_call_says_so_by_its_deadline_and_succeeds_when_it_is_repeated(
    stub: LiveSessionsStub, daily: DailyControl, calls: list[Call], other_calls: list[Call]
) -> None:
    break_daily(daily, calls + other_calls, "hang", times=None)
    assert_documented_failure(stub, calls, other_calls, deadline=4)
    daily.clear_faults()
    assert_succeeds(calls)


def test_what_daily_does_after_the_deadline_is_not_done_twice(
    stub: LiveSessionsStub, daily: DailyControl, calls: list[Call]
) -> None:
    break_daily(daily, calls, "delay", seconds=3)
    assert_documented_failure(stub, [], calls[1:], deadline=2)
    assert_succeeds(calls)  # the create, which is delayed now, ends after what was delayed before has happened


def test_when_daily_answers_are_lost_each_call_says_so_and_succeeds_when_it_is_repeated(
    stub: LiveSessionsStub, daily: DailyControl, calls: list[Call]
) -> None:
    break_daily(daily, calls, "lost_answer", times=None)
    doubtful = [call for call in calls if call.kind != "start"]  # what comes of a start is told by an event
    assert_documented_failure(stub, doubtful, [], deadline=8)
    daily.clear_faults()
    assert_succeeds(calls)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 500},
        {"fault": "rate_limit"},
        {"fault": "lost_answer"},
        {"fault": "delay", "seconds": 1},
    ],
    ids=lambda fault: fault["fault"],
)
def test_what_fails_at_daily_in_passing_no_caller_sees(
    daily: DailyControl, calls: list[Call], fault: dict[str, Any]
) -> None:
    break_daily(daily, calls, **fault)
    assert_succeeds(calls)


def test_a_start_that_daily_refuses_gives_scheduled_back(rest: Rest, daily: DailyControl) -> None:
    start = Call("start", rest, daily)
    daily.fault("status", *start.at_daily(), status=403)
    assert said(start.by_rest()) == (500, {"error": start.failure})
    assert rest.get(start.room)["status"] == "scheduled"
    [recording] = rest.call("GET", f"/sessions/{start.room}/recordings", start.by).json()
    assert (recording["status"], recording["recordingId"]) == ("failed", "")
    assert "403" in recording["failureReason"]


def test_a_start_waits_a_few_seconds_for_somebody_to_be_in_the_room(rest: Rest, daily: DailyControl) -> None:
    start = Call("start", rest, daily)
    daily.fault("nobody_in_call", *start.at_daily(), times=2)
    assert start.by_rest().status_code == 200
    assert start.is_done()


def test_a_start_in_a_room_that_stays_empty_is_refused_and_gives_scheduled_back(
    rest: Rest, daily: DailyControl
) -> None:
    start = Call("start", rest, daily)
    before = daily.calls("POST /rooms/:name/recordings/start")
    daily.fault("nobody_in_call", *start.at_daily(), times=None)
    assert said(start.by_rest()) == NOBODY
    assert daily.calls("POST /rooms/:name/recordings/start") - before == 3
    assert rest.get(start.room)["status"] == "scheduled"
    daily.clear_faults()
    assert start.by_rest().status_code == 200
    assert start.is_done()


def test_a_start_that_daily_did_not_take_at_first_is_refused_for_an_empty_room(rest: Rest, daily: DailyControl) -> None:
    start = Call("start", rest, daily)
    daily.fault("rate_limit", *start.at_daily())
    daily.fault("nobody_in_call", *start.at_daily(), times=None)
    assert said(start.by_rest()) == NOBODY
    assert rest.get(start.room)["status"] == "scheduled"


def test_a_start_that_was_refused_but_may_yet_come_about_is_gone_on_with(rest: Rest, daily: DailyControl) -> None:
    start = Call("start", rest, daily)
    daily.fault("delay", *start.at_daily(), seconds=6)  # longer than an answer is waited for
    daily.fault("nobody_in_call", *start.at_daily(), times=None)
    assert said(start.by_rest()) == (500, {"error": start.failure})
    daily.clear_faults()
    daily.fault("delay", *start.at_daily(), seconds=2)  # so that the first request comes about before
    started = start.by_rest().json()
    assert [one["id"] for one in daily.recordings(start.room)] == [started["recordingId"]]


def test_a_start_that_another_call_left_in_doubt_is_not_given_up_by_a_refusal(rest: Rest, daily: DailyControl) -> None:
    start = Call("start", rest, daily)
    daily.fault("status", *start.at_daily(), status=503, times=None)
    assert start.by_rest().status_code == 500
    daily.clear_faults()
    daily.fault("nobody_in_call", *start.at_daily(), times=None)
    assert said(start.by_rest()) == (500, {"error": start.failure})
    [recording] = rest.call("GET", f"/sessions/{start.room}/recordings", start.by).json()
    assert recording["status"] == "processing"


def test_what_could_not_be_done_at_daily_is_done_later_without_being_asked_again(
    rest: Rest, daily: DailyControl
) -> None:
    delete, stop = Call("delete", rest, daily), Call("stop", rest, daily)
    break_daily(daily, [delete, stop], "status", status=503, times=None)
    assert [answer.status_code for answer in at_once(delete.by_rest, stop.by_rest)] == [500, 500]
    assert (rest.get(delete.room)["status"], rest.get(stop.room)["status"]) == ("ended", "live")
    assert delete.room in daily.rooms()
    daily.clear_faults()
    eventually(lambda: delete.is_done() and stop.is_done(), 45)


def test_a_start_that_never_reached_daily_is_given_up_later(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    start = Call("start", rest, daily)
    daily.fault("status", *start.at_daily(), status=503, times=None)
    assert start.by_rest().status_code == 500
    made_earlier = "UPDATE recordings SET created_at = created_at - interval '2 min' WHERE session_id = %s"
    database.execute(made_earlier, [rest.get(start.room)["_id"]])
    eventually(lambda: rest.get(start.room)["status"] == "scheduled", 45)
    [recording] = rest.call("GET", f"/sessions/{start.room}/recordings", start.by).json()
    assert (recording["status"], recording["failureReason"]) == ("failed", "Daily never started the recording")


def test_a_start_of_which_nothing_comes_back_is_found_in_dailys_list(rest: Rest, daily: DailyControl) -> None:
    start = Call("start", rest, daily)
    daily.fault("webhook_drop", type="recording.started")
    daily.fault("lost_answer", *start.at_daily(), times=None)
    started = start.by_rest()
    assert [one["id"] for one in daily.recordings(start.room)] == [started.json()["recordingId"]]
    assert start.is_done()


def test_a_server_with_a_wrong_key_fails_every_call_that_needs_daily_for_good(
    stack: Stack, rest: Rest, calls: list[Call], tmp_path: Path
) -> None:
    with fresh_server(stack, tmp_path, LIVE_SESSIONS_DAILY_API_KEY="not the domain's key") as stub:
        for call in calls[:-1]:  # of a recording our row tells, whatever Daily says of it
            assert refused(lambda call=call: call.by_grpc(stub, 8)) == call.failure
        assert calls[-1].by_grpc(stub, 8).status == "in-progress"
        assert refused(lambda: token(stub, rest, calls[-1].room)) == NO_TOKEN
    assert_succeeds(calls)


def refused(call: Callable[[], object]) -> str:
    """The text of a gRPC call that ends with INTERNAL: asking again would not help."""
    with pytest.raises(grpc.RpcError) as failed:
        call()
    assert failed.value.code() == grpc.StatusCode.INTERNAL, failed.value
    return str(failed.value.details())


def test_tokens_need_daily_once_in_the_life_of_a_key(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection, tmp_path: Path
) -> None:
    room = rest.create("host")["roomName"]
    database.execute("DELETE FROM daily_domains")
    daily.fault("status", "GET", "/", status=503, times=None)
    with fresh_server(stack, tmp_path) as stub:
        assert unavailable(lambda: token(stub, rest, room))[:2] == (NO_TOKEN, 1)
        daily.clear_faults()
        assert token(stub, rest, room)
        daily.fault("status", "GET", "/", status=503, times=None)
        assert token(stub, rest, room)
    with fresh_server(stack, tmp_path) as stub:
        assert token(stub, rest, room)


@contextmanager
def fresh_server(stack: Stack, tmp_path: Path, **settings: str) -> Iterator[LiveSessionsStub]:
    with (
        serving(stack.environment | settings, tmp_path / "server.log") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield LiveSessionsStub(channel)


def token(stub: LiveSessionsStub, rest: Rest, room: str) -> str:
    request = rpc.GetSessionTokenRequest(session_name=room)
    answer = stub.GetSessionToken(request, metadata=bearer(rest.token("sam", "student")), timeout=8)
    return str(answer.token)
