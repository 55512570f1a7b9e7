"""Attendance: when each participant was in the room of a session, and for how much of it."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from server.caller import Caller
from server.usecases import rules
from server.usecases.service import Service
from storage.attendance import Period
from storage.model import Attended, Role
from storage.store import Transaction

CHUNK = 1000
"""Participants that a whole report reads at once."""

Cursor = tuple[datetime, UUID]
Stay = tuple[datetime, datetime | None]
"""When it began, and when it ended unless it goes on."""


@dataclass(frozen=True, slots=True)
class Attendance:
    id: UUID
    created_at: datetime
    """When the participant was recorded."""
    user_id: str
    name: str | None
    role: Role
    duration: int
    """Whole seconds."""
    share: float
    stays: list[Stay]
    """Merged, oldest first; at least one."""

    @property
    def joined_at(self) -> datetime:
        return self.stays[0][0]

    @property
    def left_at(self) -> datetime | None:
        return self.stays[-1][1]


async def attendance(
    service: Service, caller: Caller, room_name: str, limit: int | None, after: Cursor | None
) -> list[Attendance]:
    people, period = await service.store.run(_attended, caller, room_name, limit, after, None)
    return [_reported(one, period) for one in people]


async def all_attendance(service: Service, caller: Caller, room_name: str) -> AsyncIterator[Attendance]:
    """As of one moment. Read some at a time, so that ten thousand keep nobody else waiting."""
    people, period = await service.store.run(_attended, caller, room_name, CHUNK, None, None)
    while people:
        for one in people:
            yield _reported(one, period)
        after = people[-1].created_at, people[-1].id
        people, _ = await service.store.run(_attended, caller, room_name, CHUNK, after, period)


async def _attended(
    tx: Transaction, caller: Caller, room_name: str, limit: int | None, after: Cursor | None, period: Period | None
) -> tuple[list[Attended], Period]:
    session = rules.found(await tx.sessions.by_name(room_name))
    rules.owns(caller, session, "list attendance of")
    people = await tx.attendance.of_session(session.id, limit, after)
    return people, period or await tx.attendance.period(session.id)


def _reported(attended: Attended, period: Period) -> Attendance:
    stays = merged(attended.stays)
    inside = sum(((left or max(period.now, joined)) - joined for joined, left in stays), timedelta())
    return Attendance(
        attended.id,
        attended.created_at,
        attended.user_id,
        attended.name,
        attended.role,
        duration=int(inside.total_seconds()),
        share=_share(inside, period),
        stays=stays,
    )


def _share(inside: timedelta, period: Period) -> float:
    """Not more than all of it, though somebody stays for a while after the end."""
    lasted = timedelta() if period.began_at is None else period.ended_at - period.began_at
    return round(min(inside / lasted, 1.0), 2) if lasted > timedelta() else 0.0


def merged(stays: Iterable[Stay]) -> list[Stay]:
    """Those of several devices that overlap, or follow each other at once, are one. An end before its beginning, as
    Daily's whole seconds can have it, is at its beginning."""
    whole: list[Stay] = []
    for joined, left in sorted(stays, key=lambda stay: stay[0]):
        left = None if left is None else max(left, joined)
        if not whole or (whole[-1][1] is not None and whole[-1][1] < joined):
            whole.append((joined, left))
        elif whole[-1][1] is not None and (left is None or left > whole[-1][1]):
            whole[-1] = (whole[-1][0], left)
    return whole
