"""The inbox: every event that Daily sent, once, until it has been applied and for some time after."""

from dataclasses import fields
from datetime import timedelta

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Event
from storage.queue import CLOCK
from storage.tables import daily_events

COLUMNS = [daily_events.c[field.name] for field in fields(Event)]
DUE = daily_events.c.due_at <= CLOCK
UNCLAIMED = {"skip_locked": True}


class Inbox:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rooms(self, rooms: int) -> list[str]:
        """So many of the rooms that events wait for, longest first, however many wait for each."""
        waiting = select(daily_events.c.room_name).where(DUE, daily_events.c.room_name.is_not(None))
        waiting = waiting.group_by(daily_events.c.room_name).order_by(func.min(daily_events.c.due_at))
        return list(await self._connection.scalars(waiting.limit(rooms)))

    async def hurry(self) -> None:
        """The transaction waits for no lock that somebody keeps: other rooms' events come after it."""
        await self._connection.execute(text("SET LOCAL lock_timeout = '500ms'"))

    async def of_room(self, room_name: str, events: int) -> list[Event]:
        """The room's events that are due, oldest first, which nobody else can apply until the transaction ends."""
        query = select(*COLUMNS).where(DUE, daily_events.c.room_name == room_name)
        query = query.order_by(daily_events.c.received_at).limit(events).with_for_update(skip_locked=True)
        return [Event(*row) for row in await self._connection.execute(query)]

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
        change = update(daily_events).where(daily_events.c.id.in_(event_ids))
        await self._connection.execute(change.values(due_at=None, error=None))

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
