"""The gRPC server: its options, health and reflection; serving from the first call to the drained last one."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer, add_LiveSessionsServicer_to_server
from server.rpc.auth import Authenticator
from server.rpc.interceptors import Interceptor
from server.rpc.methods import SERVICE

logger = logging.getLogger(__name__)

HEALTH_INTERVAL = 2.0
"""Seconds in which Envoy learns that we take no more calls."""
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
    # Clients may keep idle connections alive, and are moved on now and then, so that new servers get their share.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 15_000),
]


class CannotListen(Exception):
    pass


@asynccontextmanager
async def serving(servicer: LiveSessionsServicer, authenticator: Authenticator, address: str) -> AsyncIterator[None]:
    """Takes calls inside; at its end calls in flight finish. Raises CannotListen."""
    server = grpc.aio.server(interceptors=[Interceptor(authenticator)], options=OPTIONS)
    checks = HealthServicer()
    with generic_handlers_only(server):
        add_LiveSessionsServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise CannotListen(f"cannot listen on {address}") from None
    await checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)  # clients that balance ask for it by name
    await server.start()
    logger.info("serving on %s", address)
    yield
    logger.info("draining")
    await checks.enter_graceful_shutdown()
    await asyncio.sleep(HEALTH_INTERVAL)
    await server.stop(GRACE)
    logger.info("stopped")


@contextlib.contextmanager
def generic_handlers_only(server: Any) -> Any:
    """grpc.aio waits over one future per registered method for every call it accepts; generic handlers alone are enough
    (github.com/grpc/grpc/pull/41796)."""
    registered = server.add_registered_method_handlers
    server.add_registered_method_handlers = lambda *_: None
    yield
    server.add_registered_method_handlers = registered
