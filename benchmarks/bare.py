"""The least that gRPC in Python costs: no middleware, one message out of memory, asked for or told to those who follow.
`python -m benchmarks.bare HOST:PORT [CHANGES]` serves it until SIGTERM, with so many changes told a second."""

import asyncio
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any

import grpc
import uvloop

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc

SERVICE = rpc.DESCRIPTOR.services_by_name["LiveSessions"].full_name
SESSION = pb.LiveSession(
    id="5a7c9a52-6c0f-4a9c-9d4e-0c5b8e3f4d21",
    course_id="course-12345",
    room_name="ls-0123456789abcdefABCDEF",
    status=pb.LiveSession.scheduled,
    created_by="instructor-12345",
    recording_enabled=True,
    max_participants=50,
)
for field in (SESSION.starts_at, SESSION.created_at, SESSION.updated_at):
    field.FromDatetime(datetime(2026, 1, 1, 10, 0, 0, 123000, UTC))


PENDING = [(f"grpc.server.max_pending_requests{limit}", 100_000) for limit in ("", "_hard_limit")]
"""As ours has it: gRPC would cancel those of a burst from the 1,000th on."""


async def get(request: rpc.GetLiveSessionRequest, context: Any) -> pb.LiveSession:
    return SESSION


class Classes:
    """Who follows what, ten a class: each change of a class is told to its ten, by a queue of each."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[bytes]] = []

    async def watch(self, request: bytes, context: Any) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.append(queue)
        await context.write(_told())
        while True:
            await context.write(await queue.get())

    async def change(self, per_second: int) -> None:
        at, begin, changes = 0, time.perf_counter(), 0
        while True:
            await asyncio.sleep(0.2)  # as our reader looks
            due = int((time.perf_counter() - begin) * per_second) - changes
            changes += due
            for _ in range(due if self._queues else 0):
                message = _told()
                for queue in self._queues[at : at + 10]:
                    queue.put_nowait(message)
                at = (at + 10) % len(self._queues)


def _told() -> bytes:
    return pb.LiveSessionEvent(revision=1, at=SESSION.starts_at, session=SESSION).SerializeToString()


async def serve(address: str, changes: int) -> None:
    classes = Classes()
    telling = asyncio.create_task(classes.change(changes))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    method = grpc.unary_unary_rpc_method_handler(
        get,
        request_deserializer=rpc.GetLiveSessionRequest.FromString,
        response_serializer=pb.LiveSession.SerializeToString,
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *PENDING])
    methods = {"GetLiveSession": method, "WatchLiveSession": grpc.unary_stream_rpc_method_handler(classes.watch)}
    # As generic handlers: a registered one would cost an extra future per call.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(address)
    await server.start()
    await stopping.wait()
    telling.cancel()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
