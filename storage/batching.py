"""Natural batching: calls that come while others come share one statement, and a lone call waits for nobody.

A batch is collected until the one before it has been answered and the event loop has gone quiet, which is when the
batch has not grown for some turns of the loop: started at once, it would hold one or two calls, for the loop answers
PostgreSQL before it has read the calls that wait in its sockets. A timer only guards against a statement that is late,
and lets calls that nobody waits for come together, such as events that Daily sends.
Nothing is kept: every call is answered by a statement that began after it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Generic, TypeVar

from storage.errors import StorageError, StorageUnavailable
from storage.spans import Span, no_span

QUIET_TURNS = 40
LONELY, LONELY_TURNS = 8, 2
"""The turns after so many batches of one, which were most likely calls that nobody came with: forty cost one 30 µs."""
MAX_SIZE = 100
ENOUGH = 16
"""Calls that have come together: they wait for no further ones."""
MAX_RUNNING = 2
PATIENCE = 0.02
"""Seconds after which a statement that is still under way holds up the next batch no more."""
TIME_LIMIT = 3.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """`run` takes the items of a batch and returns one result for each, in their order. A batch's span is part of the
    call that began it."""

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        span: Span = no_span,
        name: str = "",
        linger: float = 0.0,
    ) -> None:
        """With `linger`, a batch waits for so many seconds until enough calls have come."""
        self._run = run
        self._span, self._name = span, name
        self._linger = linger
        self.sizes: Counter[int] = Counter()
        """How many batches there were of each size."""
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._enough = asyncio.Event()
        self._alone = LONELY
        self._collecting: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Result:
        """The item's own result. Raises StorageUnavailable, StorageOverloaded."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._waiting) == ENOUGH:
            self._enough.set()
        if self._collecting is None:
            self._collecting = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        """One batch, from its first call to its answers."""
        if self._running:
            patience = PATIENCE if len(self._running) < MAX_RUNNING else None
            await asyncio.wait(self._running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self._linger:
            await self._wait_for_enough()
        await self._quiet()
        batch, self._waiting = self._waiting[:MAX_SIZE], self._waiting[MAX_SIZE:]
        self.sizes[len(batch)] += 1
        self._alone = 0 if len(batch) > 1 else self._alone + 1
        running, self._collecting = self._collecting, None
        assert running is not None
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        if self._waiting:
            self._collecting = asyncio.create_task(self._serve(), context=Context())  # it is no part of this call
        with self._span(self._name, {"batch.size": len(batch)}):
            await self._answer(batch)

    async def _wait_for_enough(self) -> None:
        if len(self._waiting) >= ENOUGH:
            return
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._linger):
                await self._enough.wait()

    async def _quiet(self) -> None:
        quiet = asyncio.get_running_loop().create_future()
        self._look(quiet, LONELY_TURNS if self._alone >= LONELY else QUIET_TURNS, 0, 0)
        await quiet

    def _look(self, quiet: asyncio.Future[None], enough: int, size: int, turns: int) -> None:
        """Once in each turn of the loop; as a callback, for a coroutine would cost each turn half as much again."""
        grown, size = len(self._waiting) != size, len(self._waiting)
        turns = 0 if grown else turns + 1
        if turns < enough and size < MAX_SIZE:
            quiet.get_loop().call_soon(self._look, quiet, enough, size, turns)
        elif not quiet.done():
            quiet.set_result(None)

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
