"""Who may call what, over gRPC and over REST: one matrix of callers and RPCs, with exact statuses and messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import psycopg
import pytest
from google.protobuf.json_format import ParseDict

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from server.rpc.methods import METHODS, SERVICE, Access
from tests.clients import EXAMPLE, DailyControl, Rest, bearer, eventually
from tests.tokens import NO_ID, confused, forged, none, signed

OWNER, STRANGER, STUDENT = "access-owner", "access-stranger", "access-student"
UNKNOWN = "ls-no-such-session"
DESCRIPTOR = rpc.DESCRIPTOR.services_by_name["LiveSessions"]
RPCS = {method.name for method in DESCRIPTOR.methods}


@dataclass(frozen=True)
class Door:
    """One RPC by both its ways in; `refusal` is what a caller reads who is not the session's instructor."""

    rpc: str
    verb: str
    path: str
    refusal: str | None = None
    body: dict[str, Any] = field(default_factory=dict)

    def grpc(self, stub: LiveSessionsStub, name: str, token: str | None) -> tuple[grpc.StatusCode, str]:
        """Status and message."""
        kind = DESCRIPTOR.methods_by_name[self.rpc].input_type._concrete_class
        of = next((what for what in ("instructor", "course") if f"/{what}/" in self.path), None)
        named = {f"{of}_id" if of else "session_name": name}
        fields = self.body | ({} if self.path == "/sessions" else named)
        if STUDENT in self.path:
            fields |= {"user_id": STUDENT}
        try:
            answer = getattr(stub, self.rpc)(ParseDict(fields, kind()), metadata=bearer(token) if token else ())
            if METHODS[self.rpc].streams:
                next(answer)
                answer.cancel()
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    def rest(self, http: httpx.Client, name: str, token: str | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if not METHODS[self.rpc].streams:
            return http.request(self.verb, self.path.format(name), headers=headers, json=self.body or None)
        with http.stream(self.verb, self.path.format(name), headers=headers) as answer:
            if answer.is_error:
                answer.read()
        return answer


CREATE = Door("CreateLiveSession", "POST", "/sessions", None, EXAMPLE)
GET = Door("GetLiveSession", "GET", "/sessions/{}")
DELETE = Door("DeleteLiveSession", "DELETE", "/sessions/{}", "delete")
START = Door("StartSessionRecording", "POST", "/sessions/{}/start-recording", "record")
STOP = Door("StopSessionRecording", "POST", "/sessions/{}/stop-recording", "stop recording")
WATCH = Door("GetSessionRecording", "GET", "/sessions/{}/recording", "access recording for")
TOKEN = Door("GetSessionToken", "POST", "/sessions/{}/token")
LIST = Door("GetInstructorLiveSessions", "GET", "/sessions/instructor/{}")
PARTICIPANTS = Door("ListSessionParticipants", "GET", "/sessions/{}/participants", "list participants of")
RECORDINGS = Door("ListSessionRecordings", "GET", "/sessions/{}/recordings", "list recordings of")
UPDATE = Door("UpdateLiveSession", "PATCH", "/sessions/{}", "update", {"maxParticipants": 5})
COURSE = Door("GetCourseLiveSessions", "GET", "/sessions/course/{}")
PERMIT = Door(
    "UpdateSessionParticipant", "PATCH", f"/sessions/{{}}/participants/{STUDENT}", "moderate", {"micAllowed": False}
)
MUTE = Door("MuteSessionParticipants", "POST", "/sessions/{}/mute", "moderate")
REMOVE = Door("RemoveSessionParticipant", "POST", f"/sessions/{{}}/participants/{STUDENT}/remove", "moderate")
READMIT = Door("ReadmitSessionParticipant", "POST", f"/sessions/{{}}/participants/{STUDENT}/readmit", "moderate")
ATTENDANCE = Door("GetSessionAttendance", "GET", "/sessions/{}/attendance", "list attendance of")
EXPORT = Door("ExportSessionAttendance", "GET", "/sessions/{}/attendance.csv", "list attendance of")
FOLLOW = Door("WatchLiveSession", "GET", "/sessions/{}/events")

PUBLIC = [GET, LIST]
MODERATION = [PERMIT, MUTE, REMOVE, READMIT]
OWNED = [DELETE, UPDATE, START, STOP, WATCH, PARTICIPANTS, RECORDINGS, *MODERATION, ATTENDANCE, EXPORT]
SIGNED_IN = [CREATE, TOKEN, COURSE, *OWNED]

INVALID = "The token is not valid"
BAD_TOKENS: dict[str, tuple[Callable[[str], str | None], str]] = {
    "no token": (lambda secret: None, "A bearer token is required"),
    "garbage": (lambda secret: "garbage", INVALID),
    "expired": (lambda secret: signed(secret, exp=1_700_000_000), "The token has expired"),
    "without exp": (lambda secret: signed(secret, exp=None), INVALID),
    "without id": (lambda secret: signed(secret, id=None), NO_ID),
    "another secret": (lambda secret: signed("another secret of enough bytes, yes"), INVALID),
    "alg none": (lambda secret: none(id=OWNER), INVALID),
    "HS512": (lambda secret: signed(secret, "HS512"), INVALID),
    "RS256": (lambda secret: forged("RS256"), INVALID),
    "RS256 called HS256": (lambda secret: confused(), INVALID),
}


def of(door: Door) -> str:
    return door.rpc


@pytest.fixture(scope="module")
def room(rest: Rest) -> str:
    """A session with a recording, which nobody here may change."""
    return str(rest.recording(OWNER)["roomName"])


@pytest.fixture(scope="module")
def secret(stack: Stack) -> str:
    return stack.environment["LIVE_SESSIONS_JWT_SECRET"]


def test_the_table_of_methods_names_exactly_the_rpcs_of_the_service() -> None:
    streams = {method.name: method.server_streaming for method in DESCRIPTOR.methods}
    assert {name: method.streams for name, method in METHODS.items()} == streams
    assert DESCRIPTOR.full_name == SERVICE


def test_this_matrix_names_every_rpc_but_dailys() -> None:
    assert {door.rpc for door in [*PUBLIC, FOLLOW, *SIGNED_IN]} == RPCS - {"ReceiveDailyWebhook"}


def test_what_is_public_is_public_by_the_document() -> None:
    assert {name for name, method in METHODS.items() if method.access is Access.PUBLIC} == {door.rpc for door in PUBLIC}


TOKEN_AND_DOOR = [(token, door) for token in BAD_TOKENS for door in SIGNED_IN] + [
    (token, FOLLOW) for token in BAD_TOKENS if token != "no token"
]


@pytest.mark.parametrize(("token", "door"), TOKEN_AND_DOOR, ids=lambda value: getattr(value, "rpc", value))
@pytest.mark.parametrize("session", ["known", "unknown"])
def test_without_a_trusted_token_nothing_is_looked_at(
    stub: LiveSessionsStub, http: httpx.Client, room: str, secret: str, door: Door, token: str, session: str
) -> None:
    make, message = BAD_TOKENS[token]
    name = room if session == "known" else UNKNOWN
    assert door.grpc(stub, name, make(secret)) == (grpc.StatusCode.UNAUTHENTICATED, message)
    answer = door.rest(http, name, make(secret))
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized", "message": message})
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("token", BAD_TOKENS)
@pytest.mark.parametrize("door", PUBLIC, ids=of)
def test_a_public_rpc_answers_whatever_token_comes_with_the_call(
    stub: LiveSessionsStub, http: httpx.Client, room: str, secret: str, door: Door, token: str
) -> None:
    make, _ = BAD_TOKENS[token]
    assert door.grpc(stub, room, make(secret)) == (grpc.StatusCode.OK, "")
    assert door.rest(http, room, make(secret)).status_code == 200


@pytest.mark.parametrize("caller", [(STRANGER, "instructor"), (STUDENT, "student")], ids=["stranger", "student"])
@pytest.mark.parametrize("door", OWNED, ids=of)
def test_what_is_the_instructors_own_is_refused_to_everybody_else(
    stub: LiveSessionsStub, http: httpx.Client, stack: Stack, room: str, door: Door, caller: tuple[str, str]
) -> None:
    token = stack.token(caller[0], "Name", caller[1])
    message = f"Not authorized to {door.refusal} session:{room}"
    assert door.grpc(stub, room, token) == (grpc.StatusCode.PERMISSION_DENIED, message)
    answer = door.rest(http, room, token)
    assert (answer.status_code, answer.json()) == (403, {"message": message})


@pytest.mark.parametrize("caller", [(OWNER, "instructor"), (STUDENT, "student")], ids=["instructor", "student"])
@pytest.mark.parametrize("door", [TOKEN, FOLLOW, *OWNED], ids=of)
def test_an_unknown_session_is_not_found_before_anybody_is_refused(
    stub: LiveSessionsStub, http: httpx.Client, stack: Stack, door: Door, caller: tuple[str, str]
) -> None:
    token = stack.token(caller[0], "Name", caller[1])
    assert door.grpc(stub, UNKNOWN, token) == (grpc.StatusCode.NOT_FOUND, "Session not found")
    answer = door.rest(http, UNKNOWN, token)
    assert (answer.status_code, answer.json()) == (404, {"message": "Session not found"})


def test_students_cannot_create_sessions(stub: LiveSessionsStub, http: httpx.Client, stack: Stack) -> None:
    token = stack.token(STUDENT, "Name", "student")
    message = "Only instructors can create sessions"
    assert CREATE.grpc(stub, "", token) == (grpc.StatusCode.PERMISSION_DENIED, message)
    answer = CREATE.rest(http, "", token)
    assert (answer.status_code, answer.json()) == (403, {"message": message})


@pytest.mark.parametrize("door", [CREATE, TOKEN, FOLLOW, *OWNED], ids=of)
def test_the_sessions_instructor_may_do_everything(
    stub: LiveSessionsStub, http: httpx.Client, stack: Stack, rest: Rest, door: Door
) -> None:
    token = stack.token(OWNER, "Name", "instructor")
    names = [rest.recording(OWNER)["roomName"] for _ in range(2)]
    for name in names:
        assert as_student(rest, TOKEN, name) == (200, None)
    assert door.grpc(stub, names[0], token) == (grpc.StatusCode.OK, "")
    answer = door.rest(http, names[1], token)
    assert answer.status_code == (201 if door is CREATE else 200), answer.text


@pytest.mark.parametrize(
    "caller", [None, (STRANGER, "instructor"), (STUDENT, "student")], ids=["anybody", "stranger", "student"]
)
def test_anybody_may_follow_a_session(
    stub: LiveSessionsStub, http: httpx.Client, stack: Stack, room: str, caller: tuple[str, str] | None
) -> None:
    token = stack.token(caller[0], "Name", caller[1]) if caller else None
    assert FOLLOW.grpc(stub, room, token) == (grpc.StatusCode.OK, "")
    assert FOLLOW.rest(http, room, token).status_code == 200


@pytest.mark.parametrize("caller", [(STRANGER, "instructor"), (STUDENT, "student")], ids=["stranger", "student"])
def test_anybody_who_is_signed_in_gets_a_meeting_token(
    stub: LiveSessionsStub, http: httpx.Client, stack: Stack, room: str, caller: tuple[str, str]
) -> None:
    token = stack.token(caller[0], "Name", caller[1])
    assert TOKEN.grpc(stub, room, token) == (grpc.StatusCode.OK, "")
    assert TOKEN.rest(http, room, token).status_code == 200


@pytest.mark.parametrize("role", ["admin", "", "Instructor", "instructor ", ["instructor"], None])
def test_every_role_but_instructor_is_a_students(http: httpx.Client, secret: str, role: object) -> None:
    assert CREATE.rest(http, "", signed(secret, role=role)).status_code == 403


def test_a_token_opens_the_door_to_daily_no_wider(stub: LiveSessionsStub, http: httpx.Client, stack: Stack) -> None:
    token = stack.token(OWNER, "Name", "instructor")
    message = "The webhook's signature is not valid"
    with pytest.raises(grpc.RpcError) as refused:
        stub.ReceiveDailyWebhook(rpc.ReceiveDailyWebhookRequest(), metadata=bearer(token))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, message)
    answer = http.post("/webhooks/daily", json={"id": "x"}, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized", "message": message})


# Who was in the class


@pytest.fixture
def joined(rest: Rest, daily: DailyControl) -> str:
    """A recorded session that the student was in."""
    name = str(rest.recording(OWNER)["roomName"])
    daily.join(name, rest.call("POST", f"/sessions/{name}/token", STUDENT, "student").json()["token"])
    participants = f"/sessions/{name}/participants"
    eventually(lambda: "joinedAt" in rest.call("GET", participants, OWNER).json()[0])
    return name


def kick(database: psycopg.Connection, name: str) -> None:
    session = "(SELECT id FROM sessions WHERE room_name = %s)"
    done = database.execute(f"UPDATE participants SET was_kicked = true WHERE session_id = {session}", [name])
    assert done.rowcount == 1


def as_student(rest: Rest, door: Door, name: str) -> tuple[int, Any]:
    answer = rest.call(door.verb, door.path.format(name), STUDENT, "student")
    return answer.status_code, answer.json().get("message")


def test_who_joined_the_class_may_watch_its_recording(rest: Rest, joined: str) -> None:
    assert as_student(rest, WATCH, joined) == (200, None)


def test_a_meeting_token_alone_does_not_open_the_recording(rest: Rest) -> None:
    name = rest.recording(OWNER)["roomName"]
    assert as_student(rest, TOKEN, name) == (200, None)
    assert as_student(rest, WATCH, name) == (403, f"Not authorized to access recording for session:{name}")


def test_who_was_removed_may_neither_watch_nor_come_back(
    rest: Rest, stub: LiveSessionsStub, stack: Stack, database: psycopg.Connection, joined: str
) -> None:
    kick(database, joined)
    assert as_student(rest, WATCH, joined) == (403, f"Not authorized to access recording for session:{joined}")
    message = f"Not authorized to join session:{joined}"
    assert as_student(rest, TOKEN, joined) == (403, message)
    token = stack.token(STUDENT, "Name", "student")
    assert TOKEN.grpc(stub, joined, token) == (grpc.StatusCode.PERMISSION_DENIED, message)


def test_who_was_removed_from_one_class_may_join_another(rest: Rest, database: psycopg.Connection, joined: str) -> None:
    kick(database, joined)
    assert as_student(rest, TOKEN, rest.create(OWNER)["roomName"]) == (200, None)


def test_nobody_joins_a_session_that_has_ended(rest: Rest, stub: LiveSessionsStub, stack: Stack) -> None:
    name = rest.create(OWNER)["roomName"]
    rest.call("DELETE", f"/sessions/{name}", OWNER)
    assert as_student(rest, TOKEN, name) == (400, "Session has ended")
    token = stack.token(OWNER, "Name", "instructor")
    assert TOKEN.grpc(stub, name, token) == (grpc.StatusCode.FAILED_PRECONDITION, "Session has ended")
