"""What the service asks of Daily: what is due, in Daily's measure, and nothing for what is healthy."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, at_once, bearer, eventually
from tests.faults.steps import (
    FAILED_STOP,
    STOP,
    call,
    enter,
    eventually_ended,
    has_ended,
    make_chore_due,
    make_due,
    said_to,
    stays,
    warnings,
)

LOOKS = ("GET /recordings", "GET /recordings/:id", "GET /meetings", "GET /meetings/:id", "GET /rooms/:name/presence")
UNDER_LIMITS = {"default": 0, "DELETE /rooms/:name": 0, "GET /recordings": 0, "POST /rooms/:name/recordings/start": 0}


@pytest.fixture(autouse=True)
def limits(daily: DailyControl) -> None:
    daily.settings(limits=True)


def asked(daily: DailyControl, *calls: str) -> int:
    return sum(map(daily.calls, calls))


def test_starts_at_once_are_all_answered_and_daily_refuses_none(rest: Rest, daily: DailyControl) -> None:
    rooms = [rest.create()["roomName"] for _ in range(7)]
    before = daily.refused()
    answers = at_once(*[lambda room=room: call(rest, "start", room) for room in rooms])
    assert [answer.status_code for answer in answers] == [200] * len(rooms)
    assert daily.refused() == before


def test_a_start_for_which_there_is_no_turn_in_time_says_when_to_try_again(
    rest: Rest, daily: DailyControl, stub: LiveSessionsStub, database: psycopg.Connection
) -> None:
    room = rest.create()["roomName"]
    put_off_starts(database, seconds=4)
    request = rpc.StartSessionRecordingRequest(session_name=room)
    with pytest.raises(grpc.RpcError) as failed:
        stub.StartSessionRecording(request, metadata=bearer(rest.token("ada")), timeout=1.5)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert call(rest, "start", room).status_code == 200  # it goes on with what waits for its turn
    assert len(daily.recordings(room)) == 1


def put_off_starts(database: psycopg.Connection, seconds: float) -> None:
    """As if others had used up Daily's measure for so long."""
    database.execute(
        "INSERT INTO daily_budgets VALUES ('starts', clock_timestamp() + make_interval(secs => %s))"
        " ON CONFLICT (class) DO UPDATE SET free_at = excluded.free_at",
        [seconds],
    )


def test_views_of_a_settled_recording_cost_daily_one_link(rest: Rest, daily: DailyControl) -> None:
    links, looks = "GET /recordings/:id/access-link", "GET /recordings/:id"
    links_before = asked(daily, links)
    room = rest.recording()["roomName"]
    assert call(rest, "stop", room).status_code == 200
    eventually(lambda: said_to(rest, "recording", room)[1]["status"] == "finished")
    before = asked(daily, looks)
    with ThreadPoolExecutor(20) as threads:
        views = list(threads.map(lambda _: said_to(rest, "recording", room), range(100)))
    assert [status for status, _ in views] == [200] * 100
    assert len({view["downloadLink"] for _, view in views}) == 1
    assert asked(daily, looks) == before
    assert asked(daily, links) - links_before == 1


def test_creates_beside_many_views_and_starts_are_answered(rest: Rest, daily: DailyControl) -> None:
    rooms = [rest.recording()["roomName"] for _ in range(2)]
    before = daily.refused()
    views = [lambda room=room: call(rest, "recording", room).status_code for room in rooms * 20]
    creates = [lambda: bool(rest.create()) for _ in range(6)]
    answers = at_once(*views, *creates)
    assert answers == [200] * 40 + [True] * 6
    assert daily.refused() == before


def test_too_much_asked_by_others_is_waited_for_by_creates(rest: Rest, daily: DailyControl) -> None:
    daily.fault("rate_limit", "POST", "/rooms", times=2)
    assert rest.create()["status"] == "scheduled"


@pytest.fixture
def healthy(database: psycopg.Connection) -> int:
    """Five thousand live recorded sessions, of which nothing is to be done before their rules say so."""
    owner = str(uuid4())
    rows = database.execute(
        """
        INSERT INTO sessions (course_id, room_name, status, starts_at, created_by, recording_enabled, room_created_at,
            live_at, due_at)
        SELECT 'c', 'healthy-' || gen_random_uuid(), 'live', now(), %s, true, now(), now(), now() + interval '1 h'
        FROM generate_series(1, 5000) RETURNING id
        """,
        [owner],
    ).rowcount
    database.execute(
        """
        INSERT INTO recordings (id, instance_id, session_id, recording_id, made_live, started_at, due_at)
        SELECT id, id, id, gen_random_uuid()::text, true, now(), now() + interval '6 h'
        FROM sessions WHERE created_by = %s
        """,
        [owner],
    )
    return rows


