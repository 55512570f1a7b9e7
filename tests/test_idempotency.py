"""Idempotency-Key: a create may be repeated, however often, however many at once, whatever failed in between."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import grpc
import httpx
import psycopg
import pytest

from live_sessions.v1.resources_pb2 import LiveSession
from live_sessions.v1.service_pb2 import CreateLiveSessionRequest
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import EXAMPLE, DailyControl, Rest, at_once, bearer, error_info, eventually, said, waiting_for_locks

REUSED = "Idempotency-Key was used before with another request"
MALFORMED = "Idempotency-Key must be 1 to 128 visible ASCII characters"
DOWN = (500, {"error": "Failed to create session room"})

INSERT_INTENT = """
INSERT INTO sessions (course_id, room_name, starts_at, created_by, recording_enabled, max_participants,
    idempotency_key, due_at)
VALUES ('course-uuid-123', %(room)s, '2025-12-26T15:00:00Z', %(by)s, true, 50, %(key)s,
    clock_timestamp() + interval '5 seconds')
RETURNING id::text
"""


class Creator:
    """An instructor with sessions of their own and one key."""

    def __init__(self, rest: Rest, stub: LiveSessionsStub) -> None:
        self._rest, self._stub = rest, stub
        self.id, self.key = f"creator-{uuid4()}", f"key-{uuid4()}"

    def by_rest(self, **changes: object) -> httpx.Response:
        headers = {"Idempotency-Key": self.key}
        return self._rest.call("POST", "/sessions", self.id, json=EXAMPLE | changes, headers=headers)

    def by_grpc(self, course_id: str = EXAMPLE["courseId"]) -> LiveSession:
        request = CreateLiveSessionRequest(course_id=course_id, recording_enabled=True, max_participants=50)
        request.starts_at.FromJsonString(EXAMPLE["startsAt"])
        metadata = (*bearer(self._rest.token(self.id)), ("idempotency-key", self.key))
        return self._stub.CreateLiveSession(request, metadata=metadata, timeout=20)

    @property
    def sessions(self) -> list[dict[str, Any]]:
        return list(self._rest.call("GET", f"/sessions/instructor/{self.id}").json())


@pytest.fixture
def new_creator(rest: Rest, stub: LiveSessionsStub) -> Callable[[], Creator]:
    return lambda: Creator(rest, stub)


@pytest.fixture
def creator(new_creator: Callable[[], Creator]) -> Creator:
    return new_creator()


def test_fifty_equal_creates_at_once_over_rest_make_one_session(creator: Creator, daily: DailyControl) -> None:
    before = daily.calls("POST /rooms")
    answers = at_once(*[creator.by_rest] * 50)
    assert [answer.status_code for answer in answers] == [201] * 50
    assert {answer.text for answer in answers} == {answers[0].text}
    assert creator.sessions == [answers[0].json()]
    assert daily.calls("POST /rooms") == before + 1


def test_fifty_equal_creates_at_once_over_grpc_make_one_session(creator: Creator, daily: DailyControl) -> None:
    before = daily.calls("POST /rooms")
    first, *others = at_once(*[creator.by_grpc] * 50)
    assert others == [first] * 49
    assert [session["_id"] for session in creator.sessions] == [first.id]
    assert daily.calls("POST /rooms") == before + 1


def test_a_key_is_the_same_over_rest_and_grpc(creator: Creator) -> None:
    assert creator.by_grpc().id == creator.by_rest().json()["_id"]


def test_a_repeated_create_tells_what_has_become_of_the_session(creator: Creator, rest: Rest) -> None:
    session = creator.by_rest().json()
    rest.call("POST", f"/sessions/{session['roomName']}/start-recording", creator.id)
    assert said(creator.by_rest()) == (201, rest.get(session["roomName"]))
    assert rest.get(session["roomName"])["status"] == "live"


def test_the_key_of_a_session_that_has_ended_makes_no_other(creator: Creator, rest: Rest) -> None:
    name = creator.by_rest().json()["roomName"]
    ended = rest.call("DELETE", f"/sessions/{name}", creator.id).json()
    assert said(creator.by_rest()) == (400, {"message": "Session has ended"})
    assert creator.sessions == [ended]


def test_without_a_key_every_create_makes_a_session(rest: Rest) -> None:
    assert rest.create("keyless")["_id"] != rest.create("keyless")["_id"]


@pytest.mark.parametrize(
    "change",
    [
        {"courseId": "another"},
        {"startsAt": "2025-12-26T15:00:00.001Z"},
        {"recordingEnabled": False},
        {"maxParticipants": 51},
        {"maxParticipants": None},
    ],
)
def test_a_key_used_again_for_another_request_is_refused(creator: Creator, change: dict[str, object]) -> None:
    first = creator.by_rest().json()
    assert said(creator.by_rest(**change)) == (400, {"error": REUSED})
    assert creator.sessions == [first]


def test_a_key_used_again_for_another_request_has_its_own_reason_over_grpc(creator: Creator) -> None:
    creator.by_grpc()
    with pytest.raises(grpc.RpcError) as refused:
        creator.by_grpc(course_id="another")
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, REUSED)
    assert error_info(refused.value).reason == "ERROR_REASON_IDEMPOTENCY_KEY_REUSED"


def test_the_same_time_in_another_zone_is_the_same_request(creator: Creator) -> None:
    first = creator.by_rest()
    assert said(creator.by_rest(startsAt="2025-12-26T16:00:00+01:00")) == said(first)


def test_the_same_key_of_another_caller_makes_another_session(new_creator: Callable[[], Creator]) -> None:
    ada, bob = new_creator(), new_creator()
    bob.key = ada.key
    first, second = ada.by_rest().json(), bob.by_rest(courseId="another").json()
    assert first["_id"] != second["_id"]
    assert (first["createdBy"], second["createdBy"]) == (ada.id, bob.id)


@pytest.mark.parametrize("key", ["!", "~" * 128, 'a"b,c;d=/'])
def test_a_key_is_1_to_128_visible_ascii_characters(creator: Creator, key: str) -> None:
    creator.key = key
    assert creator.by_rest().status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 129, "two words", "tab\there", "ключ".encode()])
def test_a_malformed_key_is_refused_over_rest(creator: Creator, key: str) -> None:
    creator.key = key
    assert said(creator.by_rest()) == (400, {"error": MALFORMED})
    assert creator.sessions == []


@pytest.mark.parametrize("key", ["k" * 129, "two words"])
def test_a_malformed_key_is_refused_over_grpc(creator: Creator, key: str) -> None:
    creator.key = key
    with pytest.raises(grpc.RpcError) as refused:
        creator.by_grpc()
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, MALFORMED)
    assert error_info(refused.value).reason == "ERROR_REASON_INVALID_ARGUMENT"


def test_after_a_create_that_daily_refused_the_same_key_makes_the_session(
    creator: Creator, daily: DailyControl
) -> None:
    daily.fault("status", "POST", "/rooms", status=403)
    assert said(creator.by_rest()) == DOWN
    assert creator.sessions == []
    made = creator.by_rest().json()
    assert creator.sessions == [made]


def test_after_a_create_while_daily_was_down_the_same_key_makes_the_session(
    creator: Creator, daily: DailyControl
) -> None:
    before = daily.rooms()
    daily.fault("status", "POST", "/rooms", status=503, times=None)
    assert said(creator.by_rest()) == DOWN
    assert creator.sessions == []
    daily.clear_faults()
    made = creator.by_rest()
    assert made.status_code == 201
    assert creator.sessions == [made.json()]
    assert daily.rooms() - before == {made.json()["roomName"]}


def test_a_create_whose_answers_were_lost_leaves_one_room_when_it_is_repeated(
    creator: Creator, daily: DailyControl
) -> None:
    before = daily.rooms()
    daily.fault("lost_answer", "POST", "/rooms", times=None)
    assert said(creator.by_rest()) == DOWN
    daily.clear_faults()
    made = creator.by_rest().json()
    assert creator.sessions == [made]
    eventually(lambda: daily.rooms() - before == {made["roomName"]})


def test_a_create_that_comes_about_after_a_refusal_leaves_one_room_when_it_is_repeated(
    creator: Creator, daily: DailyControl
) -> None:
    before = daily.rooms()
    daily.fault("delay", "POST", "/rooms", seconds=6)  # longer than an answer is waited for
    daily.fault("status", "POST", "/rooms", status=403, times=2)
    assert said(creator.by_rest()) == DOWN
    assert said(creator.by_rest()) == DOWN
    eventually(lambda: daily.rooms() - before)
    made = creator.by_rest().json()
    assert creator.sessions == [made]
    assert daily.rooms() - before == {made["roomName"]}


def test_a_create_that_comes_about_after_a_refusal_and_is_not_repeated_leaves_no_room(
    creator: Creator, daily: DailyControl, database: psycopg.Connection
) -> None:
    before = daily.rooms()
    daily.fault("delay", "POST", "/rooms", seconds=6)
    daily.fault("status", "POST", "/rooms", status=403)
    assert said(creator.by_rest()) == DOWN
    eventually(lambda: daily.rooms() - before)
    eventually(lambda: daily.rooms() == before, 30)
    rows = "SELECT count(*) FROM sessions WHERE created_by = %s"
    eventually(lambda: database.execute(rows, [creator.id]).fetchone() == (0,))


def test_a_repeated_create_takes_over_the_one_of_a_killed_server(
    creator: Creator, daily: DailyControl, stack: Stack, database: psycopg.Connection
) -> None:
    room = f"ls-{uuid4()}"
    before = daily.rooms()
    make_room(stack, room)
    with ThreadPoolExecutor() as threads:
        with database.transaction():  # until it is committed, upkeep does not see it and the create waits for it
            [id] = database.execute(INSERT_INTENT, {"room": room, "by": creator.id, "key": creator.key}).fetchone()
            repeated = threads.submit(creator.by_rest)
            eventually(lambda: waiting_for_locks(stack))
        made = repeated.result()
    assert (made.status_code, made.json()["_id"], made.json()["roomName"]) == (201, id, room)
    assert creator.sessions == [made.json()]
    assert daily.rooms() - before == {room}


def test_a_create_of_a_killed_server_that_nobody_repeats_is_taken_back(
    creator: Creator, daily: DailyControl, stack: Stack, database: psycopg.Connection
) -> None:
    room = f"ls-{uuid4()}"
    make_room(stack, room)
    [id] = database.execute(INSERT_INTENT, {"room": room, "by": creator.id, "key": creator.key}).fetchone()
    eventually(lambda: database.execute("SELECT 1 FROM sessions WHERE id = %s", [id]).fetchone() is None, 45)
    assert room not in daily.rooms()
    assert creator.by_rest().json()["_id"] != id


def make_room(stack: Stack, name: str) -> None:
    """What a server that was killed had done at Daily."""
    key = {"Authorization": f"Bearer {stack.environment['LIVE_SESSIONS_DAILY_API_KEY']}"}
    made = httpx.post(f"{stack.daily_url}/v1/rooms", json={"name": name}, headers=key, trust_env=False)
    assert made.status_code == 200, made.text
