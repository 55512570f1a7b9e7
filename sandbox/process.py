"""Child processes: in sessions of their own, logged, recorded, awaited, stopped with what they started."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parents[1]
GRACE = 10.0  # seconds between asking a process to end and killing it
PATIENCE = 60.0  # seconds for a part to become ready or a command to finish
TICK = 0.02
CLOCK_STEP = 2.0  # seconds by which a process's recorded start may seem to move when the system clock is set


class SandboxError(Exception):
    """What keeps the stack from running, in words for a person."""


class Interrupted(Exception):
    """The sandbox was asked to stop while it was starting."""


class Workspace:
    """The data directory: locked by one stack at a time, with the logs and the record of what runs.

    The record outlives a sandbox that was killed, so that the next one can end what was left behind.
    """

    def __init__(self, path: Path, interrupted: Callable[[], bool] = lambda: False) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.interrupted = interrupted
        self._record = self.path / "processes.json"
        self._running: dict[int, dict[str, object]] = {}
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Make the directory, lock it, end what a killed sandbox left running and remove its logs."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end_leftovers()
            for log in self.logs.glob("*.log"):
                log.unlink()
        except BlockingIOError:
            raise SandboxError(f"a stack is already running on {self.path}") from None
        except OSError as error:
            reason = error.strerror
            raise SandboxError(f"the data directory {self.path} cannot be written: {reason}") from error

    def release(self) -> None:
        if self._lock:
            self._lock.close()

    def remember(self, name: str, pid: int, stop_signal: Signals) -> None:
        started = psutil.Process(pid).create_time()
        self._running[pid] = {"name": name, "pid": pid, "create_time": started, "stop_signal": stop_signal}
        self._save()

    def forget(self, pid: int) -> None:
        self._running.pop(pid, None)
        self._save()

    def _save(self) -> None:
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(list(self._running.values()), indent=1))
        draft.replace(self._record)

    def _end_leftovers(self) -> None:
        if not self._record.exists():
            return
        leftovers = {}
        for entry in json.loads(self._record.read_text()):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(entry["pid"])
                if abs(process.create_time() - entry["create_time"]) < CLOCK_STEP:
                    leftovers[process] = Signals(entry["stop_signal"])
        end(leftovers)
        self._record.unlink()


class Process:
    """One part of the stack, or one command, run from the repository's root with its output in a log file."""

    stop_signal = SIGTERM
    cwd = ROOT
    uid: int | None = None
    gid: int | None = None

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        workspace: Workspace,
        settings: Mapping[str, str] | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.command = command
        self.log = workspace.logs / f"{name}.log"
        self._workspace = workspace
        self._settings = dict(settings or {})
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def started(self) -> bool:
        return self._child is not None

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.spawn()
        self.wait_ready()

    def run(self) -> None:
        """Start it and wait until it has ended well."""
        try:
            self.spawn()
            self._wait(lambda: self.ended, "end")
            if self._process.returncode:
                raise SandboxError(self.epitaph())
        finally:
            self.stop()

    def spawn(self) -> None:
        """Start it, after the end of its earlier run; `wait_ready` comes next."""
        if self.started:
            self.reap()
        try:
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                self._child = subprocess.Popen(
                    self.command,
                    cwd=self.cwd,
                    env=_inherited() | self._settings,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=self.uid,
                    group=self.gid,
                    extra_groups=None if self.gid is None else [],
                )
        except OSError as error:
            raise SandboxError(f"{self.name} cannot be started: {error}") from error
        self._workspace.remember(self.name, self._child.pid, self.stop_signal)

    def wait_ready(self) -> None:
        self._wait(lambda: not self.ended and self._ready(), "become ready")

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        self._process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask it to end, wait, and kill what is left of it after the grace."""
        stop_together(self)

    def kill(self) -> None:
        """End it and all that it started at once, as a crash would."""
        if not self.ended:
            end({psutil.Process(self.pid): SIGKILL}, grace=0)
        self.reap()

    def reap(self) -> None:
        """Await its end, which is near, and take note of it."""
        self._process.wait(GRACE)
        self._workspace.forget(self.pid)

    def epitaph(self) -> str:
        """How it ended, or that it has not, and the last lines of its log."""
        code = self._process.poll()
        how = "is running" if code is None else f"ended with status {code}"
        if code is not None and code < 0:
            how = f"was ended by {Signals(-code).name}"
        lines = self.log.read_bytes()[self._log_start :].decode(errors="replace").splitlines()
        return "\n  ".join([f"{self.name} {how}; its log is {self.log}", *lines[-10:]])

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise SandboxError(f"{self.name} has not been started")
        return self._child

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            if self._workspace.interrupted():
                raise Interrupted
            if self.ended:
                raise SandboxError(self.epitaph())
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name} did not {what} within {PATIENCE:.0f} s: {self.epitaph()}")
            time.sleep(TICK)


def stop_together(*processes: Process) -> None:
    """Stop several at the same time; those that have not been started or have ended are no hindrance."""
    started = [process for process in processes if process.started]
    end({psutil.Process(each.pid): each.stop_signal for each in started if not each.ended})
    for each in started:
        each.reap()


def end(processes: Mapping[psutil.Process, Signals], grace: float = GRACE) -> None:
    """Send each its signal, wait for them and all they started, and kill what is left after the grace."""
    everyone = [member for process in processes for member in _family(process)]
    for process, stop_signal in processes.items():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(stop_signal)
    if not _wait_gone(everyone, grace):
        for member in everyone:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        _wait_gone(everyone, GRACE)


def working_in(directory: Path, name: str) -> list[psutil.Process]:
    """The processes of this name that run in this working directory."""
    everyone = psutil.process_iter(["name", "cwd"])
    return [each for each in everyone if each.info == {"name": name, "cwd": str(directory)}]


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait_gone(processes: Collection[psutil.Process], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not all(map(_gone, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK)
    return True


def _gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _inherited() -> dict[str, str]:
    """The environment without our settings, which each process is handed, and with no proxy for loopback."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("LIVE_SESSIONS_")}
    for name in ("no_proxy", "NO_PROXY"):
        ours[name] = ",".join(filter(None, [ours.get(name), "127.0.0.1"]))
    return ours | {"PYTHONUNBUFFERED": "1"}
