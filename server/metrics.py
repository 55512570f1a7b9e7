"""What Prometheus is told of this process, and of what waits in the database. No user, room or secret stands in a
label, and no label takes its values from outside.

They are counted whether anybody asks or not, which costs a call some microseconds. Only here is Prometheus known."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from functools import cache
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.batching import MAX_SIZE
from storage.errors import StorageDefect, StorageError
from storage.queue import Waiting
from storage.store import Store

REGISTRY = CollectorRegistry()
for collector in (ProcessCollector, PlatformCollector, GCCollector):
    collector(registry=REGISTRY)
disable_created_metrics()  # type: ignore[no-untyped-call]

Kind = Literal[
    "end",
    "closing",
    "abandoned create",
    "rule",
    "start",
    "recording",
    "recording to stop again",
    "recording after the end",
    "room",
    "meeting",
    "untold meeting",
    "webhook",
]
"""Of what upkeep does; the log's lines have the same."""
Tried = Literal["delivered", "put_off", "given_up"]
UNARY, SERVER_STREAM = "unary", "server_stream"
PATIENCE = 2.0
"""Seconds that a scrape waits for what the database knows; without it, it has the rest."""
MOST_PENDING = 100_000
"""Deliveries that are counted; more are as bad."""
LOOK = 0.25
"""Seconds between looks at how late the event loop is."""

CALL = ("grpc_type", "grpc_service", "grpc_method")
STARTED = Counter("grpc_server_started", "Calls that have begun", CALL, registry=REGISTRY)
HANDLED = Counter("grpc_server_handled", "Calls that have ended", (*CALL, "grpc_code"), registry=REGISTRY)
HANDLING = Histogram(
    "grpc_server_handling_seconds",
    "From a call's beginning to its end",
    (*CALL, "grpc_code"),
    registry=REGISTRY,
    buckets=(1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DAILY_REQUESTS = Counter(
    "live_sessions_daily_requests", "Requests to Daily, each try for itself", ("endpoint", "outcome"), registry=REGISTRY
)
DAILY_SECONDS = Histogram(
    "live_sessions_daily_requests_seconds",
    "From a request to Daily to its answer",
    ("endpoint",),
    registry=REGISTRY,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
BUDGET_WAIT = Histogram(
    "live_sessions_daily_budget_wait_seconds",
    "What a request waited for its turn in the deployment's budget at Daily, or until no time was left",
    ("class",),
    registry=REGISTRY,
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DAILY_EVENTS = Counter(
    "live_sessions_daily_events",
    "Daily's events: received or refused at the door; later applied, ignored, put_off (each try) or given_up",
    ("type", "outcome"),
    registry=REGISTRY,
)
DAILY_EVENT_LAG = Histogram(
    "live_sessions_daily_event_lag_seconds",
    "From the time that an event names as its own to its receipt here",
    registry=REGISTRY,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)
DELIVERIES = Counter(
    "live_sessions_deliveries",
    "Webhooks to the back end, each try for itself: delivered, put_off (to be tried again) or given_up",
    ("outcome",),
    registry=REGISTRY,
)
REPAIRS = Counter(
    "live_sessions_repairs", "What upkeep has brought to its end or put right", ("kind",), registry=REGISTRY
)
for kind in get_args(Kind):  # an increase from nothing is one that Prometheus does not see
    REPAIRS.labels(kind)
for tried in get_args(Tried):
    DELIVERIES.labels(tried)
WATCHERS = Gauge("live_sessions_watchers", "Streams that follow a session", registry=REGISTRY)
LOOP_LAG = Histogram(
    "live_sessions_event_loop_lag_seconds",
    "By how much the event loop was late, four times a second",
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
INFO = Info(
    "live_sessions", "What runs: its version, the schema that it needs, and its settings' mark", registry=REGISTRY
)

BATCHES = ("live_sessions_batch_size", "Calls that shared a statement")
SIZES = (1, 2, 4, 8, 16, 32, 64, MAX_SIZE)


@cache
def started(type: str, service: str, method: str) -> Counter:
    return STARTED.labels(type, service, method)


@cache
def handled(type: str, service: str, method: str, code: str) -> tuple[Counter, Histogram]:
    """One more, and the seconds that it took."""
    return HANDLED.labels(type, service, method, code), HANDLING.labels(type, service, method, code)


def repaired(kind: Kind) -> None:
    REPAIRS.labels(kind).inc()


def daily_event(type: str, outcome: str, events: int = 1) -> None:
    DAILY_EVENTS.labels(type, outcome).inc(events)


def delivery(outcome: Tried) -> None:
    DELIVERIES.labels(outcome).inc()


@asynccontextmanager
async def exposed(address: str, store: Store) -> AsyncIterator[int]:
    """Answers Prometheus at host:port while inside, on a thread, so that it hears even of a loop that stands still. The
    port; raises OSError."""
    host, _, port = address.rpartition(":")
    waiting = _Database(store, asyncio.get_running_loop())
    server, _ = start_http_server(int(port), host.strip("[]"), REGISTRY)
    REGISTRY.register(waiting)
    lag = asyncio.create_task(_watch_loop())
    try:
        yield server.server_port
    finally:
        lag.cancel()
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        REGISTRY.unregister(waiting)


async def _watch_loop() -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK)
        LOOP_LAG.observe(max(0.0, time.monotonic() - began - LOOK))


class _Database(Collector):
    """What the storage knows, read when it is asked for."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop = store, loop

    def collect(self) -> Iterable[Metric]:
        yield _batches(self._store)
        yield _connections(self._store)
        asked = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            waiting, unapplied, pending = asked.result(PATIENCE)
        except (StorageError, StorageDefect, TimeoutError, CancelledError):  # a defect: the schema is not there yet
            asked.cancel()
            return
        yield from _due(waiting)
        yield GaugeMetricFamily("live_sessions_inbox_unapplied", "Daily's events that are not applied", unapplied)
        yield GaugeMetricFamily(
            "live_sessions_deliveries_pending", "Webhooks to the back end that are to be sent", pending
        )

    async def _read(self) -> tuple[list[Waiting], int, int]:
        async with self._store.statement() as tx:
            return await tx.queue.waiting(), await tx.inbox.unapplied(), await tx.deliveries.pending(MOST_PENDING)


def _batches(store: Store) -> Metric:
    family = HistogramMetricFamily(*BATCHES, labels=["batch"])
    for batch, sizes in store.batches().items():
        buckets = [(str(float(top)), sum(n for size, n in sizes.items() if size <= top)) for top in SIZES]
        calls = sum(size * n for size, n in sizes.items())
        family.add_metric([batch], [*buckets, ("+Inf", sizes.total())], calls)
    return family


def _connections(store: Store) -> Metric:
    family = GaugeMetricFamily(
        "live_sessions_database_connections", "Open connections to PostgreSQL", labels=["pool", "state"]
    )
    for pool, (in_use, idle) in store.connections().items():
        family.add_metric([pool, "in_use"], in_use)
        family.add_metric([pool, "idle"], idle)
    return family


def _due(waiting: list[Waiting]) -> Iterator[Metric]:
    """Of the whole deployment: each process tells the same."""
    due = GaugeMetricFamily("live_sessions_upkeep_due", "What is due and not done", labels=["kind"])
    oldest = GaugeMetricFamily(
        "live_sessions_upkeep_oldest_due_seconds", "Since when the oldest of it is due", labels=["kind"]
    )
    for line in waiting:
        due.add_metric([line.line], line.items)
        oldest.add_metric([line.line], line.seconds)
    yield due
    yield oldest
