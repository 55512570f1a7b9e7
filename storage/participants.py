"""What can be done with participants, and with their stays in the room, inside a transaction.

A stay is kept in halves, each written by its own event, so that neither order nor repetition of the events can matter;
when a participant joined and left is derived from them when it is asked for."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import TextClause, and_, bindparam, case, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Connection, Occupancy, Participant, Recognised, Role
from storage.queue import CLOCK
from storage.tables import connections, meetings, participants, sessions

JOINED = func.coalesce(connections.c.joined_at, connections.c.polled_joined_at)
OPEN = and_(connections.c.left_at.is_(None), connections.c.polled_left_at.is_(None))
# Daily's records are cut to seconds: by them a stay may end before it began.
LEFT = case((~OPEN, func.greatest(func.coalesce(connections.c.left_at, connections.c.polled_left_at), JOINED)))
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
WITH stay AS (
    SELECT * FROM unnest(
        CAST(:sessions AS uuid[]), CAST(:users AS text[]), CAST(:names AS text[]), CAST(:roles AS text[])
    ) AS stay (session_id, daily_user_id, name, role)
), known AS (
    SELECT participants.* FROM stay JOIN participants USING (session_id, daily_user_id)
), made AS (
    INSERT INTO participants (session_id, user_id, daily_user_id, name, role)
    SELECT session_id, daily_user_id, daily_user_id, name, role FROM stay
    WHERE (session_id, daily_user_id) NOT IN (SELECT session_id, daily_user_id FROM known)
    ON CONFLICT DO NOTHING
    RETURNING *
)
SELECT id, session_id, daily_user_id, was_kicked, mic_allowed, camera_allowed, name IS NOT NULL FROM known
UNION ALL
SELECT id, session_id, daily_user_id, was_kicked, mic_allowed, camera_allowed, true FROM made
""")
CALL_BY_NAME = text("""
UPDATE participants SET name = stay.name
FROM unnest(
    CAST(:sessions AS uuid[]), CAST(:users AS text[]), CAST(:names AS text[])
) AS stay (session_id, user_id, name)
WHERE participants.session_id = stay.session_id AND participants.daily_user_id = stay.user_id
    AND participants.name IS NULL AND stay.name IS NOT NULL
""")
_STAY = """unnest(
    CAST(:ids AS text[]), CAST(:sessions AS uuid[]), CAST(:users AS text[]),
    CAST(:joined AS timestamptz[]), CAST(:left AS timestamptz[])
) AS stay (id, session_id, daily_user_id, joined_at, left_at)"""


def _writes(columns: str, value: str) -> tuple[TextClause, TextClause]:
    """What is added and what is changed, in two statements: in one, the trigger that tells of each would take the
    other's for what was so before."""
    names = joined_at, left_at = f"{columns}joined_at", f"{columns}left_at"
    joined, left = (
        value.format(old=f"connections.{name}", new=f"stay.{half}")
        for name, half in zip(names, ("joined_at", "left_at"), strict=True)
    )
    add = f"""
        INSERT INTO connections (id, session_id, daily_user_id, {joined_at}, {left_at}) SELECT * FROM {_STAY}
        ON CONFLICT (id) DO NOTHING
    """  # noqa: S608 - of constants
    change = f"""
        UPDATE connections SET {joined_at} = {joined}, {left_at} = {left} FROM {_STAY}
        WHERE connections.id = stay.id
            AND ({joined}, {left}) IS DISTINCT FROM (connections.{joined_at}, connections.{left_at})
    """  # noqa: S608 - of constants
    return text(add), text(change)


