"""Finishes what a crash or a lost event left: one leader among all processes compares our rows with Daily, for ever."""

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

from server.daily.client import Daily
from server.errors import ServiceError
from server.upkeep.repairs import Repair, differences
from server.usecases import webhooks
from storage.errors import StorageError
from storage.store import Store

logger = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two passes."""
PACE = 0.5
"""Seconds between two repairs: Daily takes two deletions a second."""
LOOK_BACK = timedelta(hours=24)
"""How far a new leader reads Daily's records of meetings; later passes overlap by OVERLAP."""
OVERLAP = timedelta(minutes=5)
KEEP_EVENTS = timedelta(days=30)


class Reconciler:
    def __init__(self, store: Store, daily: Daily) -> None:
        self._store = store
        self._daily = daily
        self._repaired: Counter[str] = Counter()
        self._meetings_since = datetime.now(UTC) - LOOK_BACK

    async def run(self, webhook: tuple[str, str] | None) -> None:
        """Until cancelled. `webhook` (secret, public URL) is kept active at Daily."""
        while True:
            try:
                async with self._store.leadership() as leads:
                    while await leads():
                        await self._one_pass(webhook)
                        await asyncio.sleep(INTERVAL)
            except (ServiceError, StorageError) as problem:
                logger.warning("reconciler pass ended early: %s", problem)
            except Exception:
                logger.exception("reconciler pass failed")
            await asyncio.sleep(INTERVAL)

    async def _one_pass(self, webhook: tuple[str, str] | None) -> None:
        if webhook is not None:
            await self._reactivate(*webhook)
        started = datetime.now(UTC)
        async for repair in differences(self._store, self._daily, self._meetings_since):
            await self.repair(repair)
        self._meetings_since = started - OVERLAP
        async with self._store.statement() as tx:
            await tx.inbox.forget(KEEP_EVENTS)

    async def repair(self, repair: Repair) -> None:
        try:
            if await repair.apply() is False:
                return
        except ServiceError as problem:
            logger.warning("not repaired kind=%s room=%s: %s", repair.kind, repair.room_name, problem)
            return
        self._repaired[repair.kind] += 1
        logger.warning(
            "repaired kind=%r room=%s reason=%r total=%d",
            repair.kind,
            repair.room_name,
            repair.reason,
            self._repaired[repair.kind],
        )
        if repair.calls_daily:
            await asyncio.sleep(PACE)

    async def _reactivate(self, secret: str, public_url: str) -> None:
        for webhook in await self._daily.webhooks():
            if webhook.get("state") == "FAILED":
                await webhooks.register(self._daily, secret, public_url)
                logger.warning("re-activated Daily's webhook")
