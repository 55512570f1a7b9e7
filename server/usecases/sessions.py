"""Use cases of sessions. What changes Daily commits the intent first and the outcome after."""

import asyncio
import secrets
from datetime import datetime
from functools import partial
from uuid import UUID

from server import logs
from server.caller import Caller
from server.errors import ServiceError, Unavailable
from server.usecases import ending, rules
from server.usecases.service import POLL_INTERVAL, Service
from storage.errors import StorageError
from storage.model import NewSession, Of, Session, SessionChanges, SessionRow, SessionStatus
from storage.store import Transaction


async def create(service: Service, caller: Caller, new: NewSession, key: str | None) -> Session:
    while True:
        session, ours = await service.store.run(_claim, caller, new, key)
        logs.concerns(session.room_name)
        if session.room_created_at is not None:
            return session
        if ours or ("create", session.id) in service.works:
            made = await service.see_through("create", session, partial(_make_room, service, session))
            if made is not None:
                return made
        await asyncio.sleep(POLL_INTERVAL)


async def _claim(tx: Transaction, caller: Caller, new: NewSession, key: str | None) -> tuple[Session, bool]:
    """The session, and whether it is ours to make its room."""
    claimed = await tx.sessions.claim(new, f"ls-{secrets.token_urlsafe(16)}", caller.id, key, rules.LEASE)
    if claimed is not None:
        return claimed, True
    assert key is not None
    first = await tx.sessions.by_key(caller.id, key)
    if first is None:
        raise Unavailable("the creation under this key was taken back just now")
    rules.same_request(first, new)
    taken_over = await tx.sessions.take_over(first.id, rules.LEASE, put_off_by=rules.LATE)
    return taken_over or first, taken_over is not None


async def _make_room(service: Service, session: Session) -> Session:
    try:
        await service.daily.create_room(
            session.room_name,
            max_participants=session.max_participants,
            recording=session.recording_enabled,
            expires_at=service.lifetimes.room_expires_at(session),
        )
    except (ServiceError, StorageError):  # also a refusal: what was sent before it may yet have its effect
        await service.store.run(_take_back_later, session)
        raise
    confirmed = await service.store.run(_confirm_room, session, service)
    if confirmed is None:
        raise Unavailable("the creation took so long that it was given up")
    return confirmed


async def _confirm_room(tx: Transaction, session: Session, service: Service) -> Session | None:
    return await tx.sessions.confirm_room(session.id, service.lifetimes.no_show)


async def _take_back_later(tx: Transaction, session: Session) -> None:
    await tx.queue.put_off(session, rules.LATE)


async def take_back(service: Service, session: Session) -> None:
    """Gives up a creation that nobody works on any more."""
    if await service.store.run(_take_back, session):
        await service.daily.delete_room(session.room_name)
        await service.store.run(_drop, session)


async def _take_back(tx: Transaction, session: Session) -> bool:
    return session.closes_at is not None or await tx.sessions.take_back(session.id, session.due_at)


async def _drop(tx: Transaction, session: Session) -> None:
    await tx.sessions.drop(session.id)


async def get(service: Service, room_name: str) -> SessionRow:
    return rules.found(await service.store.session(room_name))


async def update(service: Service, caller: Caller, room_name: str, asked: SessionChanges) -> Session:
    session = await service.store.run(_update, caller, room_name, asked)
    if rules.room_is_stale(session):  # in a work of its own for each change, as one under way may tell of another
        await service.see_through(f"update {session.due_at}", session, partial(tell_room, service, session))
    return session


async def _update(tx: Transaction, caller: Caller, room_name: str, asked: SessionChanges) -> Session:
    session = rules.found(await tx.sessions.lock(room_name))
    rules.owns(caller, session, "update")
    values = rules.changes(session, asked)
    if not values:
        return session
    of_room = values.keys() != {"course_id"}
    return await tx.sessions.change(session.id, values, rules.as_created(session), rules.LEASE, of_room=of_room)


async def tell_room(service: Service, session: Session) -> None:
    """What Daily must know of the room. That there is none any more is as good."""
    await service.daily.update_room(
        session.room_name,
        max_participants=session.max_participants,
        recording=session.recording_enabled,
        expires_at=service.lifetimes.room_expires_at(session),
    )


async def list_of(
    service: Service,
    of: Of,
    id: str,
    status: SessionStatus | None,
    limit: int | None,
    after: tuple[datetime, UUID] | None,
) -> list[SessionRow]:
    """An instructor's, or a course's."""
    return await service.store.sessions_of(of, id, status, limit, after)


async def delete(service: Service, caller: Caller, room_name: str) -> Session:
    session = await service.store.run(_ask_to_delete, caller, room_name)
    while session.room_deleted_at is None:
        work = partial(ending.end_and_close, service, session)
        if deleted := await service.see_through("delete", session, work):
            return deleted
    return session


async def _ask_to_delete(tx: Transaction, caller: Caller, room_name: str) -> Session:
    session = rules.found(await tx.sessions.lock(room_name))
    rules.owns(caller, session, "delete")
    if session.room_deleted_at is not None:
        return session
    return await tx.sessions.request_end(session.id, rules.LEASE, closing=ending.AT_ONCE)
