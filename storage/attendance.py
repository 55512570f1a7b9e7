"""Who was in a session's room, read out of the stays of their devices, inside a transaction."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Attended, Role

# Who comes after the end, until the room is closed, has not been in the class; when it is closed nobody is left.
STAYS = """
SELECT connections.id, daily_user_id,
    coalesce(joined_at, polled_joined_at) AS joined, coalesce(left_at, polled_left_at, room_deleted_at) AS gone
FROM connections JOIN sessions ON sessions.id = connections.session_id
WHERE connections.session_id = :session_id
    AND coalesce(joined_at, polled_joined_at) <= coalesce(ends_at, 'infinity')
"""
# Page by page: each participant's stays are found by their index, in the order of the participants' own.
PAGE = text(f"""
SELECT participants.id, user_id, name, role, created_at, joined, gone
FROM participants CROSS JOIN LATERAL (
    SELECT array_agg(joined ORDER BY joined, id) AS joined, array_agg(gone ORDER BY joined, id) AS gone
    FROM ({STAYS}) AS stay WHERE daily_user_id = participants.daily_user_id
) AS stays
WHERE session_id = :session_id AND joined IS NOT NULL AND (created_at, participants.id) > (:created_at, :id)
ORDER BY created_at, participants.id
LIMIT :limit
""")  # noqa: S608 - of constants
PERIOD = text(f"""
SELECT min(joined), clock_timestamp(),
    (SELECT coalesce(ends_at, clock_timestamp()) FROM sessions WHERE id = :session_id)
FROM ({STAYS}) AS stay
""")  # noqa: S608 - of constants
BEFORE_ALL = (datetime.min.replace(tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class Period:
    """From the session's first join, if there was one, to its end or until now."""

    began_at: datetime | None
    now: datetime
    ended_at: datetime


class Attendance:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def period(self, session_id: UUID) -> Period:
        return Period(*(await self._connection.execute(PERIOD, {"session_id": session_id})).one())

    async def of_session(
        self, session_id: UUID, limit: int | None, after: tuple[datetime, UUID] | None
    ) -> list[Attended]:
        """Those who have joined, in the order in which they were recorded, from behind the row `after` (created_at,
        id)."""
        created_at, id = after or BEFORE_ALL
        values = {"session_id": session_id, "limit": limit, "created_at": created_at, "id": id}
        rows = await self._connection.execute(PAGE, values)
        return [_attended(*row) for row in rows]


def _attended(
    id: UUID,
    user_id: str,
    name: str | None,
    role: Role,
    created_at: datetime,
    joined: list[datetime],
    gone: list[datetime | None],
) -> Attended:
    return Attended(id, user_id, name, role, created_at, list(zip(joined, gone, strict=True)))
