"""Figures: what one slice of a run gave, several rounds of them with their median and spread, and what must hold."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

Key = tuple[str, int, str]
"""The case, how many in flight, and who."""


@dataclass(frozen=True)
class Slice:
    """What one target did in one round. CPU is in µs per request, by group; times are in ms."""

    requests: int
    failed: int
    rps: float
    p50: float
    p99: float
    cpu: dict[str, float]
    generator_cpu: float

    @property
    def server_cpu(self) -> float:
        """Of every server process; Envoy and PostgreSQL are apart."""
        return sum(used for group, used in self.cpu.items() if group not in ("envoy", "postgres"))

    @property
    def own_cpu(self) -> float:
        """Of every server process and of Envoy: PostgreSQL, which all share, is apart."""
        return sum(used for group, used in self.cpu.items() if group != "postgres")

    @property
    def whole_cpu(self) -> float:
        return sum(self.cpu.values())


Slices = dict[Key, list[Slice]]
Value = Callable[[Slice], float]


@dataclass(frozen=True)
class Figure:
    median: float
    min: float
    max: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        return f"{self.median:,.{digits}f} ({self.min:,.{digits}f}–{self.max:,.{digits}f})"


def figure(values: Iterable[float]) -> Figure:
    every = list(values)
    return Figure(median(every), min(every), max(every))


@dataclass(frozen=True)
class Target:
    """A ratio that must not be above its limit, or below it where more is better."""

    name: str
    figure: Figure
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.figure.median >= self.limit if self.at_least else self.figure.median <= self.limit

    def as_json(self) -> dict[str, Any]:
        relation = "at least" if self.at_least else "at most"
        return {"target": self.name, "must be": f"{relation} {self.limit}", **vars(self.figure), "holds": self.holds}


def server_cpu(slice: Slice) -> float:
    return slice.server_cpu


def own_cpu(slice: Slice) -> float:
    return slice.own_cpu


def whole_cpu(slice: Slice) -> float:
    return slice.whole_cpu


def rps(slice: Slice) -> float:
    return slice.rps


def p50(slice: Slice) -> float:
    return slice.p50


def p99(slice: Slice) -> float:
    return slice.p99


def ratio(slices: Slices, case: str, in_flight: int, value: Value, ours: str, other: str) -> Figure:
    """Of what was measured side by side, round by round."""
    pairs = zip(slices[case, in_flight, ours], slices[case, in_flight, other], strict=True)
    return figure(value(one) / value(two) for one, two in pairs)


# case, in flight, what, of whom, to whom, limit, whether it is a floor
LIMITS: list[tuple[str, int, str, Value, str, str, float, bool]] = [
    ("get-grpc", 256, "CPU", own_cpu, "ours", "bare", 1.4, False),
    ("get-grpc", 1, "latency", p50, "ours", "unbatched", 1.1, False),
    ("get-rest", 64, "CPU with Envoy", own_cpu, "ours", "peer", 0.5, False),
    ("get-rest", 256, "CPU with Envoy", own_cpu, "ours", "peer", 0.5, False),
    ("get-rest", 64, "throughput", rps, "ours", "peer", 2, True),
    ("get-rest", 256, "throughput", rps, "ours", "peer", 2, True),
    ("get-rest", 1, "CPU with Envoy", own_cpu, "ours", "peer", 1, False),
    ("get-rest", 1, "latency", p50, "ours", "peer", 1, False),
    ("token-rest", 1, "server CPU", server_cpu, "ours", "peer", 0.5, False),
    ("token-rest", 16, "server CPU", server_cpu, "ours", "peer", 0.5, False),
    ("token-rest", 256, "server CPU", server_cpu, "ours", "peer", 0.5, False),
    ("rush", 256, "p99", p99, "ours", "peer", 0.5, False),
    ("list-1000-rest", 1, "server CPU", server_cpu, "ours", "peer", 0.3, False),
    ("list-1000-rest", 16, "server CPU", server_cpu, "ours", "peer", 0.3, False),
    ("list-1000-rest", 256, "server CPU", server_cpu, "ours", "peer", 0.3, False),
    ("get-rest", 256, "CPU with Envoy", own_cpu, "ours", "express", 1.3, False),
    ("token-rest", 256, "CPU with Envoy", own_cpu, "ours", "express", 0.5, False),
    ("list-1000-rest", 256, "CPU with Envoy", own_cpu, "ours", "express", 1.2, False),
    *(
        (case, in_flight, what, value, "ours", "ours, small", 1.15, False)
        for case, busy in (("growth-get", 64), ("growth-list-10", 64), ("growth-list-1000", 16))
        for in_flight, what, value in (
            (1, "latency", p50),
            (busy, "CPU with PostgreSQL", whole_cpu),
        )
    ),
    # More events than the joins of 10,000 within 30 s.
    ("get-beside-events", 64, "p99", p99, "ours, 500 events/s beside", "ours", 1.3, False),
]


# case, in flight, of whom, what, limit, whether it is a floor
BOUNDS: list[tuple[str, int, str, str, Value, float, bool]] = [
    ("events-grpc", 64, "ours", "accepted/s", rps, 2000, True),
    ("events-grpc", 64, "ours", "p99 ms", p99, 100, False),
]


def targets(slices: Slices, missing_rows: int | None, told: list[float]) -> list[Target]:
    """Of the cases that ran. `missing_rows`: how many of the rush's students were left out; `told`: the seconds until
    a crowd's joins were."""
    found = [
        Target(
            f"{case}, {n} in flight: {what}, {ours} / {other}", ratio(slices, case, n, value, ours, other), limit, floor
        )
        for case, n, what, value, ours, other, limit, floor in LIMITS
        if (case, n, ours) in slices and (case, n, other) in slices
    ]
    found += [
        Target(f"{case}, {n} in flight: {what}", figure(map(value, slices[case, n, who])), limit, floor)
        for case, n, who, what, value, limit, floor in BOUNDS
        if (case, n, who) in slices
    ]
    if told:
        found.append(Target("crowd: s until 10,000 joins of one class are told", figure(told), 30))
    if missing_rows is not None:
        found.append(Target("rush: students without their row", figure([missing_rows]), 0))
    failed = sum(each.failed for (_, _, who), every in slices.items() if who.startswith("ours") for each in every)
    return [*found, Target("requests of ours that failed", figure([failed]), 0)]
