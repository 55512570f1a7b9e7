"""Daily's events as they come when classes start: signed, each another one, sent straight to a server process."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from random import Random

import psycopg
from google.api.httpbody_pb2 import HttpBody

from benchmarks import load
from benchmarks.load import Load
from live_sessions.v1 import service_pb2 as rpc
from sandbox.process import SandboxError

METHOD = f"/{rpc.DESCRIPTOR.services_by_name['LiveSessions'].full_name}/ReceiveDailyWebhook"
CLASSES, STUDENTS = 200, 30
"""Classes that start at the same time, and who comes into each."""
CROWD, IN_FLIGHT = 10_000, 64
"""Who comes into one class at the same moment."""
RATES = (500, 2000)
"""Events a second beside which calls are measured."""
TICK, WARM_UP, PATIENCE = 0.005, 0.5, 120.0
JOINED = (
    '{"version":"1.0.0","type":"participant.joined","id":"ptcpt-join-%(user)s-%(number)d","payload":{"room":"%(room)s",'
    '"user_id":"%(user)s","user_name":"Student","session_id":"%(stay)s","joined_at":%(at).3f,"will_eject_at":null,'
    '"owner":false,"permissions":{"hasPresence":true,"canSend":true,"canReceive":{"base":true},"canAdmin":false}},'
    '"event_ts":%(at).3f}'
)
LEFT = JOINED.replace("joined", "left", 1).replace("-join-", "-left-").replace('"owner"', '"duration":1.5,"owner"')
ADMIT = """
INSERT INTO participants (session_id, user_id, daily_user_id, role)
SELECT id, 'student-' || number, 'student-' || number, 'student'
FROM sessions, generate_series(0, %s) AS number WHERE room_name = %s
"""
TOLD = """
SELECT count(*) FROM participants JOIN sessions ON sessions.id = session_id
WHERE room_name = %s AND EXISTS (
    SELECT FROM connections
    WHERE connections.session_id = sessions.id AND connections.daily_user_id = participants.daily_user_id
    AND joined_at IS NOT NULL
)
"""


class Events:
    """Those of one domain, signed with its base64 secret, as Envoy sends them on to a server; each is another one."""

    def __init__(self, secret: str, target: str, seed: int = 1) -> None:
        self._key, self._target = base64.b64decode(secret), target
        self._random = Random(seed)
        self._numbers = count(time.time_ns())  # which no other Events has: each takes fewer than one a nanosecond
        self._timestamp = str(int(time.time()))

    def connect(self, in_flight: int) -> load.Connect:
        return load.grpc(self._target, METHOD, in_flight, self._headers)

    def _headers(self, message: bytes) -> bytes:
        """Daily's signature of the event in this message."""
        signed = self._timestamp.encode() + b"." + message[message.index(b"{") :]
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return load.header("x-webhook-timestamp", self._timestamp) + load.header("x-webhook-signature", signature)

    def of_classes(self, new_class: Callable[[], str]) -> Iterator[bytes]:
        """Into many classes at once students come one by one, and go; then the next class takes its place."""
        classes = [self.of_class(new_class(), STUDENTS) for _ in range(CLASSES)]
        while True:
            at = int(self._random.random() * CLASSES)
            if (event := next(classes[at], None)) is None:
                classes[at] = self.of_class(new_class(), STUDENTS)
            else:
                yield event

    def of_class(self, room: str, students: int) -> Iterator[bytes]:
        stays = [(f"student-{number}", str(next(self._numbers))) for number in range(students)]
        for event in (JOINED, LEFT):
            for user, stay in stays:
                yield self._message(event, room, user, stay)

    async def crowd(self, room: str, database_url: str) -> float:
        """Seconds from the first of a class's joins until all are told."""
        database = await asyncio.to_thread(_admit, database_url, room)
        joins = [self._message(JOINED, room, f"student-{number}", str(next(self._numbers))) for number in range(CROWD)]
        load = Load(self.connect(IN_FLIGHT), IN_FLIGHT, iter(joins).__next__)
        await load.open()
        begin = time.perf_counter()
        await load.run(total=CROWD)
        load.close()
        await asyncio.to_thread(_wait_told, database, room)
        database.close()
        return time.perf_counter() - begin

    @asynccontextmanager
    async def stream(self, per_second: int, new_class: Callable[[], str]) -> AsyncIterator[None]:
        """So many come each second, evenly."""
        load = Load(self.connect(IN_FLIGHT), IN_FLIGHT, self.of_classes(new_class).__next__)
        await load.open()
        sending = asyncio.create_task(_pace(load, per_second))
        await asyncio.sleep(WARM_UP)
        yield
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        load.close()

    def _message(self, event: str, room: str, user: str, stay: str) -> bytes:
        values = {"room": room, "user": user, "stay": stay, "number": next(self._numbers), "at": time.time()}
        body = HttpBody(content_type="application/json", data=(event % values).encode())
        return rpc.ReceiveDailyWebhookRequest(body=body).SerializeToString()


async def _pace(load: Load, per_second: int) -> None:
    sent, begin = 0, time.perf_counter()
    while True:
        if due := int((time.perf_counter() - begin) * per_second) - sent:
            await load.run(total=due)
            sent += due
        await asyncio.sleep(TICK)


def _admit(database_url: str, room: str) -> psycopg.Connection:
    database = psycopg.connect(database_url, autocommit=True)
    database.execute(ADMIT, (CROWD - 1, room))
    return database


def _wait_told(database: psycopg.Connection, room: str) -> None:
    """Until all of a class's participants are known to have joined."""
    end = time.monotonic() + PATIENCE
    while database.execute(TOLD, (room,)).fetchone() != (CROWD,):
        if time.monotonic() > end:
            raise SandboxError("the joins of a class are not told")
        time.sleep(0.3)


def finish(database_url: str) -> None:
    """Waits until every event that was sent has been applied."""
    end = time.monotonic() + PATIENCE
    with psycopg.connect(database_url, autocommit=True) as database:
        while database.execute("SELECT id FROM daily_events WHERE due_at IS NOT NULL LIMIT 1").fetchone():
            if time.monotonic() > end:
                raise SandboxError("events are not applied")
            time.sleep(0.1)
