"""The inbox: every event that Daily sent, once, until it has been applied and for some time after."""

from dataclasses import fields
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Event
from storage.queue import CLOCK
from storage.tables import daily_events

COLUMNS = [daily_events.c[field.name] for field in fields(Event)]
DUE = daily_events.c.due_at <= CLOCK


class Inbox:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rooms(self, events: int, apart_from: list[str]) -> list[str]:
        """The rooms, apart from these, that the events which have waited longest are about."""
        room = daily_events.c.room_name
        waiting = select(room).where(DUE, room.is_not(None), room.not_in(apart_from))
        rows = await self._connection.execute(waiting.order_by(daily_events.c.due_at).limit(events))
        return list(dict.fromkeys(rows.scalars()))

    async def of_room(self, room_name: str, events: int) -> list[Event]:
        """The room's events that are due, oldest first, which nobody else can apply until the transaction ends."""
        query = select(*COLUMNS).where(DUE, daily_events.c.room_name == room_name)
        query = query.order_by(daily_events.c.received_at).limit(events).with_for_update(skip_locked=True)
        return [Event(*row) for row in await self._connection.execute(query)]

    async def of_no_room(self, events: int, lease: timedelta) -> list[Event]:
        """Events of which it must be found out what room they are about: ours until the lease ends."""
        due = select(daily_events.c.digest).where(DUE, daily_events.c.room_name.is_(None))
        due = due.order_by(daily_events.c.due_at).limit(events).with_for_update(skip_locked=True)
        claim = update(daily_events).where(daily_events.c.digest.in_(due.scalar_subquery()))
        claimed = claim.values(due_at=CLOCK + lease).returning(*COLUMNS)
        return [Event(*row) for row in await self._connection.execute(claimed)]

    async def belongs(self, digest: bytes, room_name: str) -> None:
        """It has been found out what room the event is about."""
        change = update(daily_events).where(daily_events.c.digest == digest)
        await self._connection.execute(change.values(room_name=room_name, due_at=CLOCK))

    async def applied(self, digests: list[bytes]) -> None:
        change = update(daily_events).where(daily_events.c.digest.in_(digests))
        await self._connection.execute(change.values(due_at=None, error=None))

    async def put_off(self, digest: bytes, error: str, pause: timedelta | None) -> None:
        """It could not be applied; it is tried again after the pause, or not any more."""
        change = update(daily_events).where(daily_events.c.digest == digest)
        due_at = None if pause is None else CLOCK + pause
        await self._connection.execute(change.values(attempts=daily_events.c.attempts + 1, error=error, due_at=due_at))

    async def forget(self, older_than: timedelta, events: int) -> int:
        """Removes so many old events at the most; returns how many."""
        old = select(daily_events.c.digest).where(daily_events.c.received_at < func.now() - older_than).limit(events)
        gone = delete(daily_events).where(daily_events.c.digest.in_(old.scalar_subquery()))
        return (await self._connection.execute(gone)).rowcount
