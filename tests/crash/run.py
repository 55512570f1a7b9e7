"""One run: the stack, the workload and the blows, the end of all classes, and the checker's word."""

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlsplit

import httpx

from sandbox.process import Process
from sandbox.stack import Stack
from tests.crash import checker, facts, plan
from tests.crash.callers import Callers
from tests.crash.checker import Violation
from tests.crash.facts import Facts
from tests.crash.killer import Killer
from tests.crash.network import HOST, Link, Network, running_network
from tests.crash.watchers import Watchers
from tests.crash.workload import NOBODY, Workload

BOUND = 240.0
"""Seconds that upkeep has, from the end of the last class, to set everything right behind Daily's limits."""
OBEYED = 75.0
"""Seconds that it may take, after the last blow, until Daily's rooms are as instructors want them: two leases, and the
looks of a moderated room."""
LOOK_AGAIN = 6.0
"""Seconds after which what was found clean must still be: more than upkeep's interval."""
DONE = re.compile(r"(?:done|stopped|put right|put off) kind='[^']+'")
# That PostgreSQL is away is an operator's error, and what is done here.
UNEXPECTED = re.compile(r"^.* (?:ERROR|CRITICAL) (?!server\.readiness not ready).*$", re.MULTILINE)
# Of every application's records, what in practice is missing now and then, and nothing may depend on.
ODD = (
    {"kind": "recording", "remove": ["max_participants"], "set": {"mtgSessionId": None}},
    {"kind": "participant", "set": {"user_name": None, "userName": None}},
    {"kind": "webhook", "set": {"failedCount": None}},
)


@dataclass
class Report:
    violations: list[Violation]
    settled_after: float = 0.0
    daily: dict[str, object] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    dealt: Counter[str] = field(default_factory=Counter)
    faults_set: Counter[str] = field(default_factory=Counter)
    faults_left: int = 0
    upkeep: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """ERROR lines in the servers' logs: exceptions that nobody foresaw, and events that were given up."""
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
    """`without` names a part of upkeep to leave out, as tests.crash.crippled does."""
    with (
        running_network() as network,
        Stack(data_dir, workers=servers, daily_options=["--limits"]) as stack,
        httpx.Client(base_url=stack.daily_url, timeout=30) as daily,
    ):
        links = restart(stack, network, without)
        _prepare(daily, chosen)
        assert stack.postgres is not None
        parts: Mapping[str, Process] = {part.name: part for part in [stack.postgres, *stack.servers]}
        killer, callers, watchers = Killer(chosen, parts, network, links), Callers(stack), Watchers(stack)
        workload = Workload(chosen, callers, watchers, daily, killer.before)
        workload.appear(Random(chosen.seed), webhook=NOBODY)
        with _Progress(workload, killer, say):
            with ThreadPoolExecutor(1) as pool:
                killing = pool.submit(killer.run)
                workload.run()
                say("all operations are done; waiting for the last blow to end")
                killing.result()
            left = sum(fault["times"] or 0 for fault in daily.get("/sandbox/faults").json()["faults"])
            daily.delete("/sandbox/faults").raise_for_status()
            say("faults are cleared, and who was removed comes back")
            for room, user in set(workload.journal.removals):
                workload.enter(room, user)
            disobeyed = _obeyed(stack, daily, workload, say)
            say("everybody leaves")
            _everybody_leaves(daily, workload)
            callers.close()
            found, last, seconds = _settle(stack, daily, workload, bound, say)
            watchers.close()
        log = "".join(path.read_text(errors="replace") for path in stack.logs.glob("server-*.log"))
        return Report(
            disobeyed + found,
            seconds,
            chosen.daily,
            workload.outcomes,
            killer.dealt,
            workload.faults,
            left,
            Counter(DONE.findall(log)),
            UNEXPECTED.findall(log),
            _seen(last),
        )


