"""`python -m tests.crash.crippled PART`: a server whose upkeep leaves out a part, for the checker to see.

PART is a line of the queue of what is due, `inbox` (Daily's events), or `webhook` (the chore that keeps it right).
`attendance` is the comparison of meetings and the reading of Daily's list together, which stand in for each other."""

import sys
from datetime import timedelta
from typing import Any

from server import __main__ as server
from server.upkeep import attendance, inbox, recordings, sessions, webhook

PARTS = {
    "end": (sessions, "end"),
    "closing": (sessions, "close"),
    "session": (sessions, "look_after"),
    "start": (recordings, "finish_start"),
    "recording": (recordings, "look_after"),
    "attendance": (attendance, "compare", "sweep"),
    "inbox": (inbox, "run"),
    "webhook": (webhook, "keep"),
}


async def _nothing(*_: Any) -> timedelta:
    """Done, as far as the queue can see; the item is looked at again in an hour."""
    return timedelta(hours=1)


if __name__ == "__main__":
    module, *names = PARTS[sys.argv.pop()]
    for name in names:
        setattr(module, name, _nothing)
    sys.exit(server.main())
