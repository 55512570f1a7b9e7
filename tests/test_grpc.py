"""The same RPCs over gRPC, through Envoy's gRPC listener and to the server itself: idiomatic for microservices."""

from collections.abc import Iterator
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import EXAMPLE, DailyControl, Rest, bearer, error_info, said

NEW = ParseDict(EXAMPLE, rpc.CreateLiveSessionRequest())
Code = grpc.StatusCode


@pytest.fixture(scope="module", params=["through the proxy", "directly"])
def client(stack: Stack, request: pytest.FixtureRequest) -> Iterator[LiveSessionsStub]:
    target = stack.grpc_targets[0] if request.param == "directly" else stack.grpc_proxy
    with grpc.insecure_channel(target) as channel:
        yield LiveSessionsStub(channel)


def failure(call: Any, request: Any, as_: str | None = None) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, metadata=bearer(as_) if as_ else None, timeout=15)
    return raised.value


def details(error: grpc.RpcError) -> list[str]:
    """The names of the error's details."""
    status = rpc_status.from_call(error)
    assert status is not None
    return [detail.TypeName().removeprefix("google.rpc.") for detail in status.details]


def detail(error: grpc.RpcError, kind: Any) -> Any:
    [packed] = [one for one in rpc_status.from_call(error).details if one.Is(kind.DESCRIPTOR)]
    found = kind()
    packed.Unpack(found)
    return found


def test_a_created_session_is_the_one_that_rest_shows(client: LiveSessionsStub, rest: Rest) -> None:
    created = client.CreateLiveSession(NEW, metadata=bearer(rest.token("grpc-ada")))
    assert created.status == pb.LiveSession.scheduled
    assert not created.HasField("ends_at")
    assert client.GetLiveSession(rpc.GetLiveSessionRequest(session_name=created.room_name)) == created

    shown = rest.get(created.room_name)
    assert shown.pop("endsAt") is None
    assert ParseDict(shown, pb.LiveSession()) == created


def test_a_session_lives_through_recording_and_ends(client: LiveSessionsStub, rest: Rest) -> None:
    me = {"metadata": bearer(rest.token("grpc-ada"))}
    name = client.CreateLiveSession(NEW, **me).room_name
    assert client.GetSessionToken(rpc.GetSessionTokenRequest(session_name=name), **me).token.count(".") == 2
    started = client.StartSessionRecording(rpc.StartSessionRecordingRequest(session_name=name), **me)
    running = client.GetSessionRecording(rpc.GetSessionRecordingRequest(session_name=name), **me)
    assert (running.recording_id, running.status) == (started.recording_id, "in-progress")
    assert not running.HasField("access_link")
    stopped = client.StopSessionRecording(rpc.StopSessionRecordingRequest(session_name=name), **me)
    assert stopped.recording_id == started.recording_id
    ended = client.DeleteLiveSession(rpc.DeleteLiveSessionRequest(session_name=name), **me)
    assert (ended.status, ended.ends_at) == (pb.LiveSession.ended, stopped.stopped_at)


NAMED = {
    "GetLiveSession": rpc.GetLiveSessionRequest,
    "DeleteLiveSession": rpc.DeleteLiveSessionRequest,
    "StartSessionRecording": rpc.StartSessionRecordingRequest,
    "StopSessionRecording": rpc.StopSessionRecordingRequest,
    "GetSessionRecording": rpc.GetSessionRecordingRequest,
    "GetSessionToken": rpc.GetSessionTokenRequest,
    "ListSessionParticipants": rpc.ListSessionParticipantsRequest,
    "ListSessionRecordings": rpc.ListSessionRecordingsRequest,
}


@pytest.mark.parametrize("method", NAMED)
def test_an_unknown_session_is_not_found(client: LiveSessionsStub, rest: Rest, method: str) -> None:
    error = failure(getattr(client, method), NAMED[method](session_name="nope"), rest.token("grpc-ada"))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, "Session not found")
    assert details(error) == ["ErrorInfo"]
    info = error_info(error)
    assert (info.reason, info.domain) == ("ERROR_REASON_SESSION_NOT_FOUND", "live-sessions")


