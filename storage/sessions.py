"""What can be done with sessions inside a transaction."""

from dataclasses import fields
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import NewSession, Session, SessionStatus
from storage.tables import sessions

COLUMNS = [sessions.c[field.name] for field in fields(Session)]
VISIBLE = sessions.c.room_created_at.is_not(None)
UNCONFIRMED = and_(sessions.c.room_created_at.is_(None), sessions.c.delete_requested_at.is_(None))
# lease_until is cut to milliseconds, and so is the clock that it is compared with: a lease given up is over at once.
CLOCK = func.date_trunc("milliseconds", func.clock_timestamp())

BY_NAME = select(*COLUMNS).where(VISIBLE, sessions.c.room_name == bindparam("room_name"))
# It keeps out other changes of the session, but not the new participants whose foreign key points at it.
LOCK = BY_NAME.with_for_update(key_share=True)
BY_KEY = select(*COLUMNS).where(
    sessions.c.created_by == bindparam("created_by"),
    sessions.c.idempotency_key == bindparam("idempotency_key"),
)


class Sessions:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(
        self, new: NewSession, room_name: str, created_by: str, key: str | None, lease: timedelta
    ) -> Session | None:
        """Commits to creating a session, for as long as the lease lasts. With a key that was used before: takes over a
        creation that was given up, and returns None while it is somebody else's or done."""
        values = {
            "course_id": new.course_id,
            "starts_at": new.starts_at,
            "recording_enabled": new.recording_enabled,
            "max_participants": new.max_participants,
            "room_name": room_name,
            "created_by": created_by,
            "idempotency_key": key,
            "lease_until": CLOCK + lease,
        }
        claim = insert(sessions).values(values)
        claim = claim.on_conflict_do_update(
            index_elements=["created_by", "idempotency_key"],
            index_where=sessions.c.idempotency_key.is_not(None),
            set_={"lease_until": claim.excluded.lease_until},
            where=and_(UNCONFIRMED, sessions.c.lease_until <= CLOCK),
        )
        return await self._one(claim.returning(*COLUMNS))

    async def by_key(self, created_by: str, key: str) -> Session | None:
        return await self._one(BY_KEY, created_by=created_by, idempotency_key=key)

    async def confirm_room(self, session_id: UUID) -> Session | None:
        """The session has its room and becomes visible; None when its creation was abandoned meanwhile."""
        change = update(sessions).where(sessions.c.id == session_id, sessions.c.delete_requested_at.is_(None))
        now = func.coalesce(sessions.c.room_created_at, func.now())
        return await self._one(change.values(room_created_at=now).returning(*COLUMNS))

    async def release(self, session_id: UUID) -> None:
        """Ends the lease of a creation, so that a repeated call or the reconciler can go on with it."""
        await self._connection.execute(
            update(sessions).where(sessions.c.id == session_id, UNCONFIRMED).values(lease_until=CLOCK)
        )

    async def abandoned(self, older_than: timedelta) -> list[Session]:
        """Creations that nobody has worked on for so long."""
        expired = and_(sessions.c.room_created_at.is_(None), sessions.c.lease_until <= CLOCK - older_than)
        return await self._all(select(*COLUMNS).where(expired).order_by(sessions.c.created_at).limit(100))

    async def abandon(self, session_id: UUID) -> bool:
        """Takes a creation back for good, and frees its key; False when somebody took it over or confirmed it."""
        change = update(sessions).where(
            sessions.c.id == session_id, sessions.c.room_created_at.is_(None), sessions.c.lease_until <= CLOCK
        )
        result = await self._connection.execute(
            change.values(delete_requested_at=func.now(), idempotency_key=None).returning(sessions.c.id)
        )
        return result.first() is not None

    async def drop(self, session_id: UUID) -> None:
        """Removes a session that never had a room."""
        await self._connection.execute(
            delete(sessions).where(sessions.c.id == session_id, sessions.c.room_created_at.is_(None))
        )

    async def by_name(self, room_name: str) -> Session | None:
        return await self._one(BY_NAME, room_name=room_name)

    async def lock(self, room_name: str) -> Session | None:
        """The session, which no other transaction can change until this one ends."""
        return await self._one(LOCK, room_name=room_name)

    async def make_live(self, session_id: UUID) -> bool:
        """scheduled → live; False when it was not scheduled."""
        change = update(sessions).where(sessions.c.id == session_id, sessions.c.status == SessionStatus.SCHEDULED)
        result = await self._connection.execute(
            change.values(status=SessionStatus.LIVE, updated_at=func.now()).returning(sessions.c.id)
        )
        return result.first() is not None

    async def give_back_scheduled(self, session_id: UUID) -> None:
        change = update(sessions).where(sessions.c.id == session_id, sessions.c.status == SessionStatus.LIVE)
        await self._connection.execute(change.values(status=SessionStatus.SCHEDULED, updated_at=func.now()))

    async def end(self, session_id: UUID) -> Session:
        """The session as ended; one that had ended is left as it is."""
        ended = sessions.c.status == SessionStatus.ENDED
        change = update(sessions).where(sessions.c.id == session_id)
        change = change.values(
            status=SessionStatus.ENDED,
            ends_at=func.coalesce(sessions.c.ends_at, func.now()),
            updated_at=case((ended, sessions.c.updated_at), else_=func.now()),
        )
        session = await self._one(change.returning(*COLUMNS))
        assert session is not None
        return session

    async def request_delete(self, session_id: UUID) -> None:
        await self._connection.execute(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(delete_requested_at=func.coalesce(sessions.c.delete_requested_at, func.now()))
        )

    async def room_deleted(self, session_id: UUID, for_good_after: timedelta) -> None:
        """The deletion is finished, unless the room was made so lately that a first request to make it, sent again
        since, may yet make it once more. Then the deletion stays asked for, and is done again."""
        settled = sessions.c.room_created_at <= func.now() - for_good_after
        await self._connection.execute(
            update(sessions)
            .where(sessions.c.id == session_id, settled)
            .values(room_deleted_at=func.coalesce(sessions.c.room_deleted_at, func.now()))
        )

    async def undeleted(self, older_than: timedelta) -> list[Session]:
        """Sessions whose deletion was asked for so long ago that no call can still be working on it."""
        due = and_(
            VISIBLE,
            sessions.c.room_deleted_at.is_(None),
            sessions.c.delete_requested_at <= func.now() - older_than,
        )
        return await self._all(select(*COLUMNS).where(due).order_by(sessions.c.delete_requested_at).limit(100))

    async def _one(self, statement: object, **values: object) -> Session | None:
        row = (await self._connection.execute(statement, values)).first()  # type: ignore[call-overload]
        return None if row is None else Session(*row)

    async def _all(self, statement: object, **values: object) -> list[Session]:
        rows = await self._connection.execute(statement, values)  # type: ignore[call-overload]
        return [Session(*row) for row in rows]
