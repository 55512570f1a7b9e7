"""The inbox: every event that Daily sent, once, until it has been applied and for some time after."""

from dataclasses import fields
from datetime import timedelta

from sqlalchemy import Interval, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Event
from storage.queue import CLOCK
from storage.tables import daily_events

COLUMNS = [daily_events.c[field.name] for field in fields(Event)]
DUE = daily_events.c.due_at <= CLOCK
TAKE = (
    select(*COLUMNS)
    .where(DUE, daily_events.c.room_name.is_not(None))
    .order_by(daily_events.c.due_at)
    .limit(bindparam("events"))
    .with_for_update(skip_locked=True)
)
_THESE = daily_events.c.id == func.any(bindparam("ids", type_=ARRAY(TEXT)))
# With one array, for with a list of parameters each number of events would be another statement.
APPLIED = update(daily_events).where(_THESE).values(due_at=None, error=None)
WAIT = update(daily_events).where(_THESE).values(due_at=CLOCK + bindparam("pause", type_=Interval))


class Inbox:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def due(self, events: int) -> list[Event]:
        """Of rooms that are known, what has waited longest; nobody else can apply it until the transaction ends."""
        return [Event(*row) for row in await self._connection.execute(TAKE, {"events": events})]

    async def of_no_room(self, events: int, lease: timedelta) -> list[Event]:
        """Events of which it must be found out what room they are about: ours until the lease ends."""
        due = select(daily_events.c.id).where(DUE, daily_events.c.room_name.is_(None))
        due = due.order_by(daily_events.c.due_at).limit(events).with_for_update(skip_locked=True)
        claim = update(daily_events).where(daily_events.c.id.in_(due.scalar_subquery()))
        claim = claim.values(due_at=CLOCK + lease, attempts=daily_events.c.attempts + 1)
        return [Event(*row) for row in await self._connection.execute(claim.returning(*COLUMNS))]

    async def belongs(self, event_id: str, room_name: str) -> None:
        """It has been found out what room the event is about."""
        change = update(daily_events).where(daily_events.c.id == event_id)
        await self._connection.execute(change.values(room_name=room_name, due_at=CLOCK))

    async def applied(self, event_ids: list[str]) -> None:
        await self._connection.execute(APPLIED, {"ids": event_ids})

    async def wait(self, event_ids: list[str], pause: timedelta) -> None:
        """They cannot be applied just now, which is no fault of theirs."""
        await self._connection.execute(WAIT, {"ids": event_ids, "pause": pause})

    async def put_off(self, event_id: str, error: str, pause: timedelta | None) -> None:
        """It could not be applied; it is tried again after the pause, or not any more."""
        change = update(daily_events).where(daily_events.c.id == event_id)
        due_at = None if pause is None else CLOCK + pause
        await self._connection.execute(change.values(attempts=daily_events.c.attempts + 1, error=error, due_at=due_at))

    async def forget(self, older_than: timedelta, events: int) -> int:
        """Removes so many old events at the most; returns how many."""
        old = select(daily_events.c.id).where(daily_events.c.received_at < func.now() - older_than).limit(events)
        gone = delete(daily_events).where(daily_events.c.id.in_(old.scalar_subquery()))
        return (await self._connection.execute(gone)).rowcount
