"""The only place that constructs things: start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from server import upkeep
from server.daily.client import RATES, Daily
from server.rpc import convert
from server.rpc.auth import Authenticator
from server.rpc.servicer import Servicer
from server.rpc.serving import serving
from server.settings import Settings
from server.upkeep.webhook import PATH, Webhook
from server.usecases.rules import Lifetimes
from server.usecases.service import Service
from server.usecases.watching import Watching
from server.works import Works
from storage.store import Store

GARBAGE = 20_000
"""Objects that may pile up before the collector looks for cycles. Calls in flight need more than its own 700: it would
look all the time, and find nothing."""


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[Service]:
    """What calls and upkeep work with; in the end, what is under way is finished."""
    store = Store(settings.database_url.get_secret_value(), RATES)
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
    """Until SIGTERM or SIGINT; then calls in flight finish. Raises CannotListen."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with service(settings) as parts:
        watching = Watching(parts.store, convert.event)
        servicer = Servicer(parts, watching, webhook_secret(settings), settings.daily_max_participants)
        async with serving(servicer, authenticator(settings), settings.grpc_address, end_streams=watching.end):
            keeping = asyncio.create_task(upkeep.run(parts, webhook(settings)))
            gc.freeze()  # what is there by now stays, and need not be looked at
            gc.set_threshold(GARBAGE)
            await stopping.wait()
            keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


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
