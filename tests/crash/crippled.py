"""`python -m tests.crash.crippled PART`: a server whose upkeep leaves out a part, for the checker to see.

PART is a line of the queue of what is due, `inbox` (Daily's events), `webhook` (the chore that keeps it right), `eject`
(putting people out of a room that closes), `budget` (what Daily takes of the whole deployment), or a part of what those
who follow a session are told (`WATCHING`). `attendance` is the comparison of meetings and the reading of Daily's list
together, which stand in for each other.
`marked` leaves out all of them, where it can for the sessions alone whose course is named after the part."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import Any

from live_sessions.v1 import resources_pb2 as pb
from server import __main__ as server
from server.caller import Caller
from server.daily.client import Daily
from server.upkeep import attendance, inbox, recordings, sessions, webhook
from server.usecases.service import Service
from server.usecases.watching import Watching
from storage.budgets import Budgets
from storage.model import Role, Session
from storage.store import Transaction

Work = Callable[..., Any]
PARTS = {
    "end": (sessions, "end"),
    "closing": (sessions, "close"),
    "session": (sessions, "look_after"),
    "start": (recordings, "finish_start"),
    "recording": (recordings, "look_after"),
    "attendance": (attendance, "compare"),
    "inbox": (inbox, "_take"),
    "webhook": (webhook, "keep"),
    "eject": (sessions, "close"),
    "budget": (Budgets, "reserve"),
}
WATCHING = {
    "first": "nothing is told at all",
    "resume": "who comes back is told the last change once more",
    "state": "of a state of several events the last one alone is told",
    "change": "a state is told, and no change",
    "owner": "everybody is taken for the instructor",
    "last": "the stream does not end",
}
PARTS |= dict.fromkeys(WATCHING, (Watching, "watch"))
MARKED = "marked"
SOON = timedelta(seconds=2)


async def _nothing(_: Service, item: Any, *__: Any) -> timedelta | None:
    """As far as upkeep can see, it is to be looked at again soon."""
    return SOON


async def _unless_marked(work: Work, course: str, service: Service, item: Any, *more: Any) -> Any:
    session = await service.store.run(_session, item)
    if session is not None and session.course_id == course:
        return await _nothing(service, item)
    return await work(service, item, *more)


async def _session(tx: Transaction, item: Any) -> Session | None:
    return await tx.sessions.by_id(item.id if isinstance(item, Session) else item.session_id)


async def _untold(work: Work, course: str | None, tx: Transaction, *more: Any) -> Any:
    """What Daily's list tells, without the meetings of those sessions, or without any."""
    told = [] if course is None else await work(tx, *more)
    found = [(await tx.sessions.by_id(id), id, record) for id, record in told]
    return [(id, record) for session, id, record in found if session is None or session.course_id != course]


async def _take(work: Work, course: str | None, *more: Any, **how: Any) -> Any:
    """The events that are due, without those of these sessions, or without any."""
    taken, _ = await work(*more, **how)
    if course is None:
        return [], False
    return [(event, session) for event, session in taken if session is None or session.course_id != course], False


_closing: ContextVar[str] = ContextVar("the course of the session that is being closed", default="")


async def _close(work: Work, service: Service, session: Session, attempts: int) -> Any:
    _closing.set(session.course_id)
    return await work(service, session, attempts)


async def _eject(work: Work, course: str | None, *whom: Any, **more: Any) -> None:
    if course not in (None, _closing.get()):
        await work(*whom, **more)


async def _at_once(_: Budgets, __: str, count: int) -> list[float]:
    return [0.0] * count


def _watching(part: str, whole: Work, course: str | None) -> Work:
    async def watch(watching: Watching, caller: Caller | None, room: str, after: int) -> AsyncIterator[bytes]:
        session = await watching._store.session(room)
        left_out = part if session is not None and course in (None, session.course_id) else ""
        if session is not None and left_out == "owner":
            caller = Caller(session.created_by, None, Role.INSTRUCTOR)
        told = after
        resumed = max(0, after - 1) if left_out == "resume" else after
        async with aclosing(whole(watching, caller, room, resumed)) as messages:
            async for message in messages:
                revision = pb.LiveSessionEvent.FromString(message).revision
                untold = {"first": True, "state": revision == 0, "change": told > 0}
                told = told or revision
                if not untold.get(left_out):
                    yield message
        if left_out == "last":
            await asyncio.Event().wait()

    return watch


def course_without(part: str) -> str:
    return f"without {part}"


def leave_out(part: str, *, marked: bool) -> None:
    module, name = PARTS[part]
    course = course_without(part) if marked else None
    whole = getattr(module, name)
    replacement: Work
    if part == "budget":
        replacement = _at_once
    elif part == "eject":
        replacement, eject = partial(_close, whole), Daily.eject
        setattr(Daily, "eject", lambda *whom, **more: _eject(eject, course, *whom, **more))  # noqa: B010
    elif part in WATCHING:
        replacement = _watching(part, whole, course)
    elif part == "inbox":
        replacement = partial(_take, whole, course)
    elif course is None or part == "webhook":
        replacement = _nothing
    else:
        replacement = partial(_unless_marked, whole, course)
    setattr(module, name, replacement)
    if part == "attendance":
        setattr(attendance, "_untold", partial(_untold, attendance._untold, course))  # noqa: B010


if __name__ == "__main__":
    chosen = sys.argv.pop()
    for part in PARTS if chosen == MARKED else [chosen]:
        leave_out(part, marked=chosen == MARKED)
    sys.exit(server.main())
