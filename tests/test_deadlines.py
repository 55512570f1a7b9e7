"""How long a call may take: what its client allows, and ten seconds at most; and what a call given up leaves behind."""

import time
from collections.abc import Iterator

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.resources_pb2 import LiveSession
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from server.deadline import CALL
from storage.store import POOL_SIZE
from tests.clients import EXAMPLE, DailyControl, Rest, bearer, error_info, eventually

OWNER = "deadlines-owner"
FAILED_CREATE = (grpc.StatusCode.UNAVAILABLE, "Failed to create session room")
FAILED_START = (grpc.StatusCode.UNAVAILABLE, "Failed to start session recording")


@pytest.fixture(scope="module")
def direct(stack: Stack) -> Iterator[LiveSessionsStub]:
    """The server itself, without Envoy's own time limits and retries."""
    with grpc.insecure_channel(stack.grpc_targets[0]) as channel:
        yield LiveSessionsStub(channel)


@pytest.fixture(scope="module")
def owner(stack: Stack) -> tuple[tuple[str, str], ...]:
    return bearer(stack.token(OWNER, "Ada", "instructor"))


@pytest.fixture
def silent(rest: Rest, daily: DailyControl) -> str:
    """A session whose recording Daily is asked to start and never answers."""
    name = str(rest.create(OWNER)["roomName"])
    daily.fault("hang", "POST", f"/rooms/{name}/recordings/start", times=None)
    return name


def start(name: str) -> rpc.StartSessionRecordingRequest:
    return rpc.StartSessionRecordingRequest(session_name=name)


def test_the_client_reads_why_a_call_failed_before_its_deadline_passes(
    direct: LiveSessionsStub, owner: tuple[tuple[str, str], ...], silent: str
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        direct.StartSessionRecording(start(silent), metadata=owner, timeout=2)
    assert (failed.value.code(), failed.value.details()) == FAILED_START
    assert error_info(failed.value).reason == "ERROR_REASON_DEPENDENCY_UNAVAILABLE"


def test_a_session_whose_room_daily_does_not_make_in_time_is_not_there(
    stack: Stack, direct: LiveSessionsStub, rest: Rest, daily: DailyControl
) -> None:
    instructor = "deadlines-in-vain"
    daily.fault("hang", "POST", "/rooms", times=1)
    request = rpc.CreateLiveSessionRequest(course_id=EXAMPLE["courseId"])
    request.starts_at.FromJsonString(EXAMPLE["startsAt"])
    token = stack.token(instructor, "Ada", "instructor")
    with pytest.raises(grpc.RpcError) as failed:
        direct.CreateLiveSession(request, metadata=bearer(token), timeout=1.5)
    assert (failed.value.code(), failed.value.details()) == FAILED_CREATE
    assert rest.call("GET", f"/sessions/instructor/{instructor}").json() == []


def test_a_call_without_a_deadline_ends_after_ten_seconds(
    direct: LiveSessionsStub, owner: tuple[tuple[str, str], ...], silent: str
) -> None:
    """Slow because ten seconds are what it promises."""
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as failed:
        direct.StartSessionRecording(start(silent), metadata=owner)
    assert (failed.value.code(), failed.value.details()) == FAILED_START
    assert time.monotonic() - began < CALL + 2


def test_a_call_given_up_while_daily_is_silent_can_be_made_again(
    direct: LiveSessionsStub, owner: tuple[tuple[str, str], ...], rest: Rest, daily: DailyControl, silent: str
) -> None:
    asked = daily.calls("POST /rooms/:name/recordings/start")
    given_up = direct.StartSessionRecording.future(start(silent), metadata=owner)
    eventually(lambda: daily.calls("POST /rooms/:name/recordings/start") > asked)
    given_up.cancel()
    daily.clear_faults()
    assert rest.call("DELETE", f"/sessions/{silent}", OWNER).json()["status"] == "ended"


def test_calls_given_up_while_the_database_is_busy_cost_no_connection(
    stack: Stack,
    direct: LiveSessionsStub,
    owner: tuple[tuple[str, str], ...],
    rest: Rest,
    database: psycopg.Connection,
) -> None:
    name = rest.create(OWNER)["roomName"]
    request = rpc.DeleteLiveSessionRequest(session_name=name)
    with psycopg.connect(stack.database_url) as holder:
        holder.execute("SELECT 1 FROM sessions WHERE room_name = %s FOR UPDATE", [name])
        given_up = [direct.DeleteLiveSession.future(request, metadata=owner) for _ in range(20)]
        eventually(lambda: waiting(database) == POOL_SIZE)
        for call in given_up:
            call.cancel()
    eventually(lambda: waiting(database) == 0)

    good = [direct.DeleteLiveSession.future(request, metadata=owner, timeout=10) for _ in range(20)]
    assert [call.result().status for call in good] == [LiveSession.ended] * 20


def waiting(database: psycopg.Connection) -> int:
    """How many connections wait for a row that another one holds."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sessions%'"
    [(count,)] = database.execute(query)
    return int(count)
