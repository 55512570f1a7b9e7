"""One run: the stack, the workload and the kills, the end of all classes, and the checker's word."""

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from sandbox.stack import Stack
from tests.crash import checker, facts, plan
from tests.crash.callers import Callers
from tests.crash.checker import Violation
from tests.crash.facts import Facts
from tests.crash.killer import Killer
from tests.crash.workload import Workload

BOUND = 120.0
"""Seconds that the reconciler has, from the end of the last class, to set everything right."""
LOOK_AGAIN = 6.0
"""Seconds after which what was found clean must still be: more than the reconciler's interval."""
REPAIRED = re.compile(r"repaired kind='([^']+)'|(re-activated Daily's webhook)")
UNEXPECTED = re.compile(r"^.* (?:ERROR|CRITICAL) .*$", re.MULTILINE)


@dataclass
class Report:
    violations: list[Violation]
    settled_after: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    faults_set: Counter[str] = field(default_factory=Counter)
    faults_left: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """ERROR lines in the servers' logs: exceptions that nobody foresaw."""
    seen: dict[str, int] = field(default_factory=dict)


def run(
    chosen: plan.Plan,
    data_dir: Path,
    *,
    servers: int = 1,
    without: str | None = None,
    bound: float = BOUND,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """`without` names a part of the reconciler to leave out, as tests.crash.crippled does."""
    with Stack(data_dir, workers=servers) as stack, httpx.Client(base_url=stack.daily_url, timeout=30) as daily:
        if without is not None:
            _cripple(stack, without)
        killer, callers = Killer(chosen, stack), Callers(stack)
        workload = Workload(chosen, callers, daily, killer.before)
        with _Progress(workload, killer, say):
            with ThreadPoolExecutor(1) as pool:
                killing = pool.submit(killer.run)
                workload.run()
                killing.result()
            say("all operations are done; everybody leaves, faults are cleared, Daily ends what still records")
            _everybody_leaves(daily)
            left = sum(fault["times"] or 0 for fault in daily.get("/sandbox/faults").json()["faults"])
            daily.delete("/sandbox/faults").raise_for_status()
            callers.close()
            found, last, seconds = _settle(stack, daily, workload, bound)
        log = "".join(path.read_text(errors="replace") for path in stack.logs.glob("server-*.log"))
        repairs = Counter(kind or other for kind, other in REPAIRED.findall(log))
        seen = {"sessions": last.sessions, "recordings": last.recordings, "participants": last.participants}
        at_daily = {f"{name} at Daily": last.state[name] for name in ("rooms", "recordings", "connections")}
        ours = {row["recording_id"] for row in last.recordings}
        at_daily["recordings at Daily in no row"] = [one for one in last.state["recordings"] if one["id"] not in ours]
        return Report(
            found,
            seconds,
            workload.outcomes,
            killer.killed,
            workload.faults,
            left,
            repairs,
            UNEXPECTED.findall(log),
            {name: len(rows) for name, rows in (seen | at_daily).items()},
        )


def _cripple(stack: Stack, part: str) -> None:
    for server in stack.servers:
        server.kill()
        server.command = [sys.executable, "-m", "tests.crash.crippled", part]
        server.start()


def _settle(
    stack: Stack, daily: httpx.Client, workload: Workload, bound: float
) -> tuple[list[Violation], Facts, float]:
    """Ends all recordings, and looks until nothing is wrong, then once more; or until the bound is over."""
    started = time.monotonic()
    clean_since: float | None = None
    while True:
        known = facts.read(stack.database_url, daily, workload.journal)
        _end_known_recordings(known, daily)
        found, now = checker.check(known), time.monotonic()
        clean_since = None if found else clean_since or now
        if clean_since is not None and now - clean_since >= LOOK_AGAIN:
            return found, known, clean_since - started
        if found and now - started > bound:
            return found, known, now - started
        time.sleep(0.5)


def _everybody_leaves(daily: httpx.Client) -> None:
    for stay in daily.get("/sandbox/state").json()["connections"]:
        if stay["left_at"] is None:
            daily.post(f"/sandbox/rooms/{stay['room']}/leave", json={"session_id": stay["session_id"]})


def _end_known_recordings(known: Facts, daily: httpx.Client) -> None:
    """Daily ends a recording in an empty room by itself. Those that we do not know are ours to stop."""
    for one in checker.running(known):
        if checker.is_ours(known, one):
            daily.post(f"/sandbox/recordings/{one['id']}/end", json={})


class _Progress:
    """Says every few seconds how far it is."""

    def __init__(self, workload: Workload, killer: Killer, say: Callable[[str], None]) -> None:
        self._workload, self._killer, self._say = workload, killer, say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._over.wait(10):
            done = sum(count for (_, how), count in list(self._workload.outcomes.items()) if how != "sent again")
            killed = ", ".join(f"{count} {name}" for name, count in self._killer.killed.items())
            self._say(f"{time.monotonic() - started:4.0f} s: {done} operations; killed: {killed or 'nothing'}")
