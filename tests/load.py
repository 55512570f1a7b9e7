"""Callers that call without end, each in a thread of its own, and what became of their calls."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

PAUSE = 0.05


@dataclass(frozen=True)
class Outcome:
    """`said` is what the call returned; times are those of time.monotonic()."""

    who: str
    began: float
    ended: float
    said: object


class Load:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def between(self, began: float, ended: float) -> list[Outcome]:
        """Of the calls that lie in that time altogether."""
        return [each for each in self.outcomes if began <= each.began and each.ended <= ended]

    def last(self, who: str, count: int) -> list[object]:
        return [each.said for each in self.outcomes if each.who == who][-count:]


@contextmanager
def under_load(callers: Mapping[str, Callable[[], object]], pause: float = PAUSE) -> Iterator[Load]:
    """A call tells by what it returns how it went, and never raises. `pause` is each caller's between two calls."""
    load, over = Load(), Event()

    def keep_calling(who: str, call: Callable[[], object]) -> None:
        while not over.wait(pause):
            began = time.monotonic()
            said = call()
            load.outcomes.append(Outcome(who, began, time.monotonic(), said))

    threads = [Thread(target=keep_calling, args=each, daemon=True) for each in callers.items()]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