@pytest.mark.parametrize("method", NAMED)
def test_a_name_that_cannot_be_is_a_violation_of_its_field(client: LiveSessionsStub, rest: Rest, method: str) -> None:
    error = failure(getattr(client, method), NAMED[method](session_name="a/b\n"), rest.token("grpc-ada"))
    assert error.code() == Code.INVALID_ARGUMENT
    assert [one.field for one in detail(error, error_details_pb2.BadRequest).field_violations] == ["sessionName"]


@pytest.mark.parametrize(
    ("request_", "fields", "message"),
    [
        ({}, ["courseId", "startsAt"], "courseId and startsAt are required"),
        ({"courseId": " "}, ["courseId", "startsAt"], "courseId and startsAt are required"),
        ({"courseId": "c"}, ["startsAt"], "courseId and startsAt are required"),
        (EXAMPLE | {"maxParticipants": 0}, ["maxParticipants"], "maxParticipants must be between 1 and 200"),
        (
            EXAMPLE | {"startsAt": "1999-12-31T23:59:59Z"},
            ["startsAt"],
            "startsAt must lie between the years 2000 and 9999",
        ),
        (
            EXAMPLE | {"courseId": "a\x00b"},
            ["courseId"],
            "courseId must be 1 to 128 characters without control characters",
        ),
    ],
)
def test_a_bad_request_names_its_fields(
    client: LiveSessionsStub, rest: Rest, request_: dict[str, Any], fields: list[str], message: str
) -> None:
    bad = ParseDict(request_, rpc.CreateLiveSessionRequest())
    error = failure(client.CreateLiveSession, bad, rest.token("grpc-ada"))
    assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, message)
    assert error_info(error).reason == "ERROR_REASON_INVALID_ARGUMENT"
    violations = detail(error, error_details_pb2.BadRequest).field_violations
    assert [(one.field, one.description) for one in violations] == [(field, message) for field in fields]


def test_no_token_is_unauthenticated(client: LiveSessionsStub) -> None:
    error = failure(client.CreateLiveSession, NEW)
    assert (error.code(), error.details()) == (Code.UNAUTHENTICATED, "A bearer token is required")
    assert error_info(error).reason == "ERROR_REASON_UNAUTHENTICATED"


def test_a_stranger_is_denied(client: LiveSessionsStub, rest: Rest) -> None:
    name = rest.create("grpc-ada")["roomName"]
    error = failure(client.DeleteLiveSession, rpc.DeleteLiveSessionRequest(session_name=name), rest.token("grpc-eve"))
    assert (error.code(), error.details()) == (Code.PERMISSION_DENIED, f"Not authorized to delete session:{name}")
    assert error_info(error).reason == "ERROR_REASON_PERMISSION_DENIED"


def test_a_wrong_state_is_a_failed_precondition_with_its_own_reason(client: LiveSessionsStub, rest: Rest) -> None:
    name = rest.create("grpc-ada", recordingEnabled=False)["roomName"]
    request = rpc.StartSessionRecordingRequest(session_name=name)
    error = failure(client.StartSessionRecording, request, rest.token("grpc-ada"))
    assert error.code() == Code.FAILED_PRECONDITION
    assert error_info(error).reason == "ERROR_REASON_RECORDING_NOT_ENABLED"

    rest.call("DELETE", f"/sessions/{name}", "grpc-ada")
    error = failure(client.GetSessionToken, rpc.GetSessionTokenRequest(session_name=name), rest.token("grpc-ada"))
    assert (error.code(), error.details()) == (Code.FAILED_PRECONDITION, "Session has ended")
    assert error_info(error).reason == "ERROR_REASON_SESSION_ENDED"


def test_a_session_never_recorded_has_a_reason_of_its_own(client: LiveSessionsStub, rest: Rest) -> None:
    request = rpc.StopSessionRecordingRequest(session_name=rest.create("grpc-ada")["roomName"])
    error = failure(client.StopSessionRecording, request, rest.token("grpc-ada"))
    assert error.code() == Code.NOT_FOUND
    assert error_info(error).reason == "ERROR_REASON_RECORDING_NOT_FOUND"


