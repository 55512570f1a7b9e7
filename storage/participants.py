"""What can be done with participants, and with their stays in the room, inside a transaction.

A stay is kept in halves, each written by its own event, so that neither order nor repetition of the events can matter;
when a participant joined and left is derived from them when it is asked for."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, bindparam, case, func, or_, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Connection, Occupancy, Participant, Role
from storage.tables import connections, participants, sessions

JOINED = func.coalesce(connections.c.joined_at, connections.c.polled_joined_at)
LEFT = func.coalesce(connections.c.left_at, connections.c.polled_left_at)
OPEN = and_(connections.c.left_at.is_(None), connections.c.polled_left_at.is_(None))
# Who comes after the end, until the room is closed, has not been in the class.
ENDS_AT = select(sessions.c.ends_at).where(sessions.c.id == bindparam("session_id")).scalar_subquery()
STAYS = (
    select(
        connections.c.daily_user_id,
        func.min(JOINED).label("joined_at"),
        case((func.bool_and(LEFT.is_not(None)), func.max(LEFT))).label("left_at"),
    )
    .where(
        connections.c.session_id == bindparam("session_id"),
        or_(ENDS_AT.is_(None), JOINED.is_(None), JOINED <= ENDS_AT),
    )
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

# Who is in the room without a token of ours is a participant all the same.
RECOGNISE = text("""
INSERT INTO participants (session_id, user_id, daily_user_id, name, role)
SELECT :session_id, stay.user_id, stay.user_id, stay.name, stay.role
FROM unnest(CAST(:users AS text[]), CAST(:names AS text[]), CAST(:roles AS text[])) AS stay (user_id, name, role)
WHERE NOT EXISTS (
    SELECT FROM participants WHERE session_id = :session_id AND participants.daily_user_id = stay.user_id
)
ON CONFLICT DO NOTHING
""")
CALL_BY_NAME = text("""
UPDATE participants SET name = stay.name
FROM unnest(CAST(:users AS text[]), CAST(:names AS text[])) AS stay (user_id, name)
WHERE session_id = :session_id AND daily_user_id = stay.user_id AND participants.name IS NULL AND stay.name IS NOT NULL
""")
STAY = """
SELECT id, :session_id, user_id, joined_at, left_at FROM unnest(
    CAST(:ids AS text[]), CAST(:users AS text[]), CAST(:joined AS timestamptz[]), CAST(:left AS timestamptz[])
) AS stay (id, user_id, joined_at, left_at)
"""
TELL = text(f"""
INSERT INTO connections (id, session_id, daily_user_id, joined_at, left_at) {STAY}
ON CONFLICT (id) DO UPDATE SET
    joined_at = coalesce(connections.joined_at, excluded.joined_at),
    left_at = coalesce(connections.left_at, excluded.left_at)
""")
RECORD = text(f"""
INSERT INTO connections (id, session_id, daily_user_id, polled_joined_at, polled_left_at) {STAY}
ON CONFLICT (id) DO UPDATE SET
    polled_joined_at = coalesce(excluded.polled_joined_at, connections.polled_joined_at),
    polled_left_at = coalesce(excluded.polled_left_at, connections.polled_left_at)
""")


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

    async def told(self, session_id: UUID, stays: Iterable[Connection]) -> None:
        """What the room's events say of stays, or of their ends."""
        await self._write(TELL, session_id, stays)

    async def recorded(self, session_id: UUID, stays: Iterable[Connection]) -> None:
        """What Daily's records say of them; what the room's own events said outweighs it."""
        await self._write(RECORD, session_id, stays)

    async def _write(self, statement: object, session_id: UUID, stays: Iterable[Connection]) -> None:
        merged = _merged(stays)
        roles = {stay.daily_user_id: Role.INSTRUCTOR if stay.is_owner else Role.STUDENT for stay in merged}
        names = {stay.daily_user_id: stay.user_name for stay in merged}
        people = {"users": list(roles), "names": list(names.values()), "roles": list(roles.values())}
        values: dict[str, object] = {"session_id": session_id}
        await self._connection.execute(RECOGNISE, values | people)
        if any(names.values()):
            await self._connection.execute(CALL_BY_NAME, values | people)
        values |= {
            "ids": [stay.id for stay in merged],
            "users": [stay.daily_user_id for stay in merged],
            "joined": [stay.joined_at for stay in merged],
            "left": [stay.left_at for stay in merged],
        }
        await self._connection.execute(statement, values)  # type: ignore[call-overload]

    async def meeting_ended(self, session_id: UUID, at: datetime) -> None:
        """Nobody is left in the room: closes the stays of which no end was told, until Daily's record of the meeting,
        where it knows them, says when each really ended."""
        change = update(connections).where(connections.c.session_id == session_id, OPEN, at >= JOINED)
        await self._connection.execute(change.values(polled_left_at=at))

    async def occupancy(self, session_id: UUID) -> Occupancy:
        stays = connections.c.session_id == session_id
        columns = (connections.c.id, connections.c.daily_user_id, JOINED, LEFT)
        inside = await self._connection.execute(select(*columns).where(stays, OPEN))
        last = await self._connection.execute(select(func.max(LEFT)).where(stays))
        return Occupancy([Connection(*row) for row in inside], last.scalar())


def _merged(stays: Iterable[Connection]) -> Sequence[Connection]:
    """One for each connection, as a statement can write a row only once; in one order, so that two cannot wait for each
    other."""
    merged: dict[str, Connection] = {}
    for stay in stays:
        known = merged.get(stay.id, stay)
        merged[stay.id] = Connection(
            stay.id,
            known.daily_user_id,
            known.joined_at or stay.joined_at,
            known.left_at or stay.left_at,
            known.is_owner or stay.is_owner,
            known.user_name or stay.user_name,
        )
    return sorted(merged.values(), key=lambda stay: (stay.daily_user_id, stay.id))
