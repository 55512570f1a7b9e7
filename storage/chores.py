"""What must be done once in the deployment, whatever number of processes it has."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Chore
from storage.queue import CLOCK
from storage.tables import chores


class Chores:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, ids: Iterable[str]) -> None:
        """They are due from now on, unless they have been added before."""
        values = [{"id": id, "due_at": None} for id in ids]
        await self._connection.execute(insert(chores).on_conflict_do_nothing(), values)
        await self._connection.execute(
            update(chores).where(chores.c.id.in_(ids), chores.c.due_at.is_(None)).values(due_at=CLOCK)
        )

    async def done(self, chore: Chore, until: datetime) -> None:
        """It has seen to everything until then, unless it was to look back while it was at it; its failures are counted
        from now on."""
        mine = update(chores).where(chores.c.id == chore.id, chores.c.due_at == chore.due_at)
        await self._connection.execute(mine.values(done_until=until, attempts=0))

    async def look_back(self, id: str, since: datetime) -> None:
        """It is due, and what it has seen to since then must be seen to again."""
        done_until = func.least(chores.c.done_until, since)
        await self._connection.execute(
            update(chores).where(chores.c.id == id).values(done_until=done_until, due_at=CLOCK)
        )
