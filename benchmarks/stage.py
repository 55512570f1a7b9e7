"""Everything that is measured, side by side on one machine and one PostgreSQL: the stack, bare, peer, Express and
unbatched; and the server and the peer once more on a small database."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import grpc
import httpx
import psycopg

from benchmarks.data import Data
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace
from sandbox.stack import Stack, is_serving

LISTENER = {"GRPC_EXPERIMENTS": "-event_engine_listener"}
"""What our server chooses for itself (server/__init__.py), for bare."""


EXPRESS = Path(__file__).parent / "express"


class Stage:
    def __init__(self, directory: Path, rows: int, small_rows: int) -> None:
        self._directory, self._rows, self._small_rows = directory, rows, small_rows
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self) -> None:
        (self._directory / "stack" / "daily.json").unlink(missing_ok=True)  # the rooms of the run before
        self.stack = self._cleanup.enter_context(Stack(self._directory / "stack"))
        self._give_memory()
        self._workspace = Workspace(self._directory / "others")
        self._cleanup.callback(self._workspace.release)
        self._workspace.claim()
        self.data = Data(self.stack.database_url, self._rows)
        self.small = Data(self._small_database(), self._small_rows)
        for data in (self.data, self.small):
            data.fill()
            data.read_names()
        self.bare_target, self.unbatched_target, self.small_target = (f"{HOST}:{self.port()}" for _ in range(3))
        self.peer_port, self.small_peer_port = self.port(), self.port()
        small = {"LIVE_SESSIONS_DATABASE_URL": self.small.url}
        self.bare = self.add(bare(self._workspace, self.bare_target))
        self.unbatched = self.add(self.server("unbatched", self.unbatched_target, module="benchmarks.unbatched"))
        self.small_server = self.add(self.server("small-server", self.small_target, small))
        self.peer = self.add(self.new_peer("peer", self.peer_port))
        self.small_peer = self.add(self.new_peer("small-peer", self.small_peer_port, small))
        self.express_port = self.port()
        self.express = express(self._workspace, self.express_port, self.stack.environment)
        if self.express:
            self.add(self.express)

    def port(self) -> int:
        return self._cleanup.enter_context(free_port())

    def _give_memory(self) -> None:
        """To PostgreSQL, whose own 128 MB are for the smallest of machines: all of the tables fit."""
        assert self.stack.postgres is not None
        with psycopg.connect(self.stack.database_url, autocommit=True) as database:
            database.execute("ALTER SYSTEM SET shared_buffers = '2GB'")
        self.stack.postgres.stop()
        self.stack.postgres.start()

    def _small_database(self) -> str:
        with psycopg.connect(self.stack.database_url, autocommit=True) as database:
            database.execute("DROP DATABASE IF EXISTS small WITH (FORCE)")
            database.execute("CREATE DATABASE small")
        url = self.stack.database_url.replace("/postgres?", "/small?")
        settings = self.stack.environment | {"LIVE_SESSIONS_DATABASE_URL": url}
        Process("migrate", [sys.executable, "-m", "server", "migrate"], self._workspace, settings).run()
        return url

    @property
    def groups(self) -> dict[str, int]:
        """The first process of each group."""
        assert self.stack.postgres is not None
        running = json.loads((self._directory / "stack" / "processes.json").read_text())
        envoy = next(entry["pid"] for entry in running if entry["name"] == "envoy")
        return {
            "server": self.stack.servers[0].pid,
            "envoy": envoy,
            "postgres": self.stack.postgres.pid,
            "bare": self.bare.pid,
            "peer": self.peer.pid,
            "unbatched": self.unbatched.pid,
            "small-server": self.small_server.pid,
            "small-peer": self.small_peer.pid,
        } | ({"express": self.express.pid} if self.express else {})

    @property
    def webhook_secret(self) -> str:
        return self.stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]

    def add(self, process: Process) -> Process:
        self._cleanup.callback(process.stop)
        process.start()
        return process

    def server(self, name: str, target: str, changes: dict[str, str] | None = None, module: str = "server") -> Process:
        settings = self.stack.environment | {"LIVE_SESSIONS_GRPC_ADDRESS": target} | (changes or {})
        return Process(name, [sys.executable, "-m", module], self._workspace, settings, lambda: _serves(target))

    def new_peer(self, name: str, port: int, changes: dict[str, str] | None = None) -> Process:
        return peer(self._workspace, name, port, self.stack.environment | (changes or {}))


def bare(workspace: Workspace, target: str, settings: Mapping[str, str] = LISTENER, changes: int = 0) -> Process:
    port = int(target.rpartition(":")[2])
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.bare", target, str(changes)]
    return Process("bare", command, workspace, settings, lambda: _listens(port))


def peer(workspace: Workspace, name: str, port: int, settings: dict[str, str]) -> Process:
    options = ["--host", HOST, "--port", str(port), "--loop", "uvloop", "--http", "httptools", "--workers", "1"]
    more = ["--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "75"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.peer:app", *options, *more]
    ready = f"http://{HOST}:{port}/sessions/instructor/nobody"
    return Process(name, command, workspace, settings, lambda: _answers(ready))


def express(workspace: Workspace, port: int, settings: dict[str, str]) -> Process | None:
    """None, and a line that says so, where Node or its packages are not to be had."""
    if not (shutil.which("node") and shutil.which("npm")):
        print("no Express: node and npm are not installed", file=sys.stderr)
        return None
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    if not (EXPRESS / "node_modules").exists() and subprocess.run(install, cwd=EXPRESS, check=False).returncode:
        print("no Express: its packages cannot be installed", file=sys.stderr)
        return None
    command = ["node", EXPRESS / "server.js", HOST, str(port)]
    return Process("express", command, workspace, settings | {"NODE_ENV": "production"}, lambda: _listens(port))


def seconds_to_start(process: Process) -> float:
    """From its start until it answers."""
    begin = time.perf_counter()
    process.start()
    taken = time.perf_counter() - begin
    process.kill()
    return taken


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _serves(target: str) -> bool:
    if not _listens(int(target.rpartition(":")[2])):
        return False
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        return is_serving(channel)
