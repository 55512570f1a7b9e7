"""The only place that constructs things: start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import hashlib
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

from server import metrics, tracing, upkeep
from server.daily.client import Daily
from server.daily.gateway import RATES
from server.readiness import Readiness
from server.receiver import Receiver
from server.rpc import convert, documents
from server.rpc.auth import Authenticator
from server.rpc.servicer import Servicer
from server.rpc.serving import CannotListen, serving
from server.settings import Settings, signing_keys, traces_are_wanted
from server.upkeep.deliveries import AT_ONCE, Backend
from server.upkeep.webhook import PATH, Webhook
from server.usecases.rules import Lifetimes
from server.usecases.service import Service
from server.usecases.watching import Watching
from server.works import Works
from storage import migrations
from storage.store import Store

logger = logging.getLogger(__name__)

VERSION = version("live-sessions")
GARBAGE = 2_000
"""Objects that may pile up before the collector looks for cycles, of which gRPC leaves one for each call. With its own
700 it would look through the calls in flight all the time; ten times as many are a pause of 5 ms for everybody."""


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[Service]:
    """What calls and upkeep work with; in the end, what is under way is finished."""
    deliver = settings.events_url is not None
    store = Store(settings.database_url.get_secret_value(), RATES, tracing.part, deliver=deliver)
    budgets = store.budgets
    daily = Daily(
        settings.daily_api_url,
        settings.daily_api_key.get_secret_value(),
        budgets,
        recall_domain=budgets.recall_domain,
        remember_domain=budgets.remember_domain,
    )
    works = Works()
    try:
        yield Service(store, daily, works, _lifetimes(settings))
    finally:
        await works.drain()
        await daily.close()
        await store.close()


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; then calls in flight finish. Raises CannotListen, StorageUnsuitable."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    _tell_what_runs(settings)
    async with _tracing(), backend(settings) as told, service(settings) as parts, _metrics(settings, parts):
        watching = Watching(parts.store, convert.event)
        servicer = Servicer(parts, watching, webhook_secret(settings), settings.daily_max_participants)
        async with serving(servicer, authenticator(settings), settings.grpc_address, watching.end) as set_ready:
            readiness = Readiness(parts.store, migrations.revisions(), set_ready)
            looking = asyncio.create_task(readiness.run())
            keeping = asyncio.create_task(_keep(parts, webhook(settings), told, readiness))
            gc.freeze()  # what is there by now stays, and need not be looked at
            gc.set_threshold(GARBAGE)
            await asyncio.wait([looking, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
            looking.cancel()
            keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def _keep(parts: Service, daily_webhook: Webhook | None, told: Backend | None, readiness: Readiness) -> None:
    """Upkeep, on no other tables than those that it knows."""
    await readiness.first.wait()
    await upkeep.run(parts, daily_webhook, told)


def _tell_what_runs(settings: Settings) -> None:
    """In the log, and as a metric, which has of the settings a mark that tells whether two processes have the same, but
    for their addresses."""
    schema, shown = migrations.revisions()[0], [f"{name}={value}" for name, value in settings.shown().items()]
    common = [each for each in shown if not each.startswith(("grpc_address=", "metrics_address="))]
    mark = hashlib.sha256(" ".join(common).encode()).hexdigest()[:8]
    logger.info("live-sessions %s, schema %s, settings %s: %s", VERSION, schema, mark, " ".join(shown))
    metrics.INFO.info({"version": VERSION, "schema": schema, "settings": mark})


@asynccontextmanager
async def _tracing() -> AsyncIterator[None]:
    if not traces_are_wanted():
        yield
        return
    try:
        from server import otel
    except ImportError:  # no reason to take no calls
        logger.warning("there are no traces: the extra `otel` is not installed")
        yield
        return
    async with otel.tracing_to_a_collector(VERSION):
        yield


@asynccontextmanager
async def _metrics(settings: Settings, parts: Service) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as exposed:
        if (address := settings.metrics_address) is not None:
            try:
                port = await exposed.enter_async_context(metrics.exposed(address, parts.store))
            except OSError:
                raise CannotListen(f"cannot listen on {address} for metrics") from None
            logger.info("metrics on port %d", port)
        yield


@asynccontextmanager
async def backend(settings: Settings) -> AsyncIterator[Backend | None]:
    """The product's, if it is to be told what happens."""
    if settings.events_url is None or settings.events_secret is None:
        yield None
        return
    receiver = Receiver(settings.events_url.get_secret_value(), signing_keys(settings.events_secret), AT_ONCE)
    try:
        yield Backend(receiver, documents.resource)
    finally:
        await receiver.close()


def authenticator(settings: Settings) -> Authenticator:
    return Authenticator(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwt_jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


def webhook_secret(settings: Settings) -> str | None:
    secret = settings.daily_webhook_secret
    return None if secret is None else secret.get_secret_value()


def webhook(settings: Settings) -> Webhook | None:
    secret = webhook_secret(settings)
    return None if secret is None or settings.public_url is None else Webhook(settings.public_url + PATH, secret)


def _lifetimes(settings: Settings) -> Lifetimes:
    def rule(seconds: int) -> timedelta | None:
        return timedelta(seconds=seconds) if seconds else None

    return Lifetimes(
        empty=rule(settings.empty_timeout),
        no_show=rule(settings.no_show_timeout),
        max_duration=rule(settings.max_duration),
        closing=rule(settings.closing_time),
    )
