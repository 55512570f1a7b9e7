"""The gRPC server: its options, health and reflection; serving from the first call to the drained last one."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer, add_LiveSessionsServicer_to_server
from server.rpc.auth import Authenticator
from server.rpc.interceptors import Interceptor
from server.rpc.methods import SERVICE
from server.rpc.open_services import add_open_services

logger = logging.getLogger(__name__)

READY, NOT_READY = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
HEALTH_INTERVAL = 2.0
"""Seconds in which Envoy learns that we take no more calls."""
QUIET, PATIENCE = 0.5, 5.0
"""Seconds without a call after which none is on its way, and those in which that must come: who looks at no health
goes on calling."""
GRACE = 15.0
"""Seconds that calls in flight get to finish: longer than any call may take."""
OPTIONS = [
    # A second server on the port must fail to start, not take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 2 << 20),
    # More than the 60 KiB of headers that Envoy admits, such as a browser's cookies: gRPC's own limit, 8 KiB, would
    # refuse those calls with RESOURCE_EXHAUSTED and name the headers.
    ("grpc.max_metadata_size", 128 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
    # Calls that wait to be taken: gRPC would cancel those of a burst from the 1,000th on. All are taken, and those
    # beyond MAX_CALLS refused with RESOURCE_EXHAUSTED.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # Clients may keep idle connections alive, and are moved on now and then, so that new servers get their share.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Streams that are open then go on, on the old connection, and end by themselves within an hour.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 3_660_000),
    # Of a stream's client that has vanished, nothing else would tell.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
]


class CannotListen(Exception):
    pass


@asynccontextmanager
async def serving(
    servicer: LiveSessionsServicer,
    authenticator: Authenticator,
    address: str,
    end_streams: Callable[[], None] = lambda: None,
) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """Takes calls inside, and is told whether it should be given any, which it should not at first; at its end streams
    are told to end, and calls in flight finish. Raises CannotListen."""
    interceptor = Interceptor(authenticator)
    server = grpc.aio.server(interceptors=[interceptor], options=OPTIONS)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_tells_of_a_defect)
    with generic_handlers_only(server):
        add_LiveSessionsServicer_to_server(servicer, server)
        checks = add_open_services(server)
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise CannotListen(f"cannot listen on {address}") from None

    async def set_ready(is_ready: bool) -> None:
        """The service's own health, which Envoy and probes of readiness ask for by its name. That of the process, which
        has none, is SERVING until it drains: nobody should restart it for what is not its fault."""
        await checks.set(SERVICE, READY if is_ready else NOT_READY)

    await set_ready(False)
    await server.start()
    logger.info("serving on %s", address)
    yield set_ready
    logger.info("draining")
    await checks.enter_graceful_shutdown()
    end_streams()
    await asyncio.sleep(HEALTH_INTERVAL)
    await _quiet(interceptor)
    await server.stop(GRACE)
    logger.info("stopped")


async def _quiet(interceptor: Interceptor) -> None:
    """gRPC answers CANCELLED to a call that comes in the moment of `stop`, and nobody may repeat it: let none come."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                since = time.monotonic() - interceptor.last_call
                if since > QUIET:
                    return
                await asyncio.sleep(QUIET - since)


def _tells_of_a_defect(record: logging.LogRecord) -> bool:
    """gRPC's own logger has an error and a traceback for each client that is gone before its answer, and for each
    header that is not UTF-8, which it prints whole, be it a token."""
    return not record.msg.startswith(("ExecuteBatchError raised in core", "Invalid encoding on"))


@contextlib.contextmanager
def generic_handlers_only(server: Any) -> Any:
    """grpc.aio waits over one future per registered method for every call it accepts; generic handlers alone are enough
    (github.com/grpc/grpc/pull/41796)."""
    registered = server.add_registered_method_handlers
    server.add_registered_method_handlers = lambda *_: None
    yield
    server.add_registered_method_handlers = registered