def restart(stack: Stack, network: Network, without: str | None) -> dict[str, list[Link]]:
    """The servers again: each behind links of its own, with short lifetimes, and crippled if so asked."""
    links = {}
    module = ["server"] if without is None else ["tests.crash.crippled", without]
    socket = parse_qs(urlsplit(stack.database_url).query)["host"][0] + "/.s.PGSQL.5432"
    for server in stack.servers:
        database, daily = network.link_to_socket(socket), network.link_to_port(stack.ports.daily)
        links[server.name] = [database, daily]
        settings = {
            "DATABASE_URL": f"postgresql://postgres@{HOST}:{database.port}/postgres",
            "DAILY_API_URL": f"http://{HOST}:{daily.port}/v1",
            **plan.LIFETIMES,
        }
        changed = [f"LIVE_SESSIONS_{name}={value}" for name, value in settings.items()]
        server.kill()
        server.command = ["env", *changed, sys.executable, "-m", *module]
        server.spawn()
    for server in stack.servers:
        server.wait_ready()
    return links


def _prepare(daily: httpx.Client, chosen: plan.Plan) -> None:
    daily.post("/sandbox/settings", json=chosen.daily).raise_for_status()
    for odd in ODD:
        daily.post("/sandbox/odd", json=odd).raise_for_status()


def _obeyed(stack: Stack, daily: httpx.Client, workload: Workload, say: Callable[[str], None]) -> list[Violation]:
    """What is still wrong in classes that go on, when all that was asked for should have reached them."""
    end = time.monotonic() + OBEYED
    while True:
        found = checker.check(facts.read(stack, daily, workload.journal), checker.WHILE_OPEN)
        if not found or time.monotonic() > end:
            return found
        say("while classes go on: " + ", ".join(str(one) for one in found[:3]))
        time.sleep(2)


def _settle(
    stack: Stack, daily: httpx.Client, workload: Workload, bound: float, say: Callable[[str], None]
) -> tuple[list[Violation], Facts, float]:
    """Looks until nothing is wrong, then once more; or until the bound is over."""
    started = time.monotonic()
    clean_since: float | None = None
    while True:
        known = facts.read(stack, daily, workload.journal)
        found, now = checker.check(known), time.monotonic()
        clean_since = None if found else clean_since or now
        if clean_since is not None and now - clean_since >= LOOK_AGAIN:
            return found, known, clean_since - started
        if found and now - started > bound:
            return found, known, now - started
        wrong = Counter(one.rule for one in found)
        say(
            f"{now - started:4.0f} s after the end: "
            + (", ".join(f"{wrong[rule]} {rule}" for rule in wrong) or "clean")
        )
        time.sleep(2)


def _everybody_leaves(daily: httpx.Client, workload: Workload) -> None:
    others = {other["room"] for other in workload.journal.others}
    for stay in daily.get("/sandbox/state").json()["connections"]:
        if stay["left_at"] is None and stay["room"] not in others:
            daily.post(f"/sandbox/rooms/{stay['room']}/leave", json={"session_id": stay["session_id"]})


def _seen(last: Facts) -> dict[str, int]:
    ours = {"sessions": last.sessions, "recordings": last.recordings, "stays": last.connections}
    ours |= {"participants": last.participants, "meetings": last.meetings, "events": last.events}
    at_daily = {f"{name} at Daily": last.state[name] for name in ("rooms", "recordings", "connections", "meetings")}
    sizes = {name: len(rows) for name, rows in (ours | at_daily).items()}
    statuses = Counter(str(one["status"]) for one in last.state["deliveries"])
    streams = [stream for one in last.journal.watched for stream in one.streams]
    watchers = {"watchers": len(last.journal.watched), "streams": len(streams)}
    watchers |= {"told": sum(len(stream.told) for stream in streams)}
    requests = {"requests to Daily": sum(last.state["calls"].values())}
    requests |= {"requests refused by its limits": sum(last.state["refused"].values())}
    return (
        sizes
        | watchers
        | requests
        | {f"of the last 1000 events: {status}": count for status, count in statuses.items()}
    )


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
            dealt = ", ".join(f"{count} {name}" for name, count in sorted(self._killer.dealt.items()))
            self._say(f"{time.monotonic() - started:4.0f} s: {done} operations; {dealt or 'no blow yet'}")
