"""Use cases of sessions: load, decide, save. What changes Daily commits the intent first and the outcome after."""

import asyncio
import secrets
from datetime import datetime
from uuid import UUID

from server.caller import Caller
from server.daily.client import Daily
from server.errors import Unavailable
from server.usecases import rules
from storage.model import NewSession, Session, SessionRow
from storage.store import Store

POLL_INTERVAL = 0.1
"""Seconds between looks at what another call is doing."""


async def create(store: Store, daily: Daily, caller: Caller, new: NewSession, key: str | None) -> Session:
    while True:
        async with store.transaction() as tx:
            claimed = await tx.sessions.claim(new, _room_name(), caller.id, key, rules.LEASE)
            other = await tx.sessions.by_key(caller.id, key) if key and claimed is None else None
        if claimed is not None:
            rules.same_request(claimed, new)
            return await _make_room(store, daily, claimed)
        if other is not None:
            rules.same_request(other, new)
            if other.room_created_at is not None:
                return other
        await asyncio.sleep(POLL_INTERVAL)


async def _make_room(store: Store, daily: Daily, session: Session) -> Session:
    try:
        await daily.create_room(
            session.room_name, max_participants=session.max_participants, recording=session.recording_enabled
        )
    except Unavailable:  # also a refusal: what was sent before it may yet have its effect
        async with store.transaction() as tx:
            await tx.sessions.release(session.id)
        raise
    async with store.transaction() as tx:
        confirmed = await tx.sessions.confirm_room(session.id)
    if confirmed is None:
        raise Unavailable("the creation took so long that it was given up")
    return confirmed


async def get(store: Store, room_name: str) -> SessionRow:
    return rules.found(await store.session(room_name))


async def of_instructor(
    store: Store, instructor_id: str, limit: int | None, after: tuple[datetime, UUID] | None
) -> list[SessionRow]:
    return await store.sessions_of(instructor_id, limit, after)


async def delete(store: Store, daily: Daily, caller: Caller, room_name: str) -> Session:
    async with store.transaction() as tx:
        session = rules.found(await tx.sessions.lock(room_name))
        rules.owns(caller, session, "delete")
        if session.room_deleted_at is None:
            await tx.sessions.request_delete(session.id)
    if session.room_deleted_at is not None:
        return session
    return await finish_delete(store, daily, session)


async def finish_delete(store: Store, daily: Daily, session: Session) -> Session:
    """Does what a committed request to delete asked for; safe to repeat."""
    async with store.statement() as tx:
        running = await tx.recordings.running(session.id)
    if running is not None:
        await daily.stop_recording(session.room_name, running.id)
    await daily.delete_room(session.room_name)
    async with store.transaction() as tx:
        await tx.sessions.lock(session.room_name)
        running = await tx.recordings.running(session.id)
        if running is not None and running.recording_id is not None:
            await tx.recordings.complete(running.id)
        await tx.sessions.room_deleted(session.id, rules.LATE)
        return await tx.sessions.end(session.id)


async def abandon(store: Store, daily: Daily, session: Session) -> None:
    """Takes back a creation that nobody works on any more."""
    async with store.transaction() as tx:
        abandoned = await tx.sessions.abandon(session.id)
    if abandoned:
        await daily.delete_room(session.room_name)
        async with store.transaction() as tx:
            await tx.sessions.drop(session.id)


def _room_name() -> str:
    return f"ls-{secrets.token_urlsafe(16)}"
