"""What can be done with participants, and with their stays in the room, inside a transaction.

A stay is kept in halves, each written by its own event, so that neither order nor repetition of the events can matter;
when a participant joined and left is derived from them when it is asked for."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, bindparam, case, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Connection, Participant, Role
from storage.tables import connections, participants, sessions

JOINED = func.coalesce(connections.c.joined_at, connections.c.polled_joined_at)
LEFT = func.coalesce(connections.c.left_at, connections.c.polled_left_at)
STAYS = (
    select(
        connections.c.daily_user_id,
        func.min(JOINED).label("joined_at"),
        case((func.bool_and(LEFT.is_not(None)), func.max(LEFT))).label("left_at"),
    )
    .where(connections.c.session_id == bindparam("session_id"))
    .group_by(connections.c.daily_user_id)
    .subquery()
)
OF_SESSION = (
    select(
        participants.c.id,
        participants.c.user_id,
        participants.c.session_id,
        participants.c.role,
        STAYS.c.joined_at,
        STAYS.c.left_at,
        participants.c.was_kicked,
        participants.c.mic_allowed,
        participants.c.camera_allowed,
        participants.c.created_at,
        participants.c.updated_at,
    )
    .select_from(participants.outerjoin(STAYS, STAYS.c.daily_user_id == participants.c.daily_user_id))
    .where(participants.c.session_id == bindparam("session_id"))
)
BY_USER = OF_SESSION.where(participants.c.user_id == bindparam("user_id"))
PAGE = OF_SESSION.order_by(participants.c.created_at, participants.c.id).limit(bindparam("limit", None))
PAGE_AFTER = PAGE.where(
    tuple_(participants.c.created_at, participants.c.id) > tuple_(bindparam("created_at"), bindparam("id"))
)

_stay = insert(connections)
JOIN = _stay.on_conflict_do_update(
    index_elements=["id"],
    set_={"joined_at": func.coalesce(connections.c.joined_at, _stay.excluded.joined_at)},
)
LEAVE = _stay.on_conflict_do_update(
    index_elements=["id"],
    set_={
        "joined_at": func.coalesce(connections.c.joined_at, _stay.excluded.joined_at),
        "left_at": func.coalesce(connections.c.left_at, _stay.excluded.left_at),
    },
)
POLL = _stay.on_conflict_do_update(
    index_elements=["id"],
    set_={
        "polled_joined_at": func.coalesce(_stay.excluded.polled_joined_at, connections.c.polled_joined_at),
        "polled_left_at": func.coalesce(_stay.excluded.polled_left_at, connections.c.polled_left_at),
    },
)


class Participants:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def of_session(
        self, session_id: UUID, limit: int | None, after: tuple[datetime, UUID] | None
    ) -> list[Participant]:
        """In the order in which they were recorded, from behind the row `after` (created_at, id)."""
        values: dict[str, object] = {"session_id": session_id, "limit": limit}
        if after is None:
            rows = await self._connection.execute(PAGE, values)
        else:
            rows = await self._connection.execute(PAGE_AFTER, {**values, "created_at": after[0], "id": after[1]})
        return [Participant(*row) for row in rows]

    async def by_user(self, session_id: UUID, user_id: str) -> Participant | None:
        row = (await self._connection.execute(BY_USER, {"session_id": session_id, "user_id": user_id})).first()
        return None if row is None else Participant(*row)

    async def joined(self, session_id: UUID, stay: Connection) -> None:
        await self._recognise(session_id, stay)
        await self._connection.execute(JOIN, _halves(session_id, stay))

    async def left(self, session_id: UUID, stay: Connection) -> None:
        await self._recognise(session_id, stay)
        await self._connection.execute(LEAVE, _halves(session_id, stay))

    async def polled(self, session_id: UUID, stay: Connection) -> None:
        """What Daily's meeting records say of a stay; what the room's own events said outweighs it."""
        await self._recognise(session_id, stay)
        values = {
            "id": stay.id,
            "session_id": session_id,
            "daily_user_id": stay.daily_user_id,
            "polled_joined_at": stay.joined_at,
            "polled_left_at": stay.left_at,
        }
        await self._connection.execute(POLL, values)

    async def meeting_ended(self, session_id: UUID, at: datetime) -> None:
        """Nobody is left in the room: closes the stays whose end was not told, until Daily's record of the meeting,
        which writes both polled halves, says when each really ended."""
        never_polled = and_(
            connections.c.session_id == session_id, LEFT.is_(None), connections.c.polled_joined_at.is_(None)
        )
        change = update(connections).where(never_polled, connections.c.joined_at <= at)
        await self._connection.execute(change.values(polled_left_at=at))

    async def stays(self, session_id: UUID) -> list[Connection]:
        """Without the ends that are only supposed, because the meeting ended."""
        left = case((connections.c.polled_joined_at.is_(None), connections.c.left_at), else_=LEFT)
        columns = (connections.c.id, connections.c.daily_user_id, JOINED, left)
        rows = await self._connection.execute(select(*columns).where(connections.c.session_id == session_id))
        return [Connection(*row) for row in rows]

    async def rooms_with_open_stays(self, limit: int) -> list[str]:
        """Some of the rooms in which somebody still seems to be, or of whom it is not known when they left; others the
        next time."""
        unknown = or_(connections.c.polled_left_at.is_(None), connections.c.polled_joined_at.is_(None))
        still_open = and_(connections.c.left_at.is_(None), unknown)
        some = select(connections.c.session_id).where(still_open).distinct().subquery()
        query = select(sessions.c.room_name).join(some, some.c.session_id == sessions.c.id)
        return list((await self._connection.execute(query.order_by(func.random()).limit(limit))).scalars())

    async def _recognise(self, session_id: UUID, stay: Connection) -> None:
        """Somebody is in the room to whom we issued no token: they are a participant all the same."""
        values = {
            "session_id": session_id,
            "user_id": stay.daily_user_id,
            "daily_user_id": stay.daily_user_id,
            "role": Role.INSTRUCTOR if stay.is_owner else Role.STUDENT,
        }
        await self._connection.execute(insert(participants).values(values).on_conflict_do_nothing())


def _halves(session_id: UUID, stay: Connection) -> dict[str, object]:
    return {
        "id": stay.id,
        "session_id": session_id,
        "daily_user_id": stay.daily_user_id,
        "joined_at": stay.joined_at,
        "left_at": stay.left_at,
    }
