"""The only place that constructs things: start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from live_sessions.v1 import service_pb2
from live_sessions.v1.service_pb2_grpc import add_LiveSessionsServicer_to_server
from server.daily.client import Daily
from server.rpc.auth import Authenticator
from server.rpc.interceptors import Interceptor
from server.rpc.servicer import Servicer
from server.settings import Settings
from server.upkeep.reconciler import Reconciler
from storage.store import Store

logger = logging.getLogger(__name__)

SERVICE = service_pb2.DESCRIPTOR.services_by_name["LiveSessions"].full_name
HEALTH_INTERVAL = 2.0
"""Seconds in which Envoy learns that we take no more calls."""
GRACE = 15.0
"""Seconds that calls in flight get to finish: longer than any call may take."""
GARBAGE = 20_000
"""Objects that may pile up before the collector looks for cycles. Calls in flight need more than its own 700: it would
look all the time, and find nothing."""
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
async def dependencies(settings: Settings) -> AsyncIterator[tuple[Store, Daily]]:
    store = Store(settings.database_url.get_secret_value())
    daily = Daily(settings.daily_api_url, settings.daily_api_key.get_secret_value())
    try:
        yield store, daily
    finally:
        await daily.close()
        await store.close()


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; then calls in flight finish. Raises CannotListen."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with dependencies(settings) as (store, daily):
        server, checks = _server(settings, store, daily)
        await checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)  # clients that balance ask for it by name
        await server.start()
        reconciling = asyncio.create_task(Reconciler(store, daily).run(_webhook(settings)))
        gc.freeze()  # what is there by now stays, and need not be looked at
        gc.set_threshold(GARBAGE)
        logger.info("serving on %s", settings.grpc_address)
        await stopping.wait()
        await _drain(server, checks, reconciling)


def authenticator(settings: Settings) -> Authenticator:
    return Authenticator(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwt_jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


def _server(settings: Settings, store: Store, daily: Daily) -> tuple[grpc.aio.Server, HealthServicer]:
    server = grpc.aio.server(interceptors=[Interceptor(authenticator(settings))], options=OPTIONS)
    secret = settings.daily_webhook_secret
    servicer = Servicer(store, daily, None if secret is None else secret.get_secret_value())
    with generic_handlers_only(server):
        add_LiveSessionsServicer_to_server(servicer, server)
        checks = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        server.add_insecure_port(settings.grpc_address)
    except RuntimeError:
        raise CannotListen(f"cannot listen on {settings.grpc_address}") from None
    return server, checks


@contextlib.contextmanager
def generic_handlers_only(server: Any) -> Any:
    """grpc.aio waits over one future per registered method for every call it accepts; generic handlers alone are enough
    (github.com/grpc/grpc/pull/41796)."""
    registered = server.add_registered_method_handlers
    server.add_registered_method_handlers = lambda *_: None
    yield
    server.add_registered_method_handlers = registered


def _webhook(settings: Settings) -> tuple[str, str] | None:
    if settings.daily_webhook_secret is None or settings.public_url is None:
        return None
    return settings.daily_webhook_secret.get_secret_value(), settings.public_url


async def _drain(server: grpc.aio.Server, checks: HealthServicer, reconciling: asyncio.Task[None]) -> None:
    logger.info("draining")
    reconciling.cancel()
    await checks.enter_graceful_shutdown()
    await asyncio.sleep(HEALTH_INTERVAL)
    await server.stop(GRACE)
    with contextlib.suppress(asyncio.CancelledError):
        await reconciling
    logger.info("stopped")
