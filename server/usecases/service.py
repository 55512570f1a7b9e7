"""What every use case works with."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from server.daily.client import Daily
from server.errors import ServiceError, Unavailable
from server.usecases.rules import Lifetimes
from server.works import Works
from storage.errors import StorageError
from storage.model import Recording, Session
from storage.queue import Line
from storage.store import Store, Transaction

T = TypeVar("T")

POLL_INTERVAL = 0.1
"""Seconds between looks at what another process is doing."""
RETRY = timedelta(seconds=2)
"""After which upkeep goes on with what a call could not finish."""


@dataclass(frozen=True, slots=True)
class Service:
    store: Store
    daily: Daily
    works: Works
    lifetimes: Lifetimes
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this process has put one of Daily's events into the inbox."""
    news_of_no_room: asyncio.Event = field(default_factory=asyncio.Event)
    """The same, of those that do not say which room they are about."""
    due: defaultdict[Line, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """Set when this process has made an item of the line due that should not wait for the next look."""

    async def see_through(self, verb: str, item: Session | Recording, work: Callable[[], Awaitable[T]]) -> T | None:
        """Does what a committed intent asks for, whoever still waits for it; upkeep goes on with what fails. None when
        somebody else had begun it and got no further: then it is to be asked for anew."""

        async def attempt() -> T:
            try:
                return await work()
            except (ServiceError, StorageError):
                with suppress(StorageError):
                    await self.store.run(_put_off, item)
                raise

        key = (verb, item.id)
        begun_before = key in self.works
        try:
            return await self.works.finish(key, attempt)
        except (Unavailable, StorageError):
            if begun_before:
                return None
            raise


async def _put_off(tx: Transaction, item: Session | Recording) -> None:
    await tx.queue.put_off(item, RETRY)
