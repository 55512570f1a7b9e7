"""The workarounds that keep a call cheap, each with a test that fails when it is no longer needed."""

import asyncio

import grpc
import pytest

from live_sessions.v1 import service_pb2
from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer, add_LiveSessionsServicer_to_server
from server.app import generic_handlers_only

METHODS = len(service_pb2.DESCRIPTOR.services_by_name["LiveSessions"].methods)


async def _tasks_that_accept(server: grpc.aio.Server) -> int:
    before = len(asyncio.all_tasks())
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.sleep(0)
    accepting = len(asyncio.all_tasks()) - before
    await server.stop(None)
    return accepting


@pytest.mark.parametrize(("only_generic", "tasks"), [(True, 2), (False, 2 + METHODS)])
async def test_grpc_aio_accepts_calls_by_one_task_per_method_unless_they_are_generic(
    only_generic: bool, tasks: int
) -> None:
    server = grpc.aio.server()
    if only_generic:
        with generic_handlers_only(server):
            add_LiveSessionsServicer_to_server(LiveSessionsServicer(), server)
    else:
        add_LiveSessionsServicer_to_server(LiveSessionsServicer(), server)
    assert await _tasks_that_accept(server) == tasks
