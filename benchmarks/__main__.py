"""`make bench`: measures all side by side, prints one table, writes .bench/latest.json; 1 when a target is missed.

Slices of about two seconds alternate between the targets of a case, in an order that turns with every round, so that
what disturbs the machine disturbs all alike. Ratios are taken within a round, and their median counts."""

import argparse
import asyncio
import json
import signal
import sys
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import events, report, upkeep, watching
from benchmarks.cases import Callers, Case, Runner, callers, cases, joins, once
from benchmarks.data import STUDENTS
from benchmarks.events import Events
from benchmarks.figures import Figure, Slice, Slices, Target, figure, targets
from benchmarks.load import Load, LoadFailed, Result, http1
from benchmarks.meter import Meter, memory
from benchmarks.stage import Stage, seconds_to_start
from sandbox.ports import HOST
from sandbox.process import SandboxError

DIRECTORY = Path(".bench")
WARM_UP = 0.4
RUSH = 256
RUSH_ROUNDS = CROWD_ROUNDS = UPKEEP_ROUNDS = 2
STARTS = 3


def main() -> int:
    arguments = _arguments()
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C does: with everything stopped
    try:
        result = _measured(arguments)
    except (SandboxError, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    result.update(report.circumstances(arguments.rows, arguments.rounds, time.monotonic() - begin))
    (DIRECTORY / "latest.json").write_text(json.dumps(result, indent=1, default=vars, ensure_ascii=False) + "\n")
    print(report.text(result))
    return 0 if all(target["holds"] for target in result["targets"]) else 1


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upkeep and watching last, on stages of their own."""
    result: dict[str, Any] = {"memory": {}, "start": {}, "cases": [], "targets": []}
    if not arguments.only or any(not each.startswith(("upkeep", "watch")) for each in arguments.only):
        with Stage(DIRECTORY, arguments.rows, arguments.small_rows) as stage:
            result = uvloop.run(_Bench(stage, arguments).run())
    for name, measure in (("upkeep", upkeep.measure), ("watch", watching.measure)):
        if _wanted(name, arguments.only):
            found = measure(DIRECTORY, min(arguments.rounds, UPKEEP_ROUNDS))
            result |= found | {"targets": result["targets"] + found["targets"]}
    return result


class _Bench:
    def __init__(self, stage: Stage, arguments: argparse.Namespace) -> None:
        self._stage = stage
        self._rounds, self._seconds, self._only = arguments.rounds, arguments.seconds, arguments.only
        self._slices: Slices = {}
        self._missing_rows: int | None = None
        self._told: list[float] = []
        self._events = Events(stage.webhook_secret, stage.stack.grpc_targets[0])

    async def run(self) -> dict[str, Any]:
        who = callers(self._stage)
        at_rest = self._memory()
        for number in range(self._rounds):
            for case in cases(self._stage, who):
                if number < case.rounds and self._wanted(case.name):
                    await self._round(case, number)
            if number < RUSH_ROUNDS and self._wanted("rush"):
                await self._rush(who, number)
            if number < CROWD_ROUNDS and self._wanted("crowd"):
                self._told.append(await self._events.crowd(self._stage.data.new_class(), self._stage.data.url))
            print(f"round {number + 1} of {self._rounds}", file=sys.stderr)
        return {
            "memory": {"at rest": at_rest, "under load, at most": self._memory(peak=True)},
            "start": await asyncio.to_thread(self._starts) if self._wanted("start") else {},
            "cases": [_case(key, every) for key, every in self._slices.items()],
            "targets": [target.as_json() for target in self._targets()],
        }

    def _targets(self) -> list[Target]:
        return targets(self._slices, self._missing_rows, self._told)

    def _wanted(self, name: str) -> bool:
        return _wanted(name, self._only)

    async def _round(self, case: Case, number: int) -> None:
        for in_flight in case.in_flight:
            turn = number % len(case.runners)
            for runner in case.runners[turn:] + case.runners[:turn]:
                key = (case.name, in_flight, runner.who)
                try:
                    self._slices.setdefault(key, []).append(await self._slice(runner, in_flight, case.warm_up))
                except LoadFailed as failure:
                    raise LoadFailed(f"{case.name}, {in_flight} in flight, {runner.who}: {failure}") from None
                if case.leaves_work:
                    await asyncio.to_thread(events.finish, self._stage.data.url)

    async def _slice(self, runner: Runner, in_flight: int, warm_up: int) -> Slice:
        load = Load(runner.connect(in_flight), in_flight, runner.requests)
        await load.open()
        await load.run(WARM_UP, warm_up)
        async with self._beside(runner.events_beside):
            measured = await self._measure(load, runner.groups, self._seconds)
        load.close()
        return measured

    def _beside(self, events_per_second: int) -> AbstractAsyncContextManager[None]:
        if not events_per_second:
            return nullcontext()
        return self._events.stream(events_per_second, self._stage.data.new_class)

    async def _measure(self, load: Load, groups: tuple[str, ...], seconds: float = 1e9, total: int = 1 << 60) -> Slice:
        meter = Meter({name: pid for name, pid in self._stage.groups.items() if name in groups})
        meter.start()
        own = time.process_time()
        result = await load.run(seconds, total)
        own = time.process_time() - own
        return _slice(result, meter.seconds(), own)

    async def _rush(self, who: Callers, number: int) -> None:
        """Every student into one class, once."""
        missing = 0
        ways: list[tuple[str, int, tuple[str, ...]]] = [
            ("ours", self._stage.stack.ports.rest, ("server", "envoy", "postgres"))
        ]
        ways.insert(number % 2, ("peer", self._stage.peer_port, ("peer", "postgres")))
        for name, port, groups in ways:
            room = self._stage.data.new_class()
            load = Load(http1(HOST, port), RUSH, once(joins(room, who.students)))
            await load.open()
            measured = await self._measure(load, groups, total=STUDENTS)
            load.close()
            self._slices.setdefault(("rush", RUSH, name), []).append(measured)
            if name == "ours":
                missing = STUDENTS - self._stage.data.participants(room)
        self._missing_rows = max(missing, self._missing_rows or 0)

    def _memory(self, *, peak: bool = False) -> dict[str, float]:
        processes = ("server", "envoy", "peer", "bare")
        return {name: round(memory(self._stage.groups[name], peak=peak), 1) for name in processes}

    def _starts(self) -> dict[str, Figure]:
        """Seconds from the command to the first answer."""
        taken: dict[str, list[float]] = {"server": [], "peer": []}
        for _ in range(STARTS):
            taken["server"].append(seconds_to_start(self._stage.server("start", f"{HOST}:{self._stage.port()}")))
            taken["peer"].append(seconds_to_start(self._stage.new_peer("start-peer", self._stage.port())))
        return {name: figure(every) for name, every in taken.items()}


def _wanted(name: str, only: list[str] | None) -> bool:
    return not only or any(name.startswith(each) for each in only)


def _slice(result: Result, cpu: dict[str, float], own: float) -> Slice:
    n = result.requests
    return Slice(
        requests=n,
        failed=result.failed,
        rps=n / result.seconds,
        p50=result.percentile(0.5) * 1000,
        p99=result.percentile(0.99) * 1000,
        cpu={group: used / n * 1e6 for group, used in cpu.items()},
        generator_cpu=own / n * 1e6,
    )


def _case(key: tuple[str, int, str], every: list[Slice]) -> dict[str, object]:
    name, in_flight, who = key
    values = {what: figure(getattr(each, what) for each in every) for what in ("rps", "p50", "p99", "generator_cpu")}
    cpu = {group: figure(each.cpu[group] for each in every) for group in every[0].cpu}
    requests, failed = sum(each.requests for each in every), sum(each.failed for each in every)
    head = {"case": name, "in_flight": in_flight, "who": who, "requests": requests, "failed": failed}
    return head | values | {"own_cpu": figure(each.own_cpu for each in every), "cpu": cpu}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="sessions in the large database")
    parser.add_argument("--small-rows", type=int, default=10_000, help="sessions in the small one")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each slice")
    parser.add_argument("--only", action="append", metavar="CASE", help="cases whose names begin so")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
