"""The inbox: every event that Daily sent, once, until it has been applied and for some time after."""

from dataclasses import fields
from datetime import timedelta

from sqlalchemy import Interval, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Event
from storage.queue import CLOCK, NOW
from storage.tables import daily_events

COLUMNS = [daily_events.c[field.name] for field in fields(Event)]
DUE = daily_events.c.due_at <= NOW
# Those that were tried least come first, so that none keeps another waiting.
IN_TURN = (daily_events.c.attempts, daily_events.c.due_at)
OF_KNOWN_ROOMS = select(*COLUMNS).where(DUE, daily_events.c.room_name.is_not(None)).order_by(*IN_TURN)
TAKE = OF_KNOWN_ROOMS.limit(bindparam("events")).with_for_update(skip_locked=True)
_THESE = daily_events.c.digest == func.any(bindparam("digests", type_=ARRAY(BYTEA)))
# With one array, for with a list of parameters each number of events would be another statement.
APPLIED = update(daily_events).where(_THESE).values(due_at=None, error=None)
WAIT = update(daily_events).where(_THESE).values(due_at=CLOCK + bindparam("pause", type_=Interval))


class Inbox:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def due(self, events: int, room_name: str | None = None) -> list[Event]:
        """Of rooms that are known, or of this one, what has waited longest; nobody else can apply it until the
        transaction ends."""
        take = TAKE if room_name is None else TAKE.where(daily_events.c.room_name == room_name)
        return [Event(*row) for row in await self._connection.execute(take, {"events": events})]

    async def rooms(self, events: int) -> list[str]:
        """The rooms that the events which have waited longest are about."""
        rows = await self._connection.execute(OF_KNOWN_ROOMS.with_only_columns(daily_events.c.room_name).limit(events))
        return list(dict.fromkeys(rows.scalars()))

    async def hurry(self) -> None:
        """The transaction waits for no lock that somebody keeps: other rooms' events come after it."""
        await self._connection.execute(text("SET LOCAL lock_timeout = '500ms'"))

    async def leave_alone(self, room_name: str, pause: timedelta) -> None:
        """None of the room's events can be applied just now, which is no fault of theirs."""
        change = update(daily_events).where(DUE, daily_events.c.room_name == room_name)
        await self._connection.execute(change.values(due_at=CLOCK + pause))

    async def of_no_room(self, events: int, lease: timedelta) -> list[Event]:
        """Events of which it must be found out what room they are about: ours until the lease ends."""
        due = select(daily_events.c.digest).where(DUE, daily_events.c.room_name.is_(None))
        due = due.order_by(*IN_TURN).limit(events).with_for_update(skip_locked=True)
        claim = update(daily_events).where(daily_events.c.digest.in_(due.scalar_subquery()))
        claimed = claim.values(due_at=CLOCK + lease).returning(*COLUMNS)
        return [Event(*row) for row in await self._connection.execute(claimed)]

    async def belongs(self, digest: bytes, room_name: str) -> None:
        """It has been found out what room the event is about."""
        change = update(daily_events).where(daily_events.c.digest == digest)
        await self._connection.execute(change.values(room_name=room_name, due_at=CLOCK))

    async def applied(self, digests: list[bytes]) -> None:
        await self._connection.execute(APPLIED, {"digests": digests})

    async def wait(self, digests: list[bytes], pause: timedelta) -> None:
        """They cannot be applied just now, which is no fault of theirs."""
        await self._connection.execute(WAIT, {"digests": digests, "pause": pause})

    async def put_off(self, digests: list[bytes], error: str, longest: int) -> None:
        """They could not be applied: they are tried again after a second, and after twice as long with each try."""
        pause = func.make_interval(0, 0, 0, 0, 0, 0, func.least(longest, func.power(2, daily_events.c.attempts)))
        change = update(daily_events).where(_THESE)
        change = change.values(attempts=daily_events.c.attempts + 1, error=error, due_at=CLOCK + pause)
        await self._connection.execute(change, {"digests": digests})

    async def give_up(self, digest: bytes, error: str) -> None:
        change = update(daily_events).where(daily_events.c.digest == digest)
        await self._connection.execute(change.values(attempts=daily_events.c.attempts + 1, error=error, due_at=None))

    async def unapplied(self) -> int:
        """Events that are due, or will be again."""
        rows = await self._connection.execute(select(func.count()).where(daily_events.c.due_at.is_not(None)))
        return int(rows.scalar_one())

    async def forget(self, older_than: timedelta, events: int) -> int:
        """Removes so many old events at the most; returns how many."""
        old = select(daily_events.c.digest).where(daily_events.c.received_at < func.now() - older_than).limit(events)
        gone = delete(daily_events).where(daily_events.c.digest.in_(old.scalar_subquery()))
        return (await self._connection.execute(gone)).rowcount
