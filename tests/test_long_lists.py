"""Lists of many thousand sessions: whole, in order, and no hindrance to anybody's short calls."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import httpx
import psutil
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack

ME = "long-ada"
SESSIONS = 20_000
LISTS = 6
SHORT_CALLS = 50
METHOD = "/live_sessions.v1.LiveSessions/GetInstructorLiveSessions"
MIB = 1 << 20
FILL = """
INSERT INTO sessions (id, course_id, room_name, status, starts_at, created_by, recording_enabled,
    created_at, updated_at, room_created_at)
SELECT gen_random_uuid(), 'course', 'ls-long-' || i, 'scheduled', timestamptz '2026-01-01Z' + i / 3 * interval '1 s',
    %s, true, now(), now(), now()
FROM generate_series(1, %s) AS i
"""


@pytest.fixture(scope="module", autouse=True)
def _many(stack: Stack) -> Iterator[None]:
    """Three start at each second."""
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(FILL, [ME, SESSIONS])
        yield
        database.execute("DELETE FROM sessions WHERE created_by = %s", [ME])


def test_a_long_list_is_whole_and_newest_first(http: httpx.Client) -> None:
    listed = [(one["startsAt"], one["_id"]) for one in http.get(f"/sessions/instructor/{ME}").json()]
    assert len(set(listed)) == SESSIONS
    assert listed == sorted(listed, reverse=True)


@pytest.mark.parametrize("way", ["through the proxy", "directly"])
def test_short_calls_are_answered_while_long_lists_are_made(stack: Stack, way: str) -> None:
    """Between the parts of a list, of which there are 14; a list made at a stretch lets three or four calls in."""
    target = stack.grpc_proxy if way == "through the proxy" else stack.grpc_targets[0]
    short, long = (
        rpc.GetLiveSessionRequest(session_name="ls-long-1"),
        rpc.GetInstructorLiveSessionsRequest(instructor_id=ME),
    )
    with grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = LiveSessionsStub(channel)
        lists: list[Future[int]]
        with ThreadPoolExecutor(LISTS) as threads:
            lists = [threads.submit(lambda: len(stub.GetInstructorLiveSessions(long).sessions)) for _ in range(LISTS)]
            for _ in range(SHORT_CALLS):
                assert stub.GetLiveSession(short).room_name == "ls-long-1"
            still_waiting = [each for each in lists if not each.done()]
        assert still_waiting
        assert {each.result() for each in lists} == {SESSIONS}


def test_lists_that_wait_for_their_turn_take_no_memory(stack: Stack) -> None:
    """Most of these do until their time is up."""
    server = psutil.Process(stack.servers[0].pid)
    request = rpc.GetInstructorLiveSessionsRequest(instructor_id=ME).SerializeToString()
    before = most = server.memory_info().rss
    with grpc.insecure_channel(stack.grpc_targets[0], [("grpc.max_receive_message_length", -1)]) as channel:
        calls = [channel.unary_unary(METHOD, response_deserializer=len).future(request) for _ in range(200)]
        while not all(call.done() for call in calls):
            most = max(most, server.memory_info().rss)
            time.sleep(0.05)
    codes = Counter(call.code() for call in calls)
    assert codes.keys() == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert (most - before) / MIB < 100
