"""What several ask for at one time is done once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from server import deadline

Result = TypeVar("Result")


class Sharing:
    def __init__(self) -> None:
        self._under_way: dict[Hashable, tuple[asyncio.Task[Any], list[None]]] = {}

    async def __call__(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result, or the error, of the work that is under way under this key. It has the time of a whole call, and
        each who waits for it their own. Who is cancelled leaves the others undisturbed; the last one ends the work."""
        task, waiting = self._under_way.get(key) or self._begin(key, work)
        waiting.append(None)
        try:
            result: Result = await asyncio.shield(task)
            return result
        finally:
            waiting.pop()
            if not waiting and not task.done():
                self._forget(key, task)
                task.cancel()

    def _begin(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> tuple[asyncio.Task[Result], list[None]]:
        async def timed() -> Result:
            async with deadline.begin(None):
                return await work()

        task = asyncio.create_task(timed())
        task.add_done_callback(lambda done: self._forget(key, done))
        self._under_way[key] = task, []
        return task, self._under_way[key][1]

    def _forget(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if key in self._under_way and self._under_way[key][0] is task:
            del self._under_way[key]
