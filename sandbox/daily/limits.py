"""Daily's documented rate limits: a sliding window for each class of call, and what was refused by it."""

import time
from collections import deque

from .errors import DailyError

# Calls allowed, in so many seconds.
DEFAULT = "default"
WINDOWS: dict[str, tuple[int, float]] = {
    DEFAULT: (100, 5),
    "DELETE /rooms/:name": (50, 30),
    "GET /recordings": (50, 30),
    "POST /rooms/:name/recordings/start": (5, 5),
}


class Limits:
    """`refused` counts by class: one of WINDOWS."""

    def __init__(self) -> None:
        self._admitted: dict[str, deque[float]] = {name: deque() for name in WINDOWS}
        self.refused = dict.fromkeys(WINDOWS, 0)

    def admit(self, call: str) -> None:
        """Raises 429 for a call (method and path template) beyond its limit, which then uses nothing up."""
        name = call if call in WINDOWS else DEFAULT
        allowed, seconds = WINDOWS[name]
        admitted, moment = self._admitted[name], time.monotonic()
        while admitted and admitted[0] <= moment - seconds:
            admitted.popleft()
        if len(admitted) >= allowed:
            self.refused[name] += 1
            raise DailyError(429, f"rate limit exceeded: {allowed} in {seconds} s")
        admitted.append(moment)
