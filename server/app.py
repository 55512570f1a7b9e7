"""The only place that constructs things: start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.daily.client import Daily
from server.rpc.auth import Authenticator
from server.rpc.servicer import Servicer
from server.rpc.serving import serving
from server.settings import Settings
from server.upkeep.reconciler import Reconciler
from storage.store import Store

GARBAGE = 20_000
"""Objects that may pile up before the collector looks for cycles. Calls in flight need more than its own 700: it would
look all the time, and find nothing."""


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
        servicer = Servicer(store, daily, _webhook_secret(settings))
        async with serving(servicer, authenticator(settings), settings.grpc_address):
            reconciling = asyncio.create_task(Reconciler(store, daily).run(_webhook(settings)))
            gc.freeze()  # what is there by now stays, and need not be looked at
            gc.set_threshold(GARBAGE)
            await stopping.wait()
            reconciling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reconciling


def authenticator(settings: Settings) -> Authenticator:
    return Authenticator(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwt_jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


def _webhook_secret(settings: Settings) -> str | None:
    secret = settings.daily_webhook_secret
    return None if secret is None else secret.get_secret_value()


def _webhook(settings: Settings) -> tuple[str, str] | None:
    secret = _webhook_secret(settings)
    return None if secret is None or settings.public_url is None else (secret, settings.public_url)