# What an event told stands; Daily's records may be corrected by the next one.
TELL = _writes("", "coalesce({old}, {new})")
RECORD = _writes("polled_", "coalesce({new}, {old})")
# Whether anybody is inside costs a look into the index of those who are; the stays are read where nobody is.
_asked = func.unnest(bindparam("session_ids", type_=ARRAY(UUID_))).table_valued("id").render_derived(name="asked")
EMPTY = select(
    _asked.c.id, select(func.max(LEFT)).where(connections.c.session_id == _asked.c.id).scalar_subquery()
).where(~select(connections.c.id).where(connections.c.session_id == _asked.c.id, OPEN).exists())


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

    async def daily_users(self, session_id: UUID) -> list[str]:
        """The ids inside Daily of all who may have been in the room."""
        ids = select(participants.c.daily_user_id).where(participants.c.session_id == session_id).distinct()
        return list((await self._connection.execute(ids.order_by(participants.c.daily_user_id))).scalars())

    async def told(self, stays: Iterable[tuple[UUID, Connection]]) -> list[Recognised]:
        """What the events of rooms say of stays in these sessions, or of their ends; and whose they are."""
        return await self._write(TELL, stays)

    async def recorded(self, session_id: UUID, stays: Iterable[Connection]) -> None:
        """What Daily's records say of them; what the room's own events said outweighs it."""
        await self._write(RECORD, ((session_id, stay) for stay in stays))

    async def _write(
        self, statements: tuple[TextClause, TextClause], stays: Iterable[tuple[UUID, Connection]]
    ) -> list[Recognised]:
        merged = _merged(stays)
        people = await self._recognise(merged)
        values: dict[str, object] = {
            "ids": [stay.id for _, stay in merged],
            "sessions": [id for id, _ in merged],
            "users": [stay.daily_user_id for _, stay in merged],
            "joined": [stay.joined_at for _, stay in merged],
            "left": [stay.left_at for _, stay in merged],
        }
        add, change = statements
        if (await self._connection.execute(add, values)).rowcount < len(merged):
            await self._connection.execute(change, values)
        return people

    async def _recognise(self, stays: Sequence[tuple[UUID, Connection]]) -> list[Recognised]:
        roles = {(id, stay.daily_user_id): Role.INSTRUCTOR if stay.is_owner else Role.STUDENT for id, stay in stays}
        names = {(id, stay.daily_user_id): stay.user_name for id, stay in stays}
        values: dict[str, object] = {
            "sessions": [id for id, _ in roles],
            "users": [user for _, user in roles],
            "names": list(names.values()),
            "roles": list(roles.values()),
        }
        people = [Recognised(*row) for row in await self._connection.execute(RECOGNISE, values)]
        if any(names[one.session_id, one.daily_user_id] for one in people if not one.has_name):
            await self._connection.execute(CALL_BY_NAME, values)
        return people

    async def gone(self, stay_ids: list[str]) -> None:
        """They were put out just now."""
        change = update(connections).where(connections.c.id.in_(stay_ids), OPEN)
        await self._connection.execute(change.values(polled_left_at=func.greatest(CLOCK, JOINED)))

    async def meeting_ended(self, session_id: UUID, meeting_id: str, at: datetime) -> None:
        """Nobody is left in the call: closes the stays of which no end was told, until Daily's record of the meeting,
        where it knows them, says when each really ended. A whole second may be cut to it; those who have come back
        since are in the session's next meeting."""
        end = at + (timedelta(milliseconds=1) if at.microsecond else timedelta(seconds=1))
        others = and_(meetings.c.session_id == session_id, meetings.c.id != meeting_id)
        next_one = select(func.min(meetings.c.started_at)).where(others, meetings.c.started_at >= at)
        of_this_one = func.least(next_one.scalar_subquery(), end) > JOINED
        change = update(connections).where(connections.c.session_id == session_id, OPEN, of_this_one)
        await self._connection.execute(change.values(polled_left_at=at))

    async def empty(self, session_ids: list[UUID]) -> dict[UUID, datetime]:
        """Those of the sessions in whose rooms nobody is left, as far as we were told, and when the last one went."""
        rows = await self._connection.execute(EMPTY, {"session_ids": session_ids})
        return {id: last_left_at for id, last_left_at in rows if last_left_at is not None}

    async def occupancy(self, session_id: UUID) -> Occupancy:
        stays = connections.c.session_id == session_id
        columns = (connections.c.id, connections.c.daily_user_id, JOINED, LEFT)
        inside = await self._connection.execute(select(*columns).where(stays, OPEN))
        last = await self._connection.execute(select(func.max(LEFT)).where(stays))
        return Occupancy([Connection(*row) for row in inside], last.scalar())


def _merged(stays: Iterable[tuple[UUID, Connection]]) -> Sequence[tuple[UUID, Connection]]:
    """One for each connection, as a statement can write a row only once; in one order, so that two cannot wait for each
    other."""
    merged: dict[str, tuple[UUID, Connection]] = {}
    for session_id, stay in stays:
        of_session, known = merged.get(stay.id, (session_id, stay))
        merged[stay.id] = (
            of_session,
            Connection(
                stay.id,
                known.daily_user_id,
                known.joined_at or stay.joined_at,
                known.left_at or stay.left_at,
                known.is_owner or stay.is_owner,
                known.user_name or stay.user_name,
            ),
        )
    return sorted(merged.values(), key=lambda item: (item[0], item[1].daily_user_id, item[1].id))
