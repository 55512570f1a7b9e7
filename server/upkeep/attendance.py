"""Who was in the room, where the events that told of it were lost: Daily's own records of meetings know."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from server.daily.client import MAX_PAGES, PAGE, Daily, time_of
from storage.model import Connection, Session
from storage.store import Store

ROOMS_PER_PASS = 10
"""Rooms in which somebody still seems to be that one pass asks Daily about."""


async def untold(store: Store, daily: Daily, since: datetime) -> AsyncIterator[tuple[Session, Connection]]:
    """Stays of which Daily's records know more than we were told: in meetings that began after `since`, and in some of
    the rooms in which somebody still seems to be."""
    async for meeting in _meetings(daily, since):
        async for found in _compare(store, meeting):
            yield found
    async with store.statement() as tx:
        rooms = await tx.participants.rooms_with_open_stays(ROOMS_PER_PASS)
    for room_name in rooms:
        for meeting in await daily.meetings(room_name=room_name):
            async for found in _compare(store, meeting):
                yield found


async def write(store: Store, session: Session, stay: Connection) -> None:
    async with store.transaction() as tx:
        await tx.sessions.lock(session.room_name)
        await tx.sessions.make_live(session.id)
        await tx.recordings.keep_live(session.id)
        await tx.participants.polled(session.id, stay)


async def _meetings(daily: Daily, since: datetime) -> AsyncIterator[dict[str, Any]]:
    after: str | None = None
    for _ in range(MAX_PAGES):
        page = await daily.meetings(since=since, after=after)
        for meeting in page:
            yield meeting
        if len(page) < PAGE:
            break
        after = str(page[-1]["id"])


async def _compare(store: Store, meeting: dict[str, Any]) -> AsyncIterator[tuple[Session, Connection]]:
    async with store.transaction() as tx:
        session = await tx.sessions.by_name(str(meeting["room"]))
        if session is None:
            return
        told = {stay.id: stay for stay in await tx.participants.stays(session.id)}
    for person in meeting.get("participants", []):
        stay = _stay(person, ongoing=bool(meeting["ongoing"]))
        known = told.get(stay.id)
        if known is None or known.joined_at is None or (stay.left_at is not None and known.left_at is None):
            yield session, stay


def _stay(person: dict[str, Any], *, ongoing: bool) -> Connection:
    """While the meeting goes on, Daily does not tell who has left it."""
    id = str(person["participant_id"])
    joined_at = float(person["join_time"])
    left_at = None if ongoing else time_of(joined_at + float(person.get("duration") or 0))
    return Connection(id, str(person.get("user_id") or id), time_of(joined_at), left_at)
