"""The least that gRPC in Python costs: one method, no middleware, one message out of memory. `python -m benchmarks.bare
HOST:PORT` serves it until SIGTERM."""

import asyncio
import signal
import sys
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


async def get(request: rpc.GetLiveSessionRequest, context: Any) -> pb.LiveSession:
    return SESSION


async def serve(address: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    method = grpc.unary_unary_rpc_method_handler(
        get,
        request_deserializer=rpc.GetLiveSessionRequest.FromString,
        response_serializer=pb.LiveSession.SerializeToString,
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    # As a generic handler: a registered one would cost an extra future per call.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"GetLiveSession": method}),))
    server.add_insecure_port(address)
    await server.start()
    await stopping.wait()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
