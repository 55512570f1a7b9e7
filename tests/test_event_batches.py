"""Daily's events are applied in batches, many rooms at a time, and none of them waits for another room's."""

import json
import uuid
from typing import Any

import grpc
import psycopg
from google.api.httpbody_pb2 import HttpBody

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from server.upkeep.inbox import EVENTS
from tests.clients import Rest, eventually
from tests.events import CLASS, event, signature

ME = "batches-instructor"


def told(room: str, user: str, **more: Any) -> dict[str, Any]:
    """That somebody joined."""
    stay = str(uuid.uuid4())
    return event("participant.joined", {"room": room, "user_id": user, "session_id": stay, "joined_at": CLASS} | more)


def send(stack: Stack, *events: dict[str, Any]) -> None:
    """All at once, straight to the server."""
    secret = stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]
    with grpc.insecure_channel(stack.grpc_targets[0]) as channel:
        receive = LiveSessionsStub(channel).ReceiveDailyWebhook
        bodies = [json.dumps(event).encode() for event in events]
        calls = [
            receive.future(
                rpc.ReceiveDailyWebhookRequest(body=HttpBody(data=body)),
                metadata=(("x-webhook-timestamp", "1"), ("x-webhook-signature", signature(secret, "1", body))),
            )
            for body in bodies
        ]
        assert all(call.result() == rpc.ReceiveDailyWebhookResponse() for call in calls)


def people(rest: Rest, room: str) -> list[str]:
    answer = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return sorted(person["userId"] for person in answer if person.get("joinedAt"))


def test_events_of_many_rooms_go_each_to_its_own(stack: Stack, rest: Rest) -> None:
    rooms = [str(rest.create(ME)["roomName"]) for _ in range(3)]
    send(stack, *(told(room, f"{user}-of-{room}") for user in ("ada", "lin") for room in rooms))
    for room in rooms:
        eventually(lambda room=room: people(rest, room) == [f"ada-of-{room}", f"lin-of-{room}"])
        assert rest.get(room)["status"] == "live"


def test_an_event_that_cannot_be_read_keeps_none_of_its_batch(
    stack: Stack, rest: Rest, database: psycopg.Connection
) -> None:
    room = str(rest.create(ME)["roomName"])
    odd = told(room, "nobody", session_id=None)
    send(stack, told(room, "ada"), odd, told(room, "lin"))
    eventually(lambda: people(rest, room) == ["ada", "lin"])
    error = "Unreadable('no session_id')"
    query = "SELECT error FROM daily_events WHERE id = %s"
    eventually(lambda: database.execute(query, [odd["id"]]).fetchone() == (error,))


def test_a_session_that_somebody_has_locked_keeps_no_other_waiting(stack: Stack, rest: Rest) -> None:
    locked, free = (str(rest.create(ME)["roomName"]) for _ in range(2))
    with psycopg.connect(stack.database_url) as idle:
        idle.execute("SELECT FROM sessions WHERE room_name = %s FOR UPDATE", [locked])
        send(stack, *(told(locked, "ada") for _ in range(3 * EVENTS)))
        send(stack, told(free, "lin"))
        eventually(lambda: people(rest, free) == ["lin"])
        assert people(rest, locked) == []
    eventually(lambda: people(rest, locked) == ["ada"])