def test_while_daily_is_down_the_caller_reads_when_to_try_again(
    client: LiveSessionsStub, rest: Rest, daily: DailyControl
) -> None:
    daily.fault("status", "POST", "/rooms", status=500, times=4)
    error = failure(client.CreateLiveSession, NEW, rest.token("grpc-down"))
    assert (error.code(), error.details()) == (Code.UNAVAILABLE, "Failed to create session room")
    assert error_info(error).reason == "ERROR_REASON_DEPENDENCY_UNAVAILABLE"
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.seconds == 1


def test_a_defect_of_ours_tells_the_caller_nothing(
    client: LiveSessionsStub, rest: Rest, database: psycopg.Connection
) -> None:
    """The defect: a constraint that the code does not know, for this one caller."""
    database.execute("ALTER TABLE sessions ADD CONSTRAINT unknown_rule CHECK (created_by <> 'grpc-defect') NOT VALID")
    try:
        error = failure(client.CreateLiveSession, NEW, rest.token("grpc-defect"))
        answer = rest.call("POST", "/sessions", "grpc-defect", json=EXAMPLE)
    finally:
        database.execute("ALTER TABLE sessions DROP CONSTRAINT unknown_rule")
    assert (error.code(), error.details()) == (Code.INTERNAL, "Failed to create session room")
    assert details(error) == ["ErrorInfo"]
    assert error_info(error).reason == "ERROR_REASON_INTERNAL"
    assert said(answer) == (500, {"error": "Failed to create session room"})


def test_the_pages_together_are_the_whole_list(client: LiveSessionsStub, rest: Rest) -> None:
    me = rest.create("grpc-pages")["createdBy"]
    for _ in range(4):
        rest.create(me)
    whole = client.GetInstructorLiveSessions(rpc.GetInstructorLiveSessionsRequest(instructor_id=me))
    assert whole.next_page_token == ""

    request = rpc.GetInstructorLiveSessionsRequest(instructor_id=me, page_size=2)
    found = []
    while not found or request.page_token:
        page = client.GetInstructorLiveSessions(request)
        found += page.sessions
        request.page_token = page.next_page_token
    assert found == list(whole.sessions)


@pytest.mark.parametrize(
    ("instructor", "size", "field", "message"),
    [
        ("grpc-other", 1, "pageToken", "pageToken was given for another list"),
        ("grpc-list", 0, "pageSize", "pageToken needs a pageSize"),
        ("grpc-list", -1, "pageSize", "pageSize must be at least 1"),
    ],
)
def test_a_page_token_serves_its_own_list_only(
    client: LiveSessionsStub, rest: Rest, instructor: str, size: int, field: str, message: str
) -> None:
    for _ in range(2):
        rest.create("grpc-list")
    first = rpc.GetInstructorLiveSessionsRequest(instructor_id="grpc-list", page_size=1)
    token = client.GetInstructorLiveSessions(first).next_page_token
    request = rpc.GetInstructorLiveSessionsRequest(instructor_id=instructor, page_size=size, page_token=token)
    error = failure(client.GetInstructorLiveSessions, request)
    assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, message)
    assert [one.field for one in detail(error, error_details_pb2.BadRequest).field_violations] == [field]


def test_an_idempotency_key_makes_the_create_repeatable(client: LiveSessionsStub, rest: Rest) -> None:
    me = (*bearer(rest.token("grpc-repeats")), ("idempotency-key", f"once-{id(client)}"))
    assert client.CreateLiveSession(NEW, metadata=me) == client.CreateLiveSession(NEW, metadata=me)

    other = ParseDict(EXAMPLE | {"courseId": "another"}, rpc.CreateLiveSessionRequest())
    with pytest.raises(grpc.RpcError) as raised:
        client.CreateLiveSession(other, metadata=me)
    assert raised.value.code() == Code.INVALID_ARGUMENT
    assert error_info(raised.value).reason == "ERROR_REASON_IDEMPOTENCY_KEY_REUSED"
