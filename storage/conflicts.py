"""What PostgreSQL undid for the sake of another transaction is done again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from storage.errors import StorageConflict

REPEATS = 5

T = TypeVar("T")


async def repeated(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of the first attempt that nobody stood in the way of. Raises StorageConflict after the last."""
    for number in range(1, REPEATS):
        try:
            return await attempt()
        except StorageConflict:
            await asyncio.sleep(random.uniform(0, 0.02 * 2**number))  # noqa: S311 - no secret
    return await attempt()
