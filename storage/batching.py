"""Natural batching: calls that come while others come share one statement, and a lone call waits for nobody.

There is no timer. A batch is collected until the event loop has gone quiet, which is when the batch has not grown for
some turns of the loop: started at once, it would hold one or two calls, for the loop answers PostgreSQL before it has
read the calls that wait in its sockets. Nothing is kept: every call is answered by a statement that began after it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from storage.errors import StorageError, StorageUnavailable

QUIET_TURNS = 40
LONELY_TURNS = 2
"""The turns after a batch of one, which was most likely a call that nobody came with: each turn costs 10 to 20 µs."""
MAX_SIZE = 500
LANES = 2
"""Batches in flight at once; one that is stuck leaves a way around it."""
TIME_LIMIT = 3.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """`run` takes the items of a batch and returns one result for each, in their order."""

    def __init__(self, run: Callable[[list[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._run = run
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._collecting = False
        self._quiet_turns = LONELY_TURNS
        self._lanes: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Result:
        """The item's own result. Raises StorageUnavailable, StorageOverloaded."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._collecting and len(self._lanes) < LANES:
            self._open_lane()
        return await future

    def _open_lane(self) -> None:
        self._collecting = True
        lane = asyncio.create_task(self._serve())
        self._lanes.add(lane)
        lane.add_done_callback(self._lanes.discard)

    async def _serve(self) -> None:
        """Collects and runs batches while there are any; another lane collects while this one waits for PostgreSQL."""
        while self._waiting:
            await self._quiet()
            batch, self._waiting = self._waiting[:MAX_SIZE], self._waiting[MAX_SIZE:]
            self._collecting = False
            self._quiet_turns = QUIET_TURNS if len(batch) > 1 else LONELY_TURNS
            await self._answer(batch)
            if self._collecting:
                return
            self._collecting = True
        self._collecting = False

    async def _quiet(self) -> None:
        turns = size = 0
        while turns < self._quiet_turns and len(self._waiting) < MAX_SIZE:
            await asyncio.sleep(0)
            turns = turns + 1 if len(self._waiting) == size else 0
            size = len(self._waiting)

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        """Answers all, whatever happens: neither a call that was cancelled nor one that fails harms the others."""
        try:
            async with asyncio.timeout(TIME_LIMIT):
                results = await self._run([item for item, _ in batch])
        except (StorageError, TimeoutError) as problem:
            error = problem if isinstance(problem, StorageError) else StorageUnavailable("the batch took too long")
            _fail(batch, error)
        except Exception as problem:
            if len(batch) == 1:
                _fail(batch, problem)
            else:
                for one in batch:
                    await self._answer([one])
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: Sequence[tuple[object, asyncio.Future[Result]]], problem: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(problem)
