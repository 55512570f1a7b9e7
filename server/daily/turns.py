"""Whose turn it is at one class of Daily's endpoints: the moments at which this process may send a request are leased
from the deployment's budget, and each goes to whom it matters most."""

import asyncio
import logging
from collections import deque
from enum import IntEnum
from itertools import count
from typing import Protocol

from server import deadline, metrics
from server.daily.errors import DailyUnavailable

logger = logging.getLogger(__name__)

AHEAD = 0.5
"""Seconds of turns that are leased at once: with more, what is urgent in one process would stand long behind what is
not in the others."""
LATE = 0.25
"""Seconds after which a turn that was missed is nobody's any more: other processes send by now."""
COMMIT_MARGIN = 0.3
"""Seconds of a call that Daily may not use up, so that its outcome can still be committed."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 8.0


class Priority(IntEnum):
    """What comes first when many wait."""

    STOP = 0
    START = 1
    CREATE = 2
    READ = 3
    UPKEEP = 4


class Budget(Protocol):
    """What Daily takes of the whole deployment, by class of endpoint."""

    async def reserve(self, endpoints: str, count: int, /) -> list[float]:
        """In how many seconds each of the next `count` requests may be sent."""

    async def pause(self, endpoints: str, seconds: float, /) -> None:
        """Nothing is to be sent for so long."""


class Turns:
    def __init__(self, endpoints: str, interval: float, budget: Budget) -> None:
        self._endpoints = endpoints
        self._budget = budget
        self._leased_at_once = max(1, int(AHEAD / interval))
        self._numbers = count()
        self._waiting: dict[tuple[Priority, int], asyncio.Future[None]] = {}
        self._turns: deque[float] = deque()
        self._leasing: asyncio.Task[None] | None = None
        self._paused_at = self._pause = 0.0

    async def wait(self, priority: Priority) -> float:
        """Until a request may be sent; the moment. Raises DailyUnavailable when no time is left for it, StorageError
        when the budget cannot be reached."""
        began = asyncio.get_running_loop().time()
        place = (priority, next(self._numbers))
        turn = self._waiting[place] = asyncio.get_running_loop().create_future()
        self._lease()
        try:
            async with asyncio.timeout(deadline.remaining() - COMMIT_MARGIN):
                await turn
        except TimeoutError:
            raise DailyUnavailable(f"no turn at Daily's {self._endpoints} in time", taken=False) from None
        finally:
            del self._waiting[place]
            metrics.BUDGET_WAIT.labels(self._endpoints).observe(asyncio.get_running_loop().time() - began)
        return asyncio.get_running_loop().time()

    async def refused(self, sent_at: float, retry_after: float | None) -> None:
        """Daily had too much of it: everybody pauses, longer each time until a request is taken."""
        if sent_at < self._paused_at:
            return  # it was on its way when the pause began
        self._paused_at = asyncio.get_running_loop().time()
        self._pause = retry_after or min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        logger.warning("Daily has too much: nothing of class=%s for %.1f s", self._endpoints, self._pause)
        await self._budget.pause(self._endpoints, self._pause)
        self._turns.clear()
        self._lease()

    def accepted(self) -> None:
        self._pause = 0.0

    def _lease(self) -> None:
        """Has more turns leased when half of them are used up and somebody waits who has none in sight."""
        if self._leasing is None and len(self._turns) <= self._leased_at_once // 2 and self._missing() > 0:
            self._leasing = asyncio.create_task(self._take_lease())

    def _missing(self) -> int:
        return min(len(self._live()), self._leased_at_once) - len(self._turns)

    async def _take_lease(self) -> None:
        try:
            waits = await self._budget.reserve(self._endpoints, max(1, self._missing()))
        except Exception as problem:
            self._leasing = None
            for turn in self._live().values():
                turn.set_exception(problem)
            return
        self._leasing = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for wait in waits:
            self._turns.append(now + wait)
            loop.call_at(now + wait, self._give, now + wait)
        self._lease()

    def _give(self, due: float) -> None:
        """Gives away what is due at this moment, which the loop's clock may not have quite reached. A turn that nobody
        wants is lost, for it was leased for its moment."""
        now = asyncio.get_running_loop().time()
        while self._turns and self._turns[0] <= due:
            moment, waiting = self._turns.popleft(), self._live()
            if waiting and now - moment <= LATE:
                waiting[min(waiting)].set_result(None)
        self._lease()

    def _live(self) -> dict[tuple[Priority, int], asyncio.Future[None]]:
        return {place: turn for place, turn in self._waiting.items() if not turn.done()}
