"""What is to be delivered to the product's back end: session events, each under the id of its webhook.

Migration 0005 writes them with the event itself, and makes their session's outbox due."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Interval, Text, Uuid, bindparam, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.events import session_event
from storage.model import Delivery, DeliveryRow, Sent
from storage.queue import CLOCK
from storage.tables import deliveries, session_events, sessions

HAS_FAILED = (deliveries.c.due_at.is_(None), deliveries.c.delivered_at.is_(None))

TAKE = text("""
WITH due AS (
    SELECT id FROM deliveries WHERE session_id = :session_id AND due_at <= statement_timestamp()
    ORDER BY due_at LIMIT :items FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE deliveries SET due_at = clock_timestamp() + :lease, attempts = attempts + 1
    FROM due WHERE deliveries.id = due.id
    RETURNING deliveries.id, session_id, revision, attempts, due_at
)
SELECT taken.id, room_name, taken.attempts, taken.due_at, session_id, taken.revision, at, type, state
FROM taken JOIN session_events USING (session_id, revision) JOIN sessions ON sessions.id = session_id
ORDER BY taken.revision
""").bindparams(bindparam("lease", type_=Interval))

NOTE = text("""
UPDATE deliveries SET
    delivered_at = CASE WHEN sent.error IS NULL THEN clock_timestamp() END,
    due_at = clock_timestamp() + sent.pause,
    error = sent.error
FROM unnest(:ids, :leases, :errors, :pauses) AS sent (id, lease, error, pause)
WHERE deliveries.id = sent.id AND deliveries.due_at = sent.lease
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("leases", type_=ARRAY(TIMESTAMP(timezone=True))),
    bindparam("errors", type_=ARRAY(Text)),
    bindparam("pauses", type_=ARRAY(Interval)),
)

AGAIN = text("""
WITH again AS (
    UPDATE deliveries SET due_at = clock_timestamp(), attempts = 0, delivered_at = NULL, error = NULL
    WHERE id = ANY(:ids) RETURNING session_id
), woken AS (
    UPDATE outboxes SET due_at = clock_timestamp() WHERE id IN (SELECT session_id FROM again)
)
SELECT count(*) FROM again
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))

NEXT_DUE = select(func.min(deliveries.c.due_at) - CLOCK).where(
    deliveries.c.session_id == bindparam("session_id"), deliveries.c.due_at.is_not(None)
)

ROWS = (
    select(
        deliveries.c.id,
        session_events.c.at,
        session_events.c.type,
        sessions.c.room_name,
        deliveries.c.revision,
        deliveries.c.attempts,
        deliveries.c.due_at,
        deliveries.c.delivered_at,
        deliveries.c.error,
    )
    .select_from(deliveries)
    .join(session_events)
    .join(sessions, sessions.c.id == deliveries.c.session_id)
    .order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc())
)


class Deliveries:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def take(self, session_id: UUID, items: int, lease: timedelta) -> list[Delivery]:
        """What is due of the session, longest first: ours until the lease ends."""
        rows = await self._connection.execute(TAKE, {"session_id": session_id, "items": items, "lease": lease})
        return [
            Delivery(id, session_event(*event), room_name, attempts, due_at)
            for id, room_name, attempts, due_at, *event in rows
        ]

    async def note(self, sent: Sequence[Sent]) -> None:
        """What came of each, unless it is not ours any longer."""
        values = {
            "ids": [one.delivery.id for one in sent],
            "leases": [one.delivery.due_at for one in sent],
            "errors": [one.error for one in sent],
            "pauses": [one.pause for one in sent],
        }
        await self._connection.execute(NOTE, values)

    async def next_due(self, session_id: UUID) -> timedelta | None:
        """In what time something of the session is due; None when all has come to its end."""
        pause = (await self._connection.execute(NEXT_DUE, {"session_id": session_id})).scalar_one()
        return None if pause is None else max(pause, timedelta())

    async def pending(self, most: int) -> int:
        """How many are neither delivered nor given up; `most` at the most."""
        some = select(deliveries.c.id).where(deliveries.c.due_at.is_not(None)).limit(most).subquery()
        return int((await self._connection.execute(select(func.count()).select_from(some))).scalar_one())

    async def latest(self, most: int, *, only_failed: bool) -> list[DeliveryRow]:
        """Newest first."""
        query = ROWS.where(*HAS_FAILED) if only_failed else ROWS
        return [DeliveryRow(*row) for row in await self._connection.execute(query.limit(most))]

    async def since(self, after: tuple[datetime, UUID], most: int, *, only_failed: bool) -> list[tuple[datetime, UUID]]:
        """When each was made, and its id: the next ones, oldest first."""
        made = (deliveries.c.created_at, deliveries.c.id)
        query = select(*made).where(*HAS_FAILED) if only_failed else select(*made)
        query = query.where(tuple_(*made) > tuple_(*after)).order_by(*made).limit(most)
        return [(created_at, id) for created_at, id in await self._connection.execute(query)]

    async def send_again(self, ids: Sequence[UUID]) -> int:
        """As if they were new, whether they were delivered or not; returns how many of them there are."""
        return int((await self._connection.execute(AGAIN, {"ids": ids})).scalar_one())
