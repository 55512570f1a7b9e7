"""Whether this process should be given calls: once it has found PostgreSQL as it needs it, and as long as it finds it.

In a deployment that cannot work (a wrong password, another schema) it is never ready, and says why. Having been ready,
it bears with a short absence, such as a failover's, and with any schema: the next version's may be there already."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from storage.errors import StorageDefect, StorageError, StorageUnsuitable
from storage.store import Store

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between looks."""
PATIENCE = 5.0
"""Seconds without PostgreSQL after which others should be given the calls."""
CLOCKS = 5.0
"""Seconds by which clocks may differ: tokens of callers and of Daily, whose times are this machine's, bear with it."""


class Readiness:
    def __init__(self, store: Store, revisions: list[str], tell: Callable[[bool], Awaitable[None]]) -> None:
        """`revisions` are those of the schema that this code knows, the one that it needs first; `tell` takes each
        change, beginning with the first time it is ready."""
        self.first = asyncio.Event()
        """Set when it is ready for the first time."""
        self._store, self._revisions, self._tell = store, revisions, tell
        self._is_ready = False
        self._good_at = 0.0
        self._complaint: str | None = None
        self._clocks_differ = False

    async def run(self) -> None:
        """Until cancelled. Raises StorageUnsuitable."""
        while True:
            complaint = await self._look()
            if complaint is None:
                await self._good()
            else:
                await self._bad(complaint)
            await asyncio.sleep(INTERVAL)

    async def _look(self) -> str | None:
        """What is wrong."""
        began = time.time()
        try:
            seen = await self._store.look()
            self._compare_clocks(began, seen.now.timestamp(), time.time())
            if self.first.is_set():
                return None
            if misfit := self._misfit(seen.revision):
                return misfit
            await self._store.take_hold()
        except StorageUnsuitable:
            raise
        except (StorageError, StorageDefect) as problem:
            return str(problem)
        return None

    async def _good(self) -> None:
        self._good_at = time.monotonic()
        self._complaint = None
        if not self._is_ready:
            self._is_ready = True
            logger.info("ready: PostgreSQL is as it should be")
            await self._tell(True)
            self.first.set()

    async def _bad(self, complaint: str) -> None:
        """One line for each cause, not for each look."""
        if self._is_ready and time.monotonic() - self._good_at < PATIENCE:
            return
        if complaint != self._complaint:
            logger.error("not ready: %s", complaint)
            self._complaint = complaint
        if self._is_ready:
            self._is_ready = False
            await self._tell(False)

    def _misfit(self, revision: str | None) -> str | None:
        needed, *older = self._revisions
        if revision == needed:
            return None
        if revision is None or revision in older:
            return f"the schema is {revision or 'missing'}, and {needed} is needed: run `migrate`"
        return f"the schema is {revision}, which is newer than this server, made for {needed}"

    def _compare_clocks(self, began: float, theirs: float, ended: float) -> None:
        """By what is beyond doubt: PostgreSQL looked at its clock some time between the two moments."""
        gap = max(began - theirs, theirs - ended, 0.0)
        if gap > CLOCKS and not self._clocks_differ:
            logger.warning("this machine's clock and PostgreSQL's differ by %.1f s", gap)
        self._clocks_differ = gap > CLOCKS
