"""The inbox: every event that Daily sent, once, and whether it has been applied."""

from datetime import timedelta

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Event
from storage.tables import webhook_events

KEEP = insert(webhook_events).on_conflict_do_nothing().returning(webhook_events.c.id)
APPLIED = (
    update(webhook_events).where(webhook_events.c.id == bindparam("event_id")).values(applied_at=func.now(), error=None)
)


class Inbox:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def keep(self, event: Event) -> bool:
        """False when the event had come before."""
        values = {"id": event.id, "type": event.type, "body": event.body}
        return (await self._connection.execute(KEEP, values)).first() is not None

    async def applied(self, event_id: str) -> None:
        await self._connection.execute(APPLIED, {"event_id": event_id})

    async def failed(self, event_id: str, error: str) -> None:
        change = update(webhook_events).where(webhook_events.c.id == event_id)
        await self._connection.execute(change.values(attempts=webhook_events.c.attempts + 1, error=error))

    async def lock(self, event_id: str) -> bool:
        """Whether the event still waits to be applied; nobody else can apply it until the transaction ends."""
        query = select(webhook_events.c.id).where(
            webhook_events.c.id == event_id, webhook_events.c.applied_at.is_(None)
        )
        return (await self._connection.execute(query.with_for_update())).first() is not None

    async def unapplied(self, max_attempts: int) -> list[Event]:
        """Those that were tried least come first, so that none keeps another waiting; those apart that have been tried
        so often that they never will be."""
        columns = (webhook_events.c.id, webhook_events.c.type, webhook_events.c.body)
        query = select(*columns).where(webhook_events.c.applied_at.is_(None), webhook_events.c.attempts < max_attempts)
        in_turn = query.order_by(webhook_events.c.attempts, webhook_events.c.received_at)
        rows = await self._connection.execute(in_turn.limit(100))
        return [Event(*row) for row in rows]

    async def forget(self, older_than: timedelta) -> int:
        """Removes old events; returns how many."""
        result = await self._connection.execute(
            delete(webhook_events).where(webhook_events.c.received_at < func.now() - older_than)
        )
        return result.rowcount
