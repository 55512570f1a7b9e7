"""Chores: what must be done once in the deployment, in the same queue as all else."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from server.upkeep.queue import Work
from server.usecases.service import Service
from storage.errors import StorageError
from storage.model import Chore
from storage.store import Transaction

logger = logging.getLogger(__name__)

KEEP_EVENTS = timedelta(days=30)
"""Daily's; each of a session's own says itself until when it is kept."""
FORGET = timedelta(minutes=10)
BATCH = 1000
"""Old events that one transaction removes at the most."""
NOT_OURS = timedelta(minutes=1)
RETRY = 5.0


async def add(service: Service, chores: list[str]) -> None:
    """Puts the chores into the queue, as soon as PostgreSQL can be asked."""
    while True:
        try:
            return await service.store.run(_add, chores)
        except StorageError as problem:
            logger.warning("chores cannot be added yet: %s", problem)
            await asyncio.sleep(RETRY)


async def _add(tx: Transaction, chores: list[str]) -> None:
    await tx.chores.add(chores)


async def do(chores: Mapping[str, Work], service: Service, chore: Chore, attempts: int) -> timedelta | None:
    """One that this process does not know of, or has no settings for, is left to another."""
    work = chores.get(chore.id)
    return NOT_OURS if work is None else await work(service, chore, attempts)


async def forget(service: Service, chore: Chore, attempts: int) -> timedelta:
    """Old events go, Daily's and those of sessions, some at a time."""
    removed = (await service.store.run(_forget), await service.store.events.forget(BATCH))
    return timedelta() if BATCH in removed else FORGET


async def _forget(tx: Transaction) -> int:
    return await tx.inbox.forget(KEEP_EVENTS, BATCH)
