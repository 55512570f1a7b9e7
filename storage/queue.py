"""What is due. A row with something to be done says in `due_at` when, by PostgreSQL's clock: set with the intent, moved
on by each try, cleared by the outcome.

Who takes an item moves its `due_at` to the end of their lease, and holds it until then, as long as nobody has moved it
again: a worker that was frozen, or that an intent of a caller has overtaken, cannot put the item off any more. So what
makes an item due moves it in any case: see `sooner`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Chore, Meeting, Moderation, Outbox, Recording, Session
from storage.tables import chores, daily_events, meetings, moderations, outboxes, recordings, sessions

CLOCK = func.clock_timestamp()
"""The moment itself: for what is written."""
NOW = func.statement_timestamp()
"""For what is looked for, as it stands still while a statement runs: no index can be searched by what moves on."""
TABLE_OF = {
    Session: sessions,
    Moderation: moderations,
    Recording: recordings,
    Meeting: meetings,
    Outbox: outboxes,
    Chore: chores,
}
Item = Session | Moderation | Recording | Meeting | Outbox | Chore


class Line(Enum):
    """Where items stand, each line in the order in which they are due."""

    ENDS = "end"
    CLOSINGS = "closing"
    SESSIONS = "session"
    MODERATIONS = "moderation"
    STARTS = "start"
    RECORDINGS = "recording"
    MEETINGS = "meeting"
    OUTBOXES = "outbox"
    CHORES = "chore"


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many items of a line are due, and since when the first of them: the moment, and the seconds."""

    line: str
    items: int
    since: datetime | None
    seconds: float


_asked = sessions.c.end_requested_at.is_not(None)
_ended = sessions.c.ends_at.is_not(None)
_LINES: dict[Line, tuple[type[Item], ColumnElement[bool]]] = {
    Line.ENDS: (Session, and_(_asked, ~_ended)),
    Line.CLOSINGS: (Session, _ended),
    Line.SESSIONS: (Session, and_(~_asked, ~_ended)),
    Line.MODERATIONS: (Moderation, moderations.c.due_at.is_not(None)),
    Line.STARTS: (Recording, recordings.c.recording_id.is_(None)),
    Line.RECORDINGS: (Recording, recordings.c.recording_id.is_not(None)),
    Line.MEETINGS: (Meeting, meetings.c.due_at.is_not(None)),
    Line.OUTBOXES: (Outbox, outboxes.c.due_at.is_not(None)),
    Line.CHORES: (Chore, chores.c.due_at.is_not(None)),
}


def _take(table: Table, noun: type[Item], stands_there: ColumnElement[bool]) -> Any:
    due = (
        select(table.c.id)
        .where(stands_there, table.c.due_at <= NOW)
        .order_by(table.c.due_at)
        .limit(bindparam("items"))
        .with_for_update(skip_locked=True, key_share=True)
        .cte("due")
    )
    change = update(table).where(table.c.id == due.c.id)
    change = change.values(due_at=CLOCK + bindparam("lease"), attempts=table.c.attempts + 1)
    return change.returning(table.c.attempts, *(table.c[field.name] for field in fields(noun)))


_TAKE: dict[Line, tuple[Callable[..., Item], Any]] = {
    line: (noun, _take(TABLE_OF[noun], noun, stands_there)) for line, (noun, stands_there) in _LINES.items()
}


_IS_DUE = select(
    *(
        exists().where(stands_there, TABLE_OF[noun].c.due_at <= NOW).label(line.name)
        for line, (noun, stands_there) in _LINES.items()
    )
)


def _waiting(line: str, table: Table, stands_there: ColumnElement[bool]) -> Any:
    since = func.min(table.c.due_at)
    seconds = func.coalesce(func.date_part(literal_column("'epoch'"), CLOCK - since), 0.0)
    return select(literal(line), func.count(), since, seconds).where(stands_there, table.c.due_at <= NOW)


_WAITING = union_all(
    *(_waiting(line.value, TABLE_OF[noun], stands_there) for line, (noun, stands_there) in _LINES.items()),
    _waiting("event", daily_events, daily_events.c.due_at.is_not(None)),
)


def sooner(table: Table, at: ColumnElement[datetime] | None) -> ColumnElement[datetime]:
    """The new `due_at` of what is to be due by then, if not before. It is another one in any case, if only by a
    microsecond: whoever is at work on the row has not seen what makes it due, and must not put it off."""
    return func.least(table.c.due_at - timedelta(microseconds=1), at)


class Queue:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lines(self) -> list[Line]:
        """Those in which something is due: a look at all that costs no more than one at any."""
        row = (await self._connection.execute(_IS_DUE)).one()
        return [line for line, is_due in zip(_LINES, row, strict=True) if is_due]

    async def take(self, line: Line, items: int, lease: timedelta) -> list[tuple[Any, int]]:
        """What is due, longest first, and how often each has been tried: ours until the lease ends. What somebody has
        locked is passed over."""
        make, statement = _TAKE[line]
        rows = await self._connection.execute(statement, {"items": items, "lease": lease})
        return [(make(*noun), attempts) for attempts, *noun in rows]

    async def put_off(self, item: Item, pause: timedelta | None) -> bool:
        """It is due again after the pause, or no more; False when it is not ours any longer: it was moved, or the lease
        is over, and what makes it due leaves alone what is due already."""
        table = TABLE_OF[type(item)]
        ours = (table.c.id == item.id, table.c.due_at == item.due_at, table.c.due_at > CLOCK)
        change = update(table).where(*ours)
        due_at = None if pause is None else CLOCK + pause
        return (await self._connection.execute(change.values(due_at=due_at).returning(table.c.id))).first() is not None

    async def waiting(self) -> list[Waiting]:
        """Line by line, and Daily's events."""
        return [Waiting(*row) for row in await self._connection.execute(_WAITING)]
