"""`python -m tests.crash.crippled PART`: a server whose reconciler leaves out a part, for the checker to see.

PART is the name of a generator in server/upkeep/repairs.py without its underscore:
sessions, recordings or attendance."""

import sys
from collections.abc import AsyncIterator

from server import __main__ as server
from server.upkeep import repairs

PARTS = ("sessions", "recordings", "attendance")


async def _nothing(*_: object) -> AsyncIterator[repairs.Repair]:
    return
    yield


if __name__ == "__main__":
    part = sys.argv.pop()
    assert part in PARTS
    setattr(repairs, f"_{part}", _nothing)
    sys.exit(server.main())
