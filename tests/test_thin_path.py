"""The workarounds that keep a call cheap, each with a test that fails when it is no longer needed."""

import asyncio
import os
from pathlib import Path

import grpc
import pytest

from benchmarks.stage import LISTENER, bare
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import (
    LiveSessionsServicer,
    LiveSessionsStub,
    add_LiveSessionsServicer_to_server,
)
from sandbox.ports import HOST, free_port
from sandbox.process import Workspace
from server.rpc.serving import generic_handlers_only

METHODS = len(rpc.DESCRIPTOR.services_by_name["LiveSessions"].methods)


async def _tasks_that_accept(server: grpc.aio.Server) -> int:
    before = asyncio.all_tasks()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.sleep(0)
    accepting = len(asyncio.all_tasks() - before)
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


CALLS = 300


def _wake_ups_per_call(pid: int, target: str) -> float:
    with grpc.insecure_channel(target) as channel:
        call = LiveSessionsStub(channel).GetLiveSession
        call(rpc.GetLiveSessionRequest())
        before = _wake_ups(pid)
        for _ in range(CALLS):
            call(rpc.GetLiveSessionRequest())
        return (_wake_ups(pid) - before) / CALLS


def _wake_ups(pid: int) -> int:
    """How often the threads of a process have slept and were woken."""
    statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for status in statuses)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells how often threads were woken")
def test_grpcs_older_listener_wakes_fewer_threads_for_a_call(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.claim()
    woken = []
    for settings in (LISTENER, {"GRPC_EXPERIMENTS": ""}):
        with free_port() as port:
            server = bare(workspace, target := f"{HOST}:{port}", settings)
            try:
                server.start()
                woken.append(_wake_ups_per_call(server.pid, target))
            finally:
                server.stop()
    workspace.release()
    older, newer = woken
    assert newer - older > 1


def test_our_server_has_grpcs_older_listener() -> None:
    assert os.environ["GRPC_EXPERIMENTS"] == LISTENER["GRPC_EXPERIMENTS"]