def test_a_stop_among_five_thousand_healthy_sessions_is_finished_and_daily_is_asked_about_none_of_them(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, healthy: int
) -> None:
    assert healthy == 5000
    room = rest.recording()["roomName"]
    daily.fault("status", "POST", STOP.format(room), status=503, times=4)
    assert said_to(rest, "stop", room) == FAILED_STOP
    before, refused = asked(daily, *LOOKS), daily.refused()
    eventually_ended(rest, database, room)
    # Of the room itself, and the lists that are due now and then while it takes; one for each session would be 5,000.
    assert asked(daily, *LOOKS) - before < healthy / 100
    assert daily.refused() == refused


def test_what_daily_lists_as_running_beside_many_others_keeps_nothing_waiting(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    theirs = [daily.others()["room"] for _ in range(3)]
    room = rest.recording()["roomName"]
    lists = asked(daily, "GET /recordings")
    assert call(rest, "stop", room).status_code == 200
    assert has_ended(rest, room)
    assert asked(daily, "GET /recordings") == lists
    for other in theirs:
        daily.press_stop(other)


def test_forty_stays_without_an_end_cost_daily_one_look_at_their_meeting(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.create()["roomName"]
    for type in ("participant.left", "meeting.ended"):
        daily.fault("webhook_drop", type=type, room=room, times=None)
    connections = daily.fill(room, 40)
    eventually(lambda: len(stays(rest, room)) == 40)
    daily.settings(min_stay=10)
    for connection in connections:
        daily.leave(room, connection)
    before = asked(daily, "GET /meetings/:id")
    look_at_meeting(database, room)
    eventually(lambda: all(left for _, left in stays(rest, room).values()))
    assert asked(daily, "GET /meetings/:id") - before == 1
    waiting = "SELECT count(*) FROM meetings WHERE due_at IS NOT NULL AND session_id = (SELECT id FROM sessions"
    assert database.execute(f"{waiting} WHERE room_name = %s)", [room]).fetchone() == (0,)


def look_at_meeting(database: psycopg.Connection, room: str) -> None:
    database.execute(
        "UPDATE meetings SET due_at = clock_timestamp()"
        " WHERE session_id = (SELECT id FROM sessions WHERE room_name = %s)",
        [room],
    )


def test_a_delete_costs_daily_one_removal_though_it_takes_long_and_no_warning(
    stack: Stack, rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    rooms = [rest.create()["roomName"] for _ in range(5)]
    enter(rest, daily, rooms[0], "sam")
    database.execute(
        "UPDATE sessions SET room_created_at = room_created_at - interval '1 min' WHERE room_name = ANY(%s)", [rooms]
    )
    logged, before = len(warnings(stack)), asked(daily, "DELETE /rooms/:name")
    daily.fault("delay", "DELETE", f"/rooms/{rooms[0]}", seconds=2.5)
    answers = at_once(*[lambda room=room: call(rest, "delete", room).status_code for room in rooms])
    assert answers == [200] * len(rooms)
    assert asked(daily, "DELETE /rooms/:name") - before == len(rooms)
    assert warnings(stack)[logged:] == []
    for room in rooms:
        make_due(database, room)
    make_chore_due(database, "forget")
    assert asked(daily, "DELETE /rooms/:name") - before == len(rooms)


def test_old_events_go_some_at_a_time(database: psycopg.Connection) -> None:
    old = "received_at < now() - interval '30 days'"
    database.execute(
        "INSERT INTO daily_events (digest, id, type, body, received_at, due_at)"
        " SELECT sha256(gen_random_uuid()::text::bytea), 'old', 'x', '', now() - interval '31 days', NULL"
        " FROM generate_series(1, 2500)"
    )
    make_chore_due(database, "forget")
    eventually(lambda: database.execute(f"SELECT count(*) FROM daily_events WHERE {old}").fetchone() == (0,))
