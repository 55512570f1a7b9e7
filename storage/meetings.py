"""What can be done with meetings, the calls that were held in a session's room, inside a transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.queue import CLOCK, sooner
from storage.tables import meetings

_seen = insert(meetings)
SEE = _seen.on_conflict_do_update(
    index_elements=["id"],
    set_={
        "started_at": func.coalesce(meetings.c.started_at, _seen.excluded.started_at),
        "ended_at": func.coalesce(meetings.c.ended_at, _seen.excluded.ended_at),
    },
)


class Meetings:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def seen(
        self, session_id: UUID, id: str, started_at: datetime | None, ended_at: datetime | None, look_after: timedelta
    ) -> None:
        """There is, or was, such a meeting. One that has ended is due by then, once, for its comparison."""
        values = {"id": id, "session_id": session_id, "started_at": started_at, "ended_at": ended_at}
        await self._connection.execute(SEE, values)
        if ended_at is not None:
            waiting = update(meetings).where(meetings.c.id == id, meetings.c.compared_at.is_(None))
            await self._connection.execute(waiting.values(due_at=sooner(meetings, CLOCK + look_after)))

    async def look_at(self, session_id: UUID, after: timedelta) -> None:
        """The session's meetings that are not known to have ended are due by then."""
        under_way = (meetings.c.ended_at.is_(None), meetings.c.compared_at.is_(None))
        change = update(meetings).where(meetings.c.session_id == session_id, *under_way)
        await self._connection.execute(change.values(due_at=sooner(meetings, CLOCK + after)))

    async def compared(self, id: str, ended_at: datetime) -> None:
        change = update(meetings).where(meetings.c.id == id)
        ended = func.coalesce(meetings.c.ended_at, ended_at)
        await self._connection.execute(change.values(compared_at=func.now(), ended_at=ended, due_at=None))

    async def compare_again(self, since: datetime) -> None:
        """Events were missing since then: all meetings that were under way are due."""
        under_way = or_(meetings.c.ended_at >= since, meetings.c.compared_at.is_(None))
        await self._connection.execute(update(meetings).where(under_way).values(compared_at=None, due_at=CLOCK))

    async def known(self, ids: Sequence[str]) -> dict[str, bool]:
        """Those of the meetings that we know of, and whether each has been compared."""
        query = select(meetings.c.id, meetings.c.compared_at.is_not(None).label("compared"))
        rows = await self._connection.execute(query.where(meetings.c.id.in_(ids)))
        return {row.id: row.compared for row in rows}
