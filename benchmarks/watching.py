"""What it costs that thousands follow their classes: 5,000 watchers of 500 classes on one process, in which 100 changes
are made a second; beside a bare grpc.aio server that tells as many. And those who come back at once, who read nothing,
and who go again."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from benchmarks.bare import SERVICE
from benchmarks.figures import Target, figure
from benchmarks.load import Load, LoadFailed, grpc
from benchmarks.meter import Meter, memory
from benchmarks.stage import bare
from benchmarks.streams import Streams, connect, follow
from live_sessions.v1 import service_pb2 as rpc
from sandbox.ports import HOST, free_port
from sandbox.process import Workspace
from sandbox.stack import Stack

METHOD = f"/{SERVICE}/WatchLiveSession"
CLASSES, WATCHERS, CHANGES = 500, 5_000, 100
WINDOW, GET_WINDOW, SETTLE = 15.0, 4.0, 3.0
GETS = 64
DEAF, DEAF_CHANGES, DEAF_FOR = 20, 1_500, 6.0
"""Watchers who read nothing, how often their class changes, so that each would be told 250 KiB, and for how long."""
FICKLE, AT_ONCE = 10_000, 500
MARK = b"change-"

FILL = """
INSERT INTO sessions (course_id, room_name, status, starts_at, created_by, room_created_at, live_at)
SELECT 'course', 'ls-watched-' || i, 'live', now(), 'instructor', now(), now() FROM generate_series(0, %s) AS i
"""
CHANGE = "UPDATE sessions SET course_id = %s, updated_at = now() WHERE room_name = %s"


@dataclass
class Found:
    """Of one round; times in seconds, memory in KiB, CPU in µs."""

    told: float = 0.0
    memory: float = 0.0
    cpu: float = 0.0
    bare_cpu: float = 0.0
    bare_memory: float = 0.0
    get: float = 0.0
    get_beside: float = 0.0
    back: float = 0.0
    deaf_told: float = 0.0
    deaf_memory: float = 0.0
    fickle_memory: float = 0.0


ROWS = {
    "told": "s from a change until it is told, p99",
    "memory": "memory of each watcher, KiB",
    "bare_memory": "the same of a bare server, KiB",
    "cpu": "CPU a message, µs",
    "bare_cpu": "the same of a bare server, µs",
    "get": "get-grpc, 64 in flight: p99 alone, s",
    "get_beside": "the same beside 100 changes a second, s",
    "back": "s until all who come back have their state",
    "deaf_memory": "memory of each who reads nothing, KiB",
    "fickle_memory": "growth by 10,000 streams opened and cancelled, KiB",
}


class Round:
    def __init__(self, stack: Stack, bare_target: str, bare_pid: int) -> None:
        self._stack, self._bare_target, self._bare_pid = stack, bare_target, bare_pid
        self._target = stack.grpc_targets[0]
        self._latencies: list[float] = []
        self._messages = 0
        self.found = Found()

    @property
    def _pid(self) -> int:
        return self._stack.servers[0].pid

    async def run(self) -> Found:
        found = self.found
        found.get = await self._get()
        before = memory(self._pid)
        every = await self._follow_all(self._target)
        await asyncio.sleep(SETTLE)
        found.memory = (memory(self._pid) - before) * 1024 / WATCHERS
        found.cpu = await self._while_changing()
        found.told = sorted(self._latencies)[int(len(self._latencies) * 0.99)]
        changing = asyncio.create_task(self._change())
        found.get_beside = await self._get()
        await _over(changing)
        _close(every)
        found.back = await self._come_back()
        await self._bare()
        await self._deaf()
        await self._fickle()
        return found

    def _told(self, message: bytes, now: float) -> None:
        self._messages += 1
        if (at := message.find(MARK)) >= 0:
            self._latencies.append(now - float(message[at + len(MARK) : message.index(b";", at)]))

    async def _follow_all(self, target: str) -> list[Streams]:
        return await follow(target, METHOD, [_request(number % CLASSES) for number in range(WATCHERS)], self._told)

    async def _while_changing(self) -> float:
        """The process's CPU for each message."""
        self._latencies.clear()
        changing = asyncio.create_task(self._change())
        await asyncio.sleep(1)
        used = await self._cpu(self._pid)
        await _over(changing)
        return used

    async def _cpu(self, pid: int) -> float:
        meter, self._messages = Meter({"it": pid}), 0
        meter.start()
        await asyncio.sleep(WINDOW)
        return meter.seconds()["it"] / self._messages * 1e6

    async def _change(self) -> None:
        """Class after class, each change with its moment as its course."""
        async with await psycopg.AsyncConnection.connect(self._stack.database_url, autocommit=True) as database:
            begin, made = time.perf_counter(), 0
            while True:
                for _ in range(int((time.perf_counter() - begin) * CHANGES) - made):
                    await database.execute(CHANGE, (_now(), f"ls-watched-{made % CLASSES}"))
                    made += 1
                await asyncio.sleep(0.005)

    async def _get(self) -> float:
        """p99 of GetLiveSession."""
        load = Load(grpc(self._target, f"/{SERVICE}/GetLiveSession", GETS), GETS, lambda: _request(7))
        await load.open()
        await load.run(0.5)
        result = await load.run(GET_WINDOW)
        load.close()
        if result.failed:
            raise LoadFailed("a read failed")
        return result.percentile(0.99)

    async def _come_back(self) -> float:
        """Seconds in which all have their state after a restart, from when the first may come."""
        server = self._stack.servers[0]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        begin = time.perf_counter()
        every = await self._follow_all(self._target)
        taken = time.perf_counter() - begin
        _close(every)
        return taken

    async def _bare(self) -> None:
        before = memory(self._bare_pid)
        every = await self._follow_all(self._bare_target)
        await asyncio.sleep(SETTLE)
        self.found.bare_memory = (memory(self._bare_pid) - before) * 1024 / WATCHERS
        self.found.bare_cpu = await self._cpu(self._bare_pid)
        _close(every)

    async def _deaf(self) -> None:
        """Those who read nothing are ended after 5 s, as they learn when they read on; what each costs meanwhile."""
        every = [await connect(self._target, METHOD, _ignore, reading=False) for _ in range(DEAF)]
        await asyncio.gather(*(streams.begin([_request(0)])[0] for streams in every))
        before, most = memory(self._pid), 0.0
        async with await psycopg.AsyncConnection.connect(self._stack.database_url, autocommit=True) as database:
            for _ in range(DEAF_CHANGES):
                await database.execute(CHANGE, (_now(), "ls-watched-0"))
        end = time.perf_counter() + DEAF_FOR
        while time.perf_counter() < end:
            most = max(most, memory(self._pid) - before)
            await asyncio.sleep(0.1)
        for streams in every:
            streams.hear()
        await asyncio.sleep(1)
        self.found.deaf_told = sum(len(streams.open) for streams in every)
        self.found.deaf_memory = most * 1024 / DEAF
        _close(every)

    async def _fickle(self) -> None:
        """What the process has grown by between the first thousands of streams, opened and cancelled, and the last."""
        sizes = []
        for _ in range(2 * FICKLE // AT_ONCE):
            [*every] = await follow(self._target, METHOD, [_request(0)] * AT_ONCE, self._told)
            for streams in every:
                streams.cancel()
            await asyncio.sleep(0.1)
            _close(every)
            sizes.append(memory(self._pid))
        self.found.fickle_memory = (sizes[-1] - sizes[FICKLE // AT_ONCE - 1]) * 1024


def measure(directory: Path, rounds: int) -> dict[str, Any]:
    with _stage(directory) as (stack, bare_target, bare_pid):
        every = [uvloop.run(Round(stack, bare_target, bare_pid).run()) for _ in range(rounds)]
    rows = {what: figure(getattr(found, name) for found in every) for name, what in ROWS.items()}
    return {"watch": rows, "targets": [target.as_json() for target in targets(every)]}


def targets(every: list[Found]) -> list[Target]:
    def of(name: str, limit: float, value: Any) -> Target:
        return Target(f"watch, {WATCHERS:,} watchers: {name}", figure(map(value, every)), limit)

    return [
        of("s until told, p99", 0.5, lambda found: found.told),
        of("memory of each, KiB", 40, lambda found: found.memory),
        of("CPU a message, ours / bare", 1.5, lambda found: found.cpu / found.bare_cpu),
        of("get-grpc, 64 in flight: p99, beside / alone", 1.5, lambda found: found.get_beside / found.get),
        of("s until all who come back have their state", 10, lambda found: found.back),
        of(f"who read nothing for {DEAF_FOR:.0f} s and are told on", 0, lambda found: found.deaf_told),
        of("memory of each who reads nothing, KiB", 1024, lambda found: found.deaf_memory),
        of(f"growth by {FICKLE:,} opened and cancelled, KiB", 1024, lambda found: found.fickle_memory),
    ]


@contextmanager
def _stage(directory: Path) -> Iterator[tuple[Stack, str, int]]:
    shutil.rmtree(directory / "watching", ignore_errors=True)
    with Stack(directory / "watching" / "stack") as stack, free_port() as port:
        with psycopg.connect(stack.database_url, autocommit=True) as database:
            database.execute(FILL.encode(), (CLASSES - 1,))
        workspace = Workspace(directory / "watching" / "bare")
        workspace.claim()
        process = bare(workspace, f"{HOST}:{port}", changes=CHANGES)
        process.start()
        try:
            yield stack, f"{HOST}:{port}", process.pid
        finally:
            process.stop()
            workspace.release()


def _now() -> str:
    return f"{MARK.decode()}{time.perf_counter()};"


def _ignore(message: bytes, now: float) -> None:
    pass


def _request(number: int) -> bytes:
    return rpc.GetLiveSessionRequest(session_name=f"ls-watched-{number}").SerializeToString()


def _close(every: list[Streams]) -> None:
    for streams in every:
        streams.close()


async def _over(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
