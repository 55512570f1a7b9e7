"""How long the work at hand may still take, known to everything that runs on behalf of one call."""

import asyncio
from contextvars import ContextVar

CALL = 10.0
"""Seconds that a call may take. A REST call brings no deadline; a longer one of a gRPC client is cut to this."""

WORK = 15.0
"""Seconds that work which changes Daily may take, whoever waits for it."""

_end: ContextVar[float] = ContextVar("deadline")


def begin(client_allows: float | None) -> asyncio.Timeout:
    """The time limit of a call, to be entered: a TimeoutError a little before the client gives up, so that it reads
    why we did."""
    return within(CALL if client_allows is None else min(CALL, client_allows * 0.9))


def within(seconds: float) -> asyncio.Timeout:
    """A time limit, to be entered, for all that runs inside."""
    end = asyncio.get_running_loop().time() + seconds
    _end.set(end)
    return asyncio.timeout_at(end)


def remaining() -> float:
    """Seconds, which may be negative; those of a whole call where none is at hand."""
    end = _end.get(None)
    return CALL if end is None else end - asyncio.get_running_loop().time()
