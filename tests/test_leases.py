"""What makes an item due is never lost to whoever is at work on it: their lease is no longer theirs, whenever it would
have ended, and they cannot put off what they have not seen."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Table, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.meetings import Meetings
from storage.moderation import Moderations
from storage.queue import TABLE_OF, Line, Queue
from storage.sessions import Sessions
from storage.tables import meetings, moderations, outboxes, sessions

LEASE = timedelta(seconds=17)
SOON, LATER = timedelta(seconds=8), timedelta(minutes=15)
LONG_AGO, NOW = datetime(1999, 1, 1, tzinfo=UTC), datetime.now(UTC)


async def new_session(connection: AsyncConnection, status: str, due_at: datetime | None) -> UUID:
    values = {"course_id": "algebra", "room_name": "room", "starts_at": NOW + LATER, "created_by": "ada"}
    made = insert(sessions).values(**values, status=status, due_at=due_at, room_created_at=NOW)
    return UUID(str((await connection.execute(made.returning(sessions.c.id))).scalar_one()))


async def a_session(connection: AsyncConnection, status: str) -> UUID:
    return await new_session(connection, status, LONG_AGO)


async def a_meeting(connection: AsyncConnection) -> UUID:
    session = await new_session(connection, "live", None)
    await connection.execute(insert(meetings).values(id="meeting", session_id=session, due_at=LONG_AGO))
    return session


async def a_moderation(connection: AsyncConnection) -> UUID:
    session = await new_session(connection, "live", None)
    await connection.execute(insert(moderations).values(id=session, due_at=LONG_AGO))
    return session


async def an_outbox(connection: AsyncConnection) -> UUID:
    session = await new_session(connection, "live", None)
    await connection.execute(insert(outboxes).values(id=session, due_at=LONG_AGO))
    return session


async def tell(connection: AsyncConnection, session: UUID) -> None:
    """An event is to be delivered."""
    await connection.execute(text("SET LOCAL live_sessions.deliver = 'on'"))
    await connection.execute(text("UPDATE sessions SET course_id = course_id || 'x' WHERE id = :id"), {"id": session})


async def due_at(connection: AsyncConnection, table: Table, id: object) -> datetime | None:
    return (await connection.execute(select(table.c.due_at).where(table.c.id == id))).scalar_one()


Make = Callable[[AsyncConnection], Awaitable[UUID]]
Change = Callable[[AsyncConnection, UUID], Awaitable[object]]
CHANGES: dict[str, tuple[Line, Make, Change]] = {
    "the meeting has ended": (
        Line.MEETINGS,
        a_meeting,
        lambda c, session: Meetings(c).seen(session, "meeting", None, NOW, LATER),
    ),
    "nobody is left in the meeting": (Line.MEETINGS, a_meeting, lambda c, session: Meetings(c).look_at(session, LATER)),
    "nobody is left in the session": (
        Line.SESSIONS,
        lambda c: a_session(c, "live"),
        lambda c, session: Sessions(c).look_again(session, NOW + LATER),
    ),
    "the session is live": (
        Line.SESSIONS,
        lambda c: a_session(c, "scheduled"),
        lambda c, session: Sessions(c).make_live([session], LATER),
    ),
    "the session is live, which no rule ends": (
        Line.SESSIONS,
        lambda c: a_session(c, "scheduled"),
        lambda c, session: Sessions(c).make_live([session], None),
    ),
    "the session is scheduled again": (
        Line.SESSIONS,
        lambda c: a_session(c, "live"),
        lambda c, session: Sessions(c).give_back_scheduled(session),
    ),
    "somebody is removed": (Line.MODERATIONS, a_moderation, lambda c, session: Moderations(c).due(session, LATER)),
    "somebody is muted": (Line.MODERATIONS, a_moderation, lambda c, session: Moderations(c).due(session, SOON)),
    "an event is to be delivered": (Line.OUTBOXES, an_outbox, tell),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_overtakes_whoever_is_at_work_on_the_item(connection: AsyncConnection, change: str) -> None:
    line, make, happens = CHANGES[change]
    session = await make(connection)
    [(taken, _)] = await Queue(connection).take(line, 1, LEASE)
    await happens(connection, session)
    assert not await Queue(connection).put_off(taken, None)
    due_again = await due_at(connection, TABLE_OF[type(taken)], taken.id)
    assert due_again is not None
    assert due_again < taken.due_at


async def test_who_outlasts_their_lease_has_lost_it(connection: AsyncConnection) -> None:
    """What is due already is left where it is by what makes it due."""
    session = await an_outbox(connection)
    [(taken, _)] = await Queue(connection).take(Line.OUTBOXES, 1, timedelta())
    await tell(connection, session)
    assert not await Queue(connection).put_off(taken, None)
    assert await due_at(connection, outboxes, session) == taken.due_at


async def test_who_finishes_in_time_puts_the_item_off(connection: AsyncConnection) -> None:
    session = await an_outbox(connection)
    [(taken, _)] = await Queue(connection).take(Line.OUTBOXES, 1, LEASE)
    assert await Queue(connection).put_off(taken, None)
    assert await due_at(connection, outboxes, session) is None


async def test_a_meeting_that_has_ended_keeps_its_pause_whoever_leaves(connection: AsyncConnection) -> None:
    """A record that Daily never finishes is looked at every ten minutes, not with each look at who is there."""
    session = await a_meeting(connection)
    await Meetings(connection).seen(session, "meeting", None, NOW, LATER)
    before = await due_at(connection, meetings, "meeting")
    await Meetings(connection).look_at(session, SOON)
    assert await due_at(connection, meetings, "meeting") == before
