"""Our server with a statement for each call: `python -m benchmarks.unbatched`, set up as `python -m server` is."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import server.__main__
import storage.store


class Unbatched:
    """In the place of storage's Batcher: as many batches as calls."""

    def __init__(self, run: Callable[[list[Any]], Awaitable[Sequence[Any]]], *_: Any, **__: Any) -> None:
        self._run = run

    async def __call__(self, item: Any) -> Any:
        [result] = await self._run([item])
        return result


if __name__ == "__main__":
    storage.store.Batcher = Unbatched  # type: ignore[attr-defined,assignment]
    sys.exit(server.__main__.main())
