"""Whatever Daily signs is taken at once and applied soon, however odd it is and whatever else is under way."""

import asyncio
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually
from tests.events import PATH, event, signature
from tests.faults.steps import call, enter, stays

TAKEN = (200, "{}")
NOW = 1766761200.5
"""2025-12-26T15:00:00.500Z, in Daily's unix seconds."""


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create()["roomName"])


class Sender:
    def __init__(self, stack: Stack, http: httpx.Client) -> None:
        self._secret = stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]
        self._http = http

    def signed(self, body: bytes, timestamp: str) -> dict[str, str]:
        return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": signature(self._secret, timestamp, body)}

    def send(self, body: bytes, timestamp: str | None = None) -> tuple[int, str]:
        headers = self.signed(body, str(int(time.time())) if timestamp is None else timestamp)
        answer = self._http.post(PATH, content=body, headers=headers | {"Content-Type": "application/json"})
        return answer.status_code, answer.text


@pytest.fixture
def sender(stack: Stack, http: httpx.Client) -> Sender:
    return Sender(stack, http)


def joined(room: str, user: str, **changes: Any) -> dict[str, Any]:
    payload = {"room": room, "user_id": user, "session_id": str(uuid.uuid4()), "joined_at": NOW, "owner": False}
    return event("participant.joined", payload) | changes


@pytest.mark.parametrize(
    "timestamp",
    ["1", "1500000000", "99999999999", "1766761200123", "1766761200.25", "-5", "2025-12-26T15:00:00Z", "soon", "0x1f"],
)
def test_an_event_is_taken_and_applied_whatever_its_timestamp(
    rest: Rest, sender: Sender, room: str, timestamp: str
) -> None:
    assert sender.send(json.dumps(joined(room, "sam")).encode(), timestamp) == TAKEN
    eventually(lambda: stays(rest, room).get("sam") == (iso(NOW), None))


@pytest.mark.parametrize(
    "odd",
    [
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"id": "ptcpt-join-jürgen müller|☃\n;-1766761200"},
        {"id": "a\u0000b"},
        {"id": "x" * 5000},
        {"event_ts": None},
        {"event_ts": "yesterday"},
        {"event_ts": NOW * 1000},
        {"version": "1.1.0", "something": ["new"]},
    ],
    ids=lambda odd: str(odd)[:40],
)
def test_an_event_is_taken_and_applied_however_odd_its_envelope(
    rest: Rest, sender: Sender, room: str, odd: dict[str, Any]
) -> None:
    assert sender.send(json.dumps(joined(room, "sam", **odd)).encode()) == TAKEN
    eventually(lambda: stays(rest, room).get("sam") == (iso(NOW), None))


def test_an_event_without_a_time_has_that_of_its_receipt(rest: Rest, sender: Sender, room: str) -> None:
    told = joined(room, "sam")
    del told["event_ts"], told["id"], told["payload"]["joined_at"]
    before = iso(time.time() - 1)
    assert sender.send(json.dumps(told).encode()) == TAKEN
    joined_at = eventually(lambda: stays(rest, room).get("sam", (None,))[0])
    assert before < joined_at < iso(time.time() + 1)


def test_times_in_milliseconds_are_understood(rest: Rest, sender: Sender, room: str) -> None:
    told = joined(room, "sam")
    told["payload"]["joined_at"] = NOW * 1000
    assert sender.send(json.dumps(told).encode()) == TAKEN
    eventually(lambda: stays(rest, room).get("sam") == (iso(NOW), None))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"type": 5}', b'{"type":"participant.joined","payload":[]}'],
    ids=str,
)
def test_what_is_no_event_is_taken_when_it_is_signed(sender: Sender, daily: DailyControl, body: bytes) -> None:
    assert sender.send(body) == TAKEN
    assert daily.state()["webhook"]["state"] == "ACTIVE"


def test_an_odd_event_that_can_never_be_applied_is_kept_with_its_reason_and_logged(
    stack: Stack, sender: Sender, room: str, database: psycopg.Connection
) -> None:
    told = joined(room, "sam")
    del told["payload"]["session_id"]
    assert sender.send(json.dumps(told).encode()) == TAKEN
    kept = "SELECT error FROM daily_events WHERE id = %s AND due_at IS NULL AND error IS NOT NULL"
    [error] = eventually(lambda: database.execute(kept, [told["id"]]).fetchone())
    assert "no session_id" in error
    assert f"event given up type=participant.joined id={told['id']}" in stack.servers[0].log.read_text()


def test_what_daily_did_not_sign_is_refused(stack: Stack, http: httpx.Client, sender: Sender, room: str) -> None:
    body = json.dumps(joined(room, "sam")).encode()
    headers = sender.signed(body, "1766761200") | {"Content-Type": "application/json"}
    assert http.post(PATH, content=body + b" ", headers=headers).status_code == 401


def test_events_of_a_room_whose_session_is_locked_are_taken_and_those_of_others_applied(
    stack: Stack, rest: Rest, daily: DailyControl, sender: Sender, room: str
) -> None:
    other = str(rest.create()["roomName"])
    with psycopg.connect(stack.database_url) as idle:
        idle.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [room])
        bodies = [json.dumps(joined(room, f"user-{i}")).encode() for i in range(50)]
        with ThreadPoolExecutor(10) as threads:
            assert set(threads.map(sender.send, bodies)) == {TAKEN}
        enter(rest, daily, other, "eve")
        eventually(lambda: stays(rest, other)["eve"][0])
        assert stays(rest, room) == {}
    eventually(lambda: len(stays(rest, room)) == 50)


def test_three_hundred_events_in_flight_are_all_taken_and_their_joins_told(
    stack: Stack, rest: Rest, sender: Sender, room: str
) -> None:
    bodies = [json.dumps(joined(room, f"user-{i}")).encode() for i in range(400)]

    async def deliver() -> list[int]:
        limits = httpx.Limits(max_connections=300)
        free = asyncio.Semaphore(300)
        async with httpx.AsyncClient(base_url=stack.rest_url, limits=limits, timeout=20, trust_env=False) as client:

            async def post(body: bytes) -> int:
                async with free:
                    headers = sender.signed(body, "1766761200") | {"Content-Type": "application/json"}
                    return (await client.post(PATH, content=body, headers=headers)).status_code

            return await asyncio.gather(*map(post, bodies))

    assert set(asyncio.run(deliver())) == {200}
    eventually(lambda: len(stays(rest, room)) == 400)
    assert set(stays(rest, room).values()) == {(iso(NOW), None)}


def test_the_same_events_twice_and_in_the_wrong_order_say_the_same(rest: Rest, daily: DailyControl, room: str) -> None:
    for fault in ("webhook_duplicate", "webhook_reorder"):
        daily.fault(fault, room=room, times=4)
    token = call(rest, "token", room, "sam", "student").json()["token"]
    sam = daily.join(room, token)
    left = daily.leave(room, sam["session_id"])
    eventually(lambda: stays(rest, room)["sam"] == (iso(sam["joined_at"]), iso(left["left_at"])))
