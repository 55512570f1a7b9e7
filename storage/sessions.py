"""What can be done with sessions inside a transaction."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import NewSession, Session, SessionStatus
from storage.queue import CLOCK, sooner
from storage.tables import sessions

COLUMNS = [sessions.c[field.name] for field in fields(Session)]
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
VISIBLE = sessions.c.room_created_at.is_not(None)
UNCONFIRMED = and_(sessions.c.room_created_at.is_(None), sessions.c.closes_at.is_(None))

BY_NAME = select(*COLUMNS).where(VISIBLE, sessions.c.room_name == bindparam("room_name"))
# It keeps out other changes of the session, but not the new participants whose foreign key points at it.
LOCK = BY_NAME.with_for_update(key_share=True)
_OF_ROOMS = sessions.c.room_name == func.any(bindparam("room_names", type_=ARRAY(TEXT)))
LOCK_FREE = select(*COLUMNS).where(_OF_ROOMS).with_for_update(key_share=True, skip_locked=True)
ROOMS_OF_OURS = select(sessions.c.room_name).where(_OF_ROOMS)
BY_ID = select(*COLUMNS).where(sessions.c.id == bindparam("id"))
LOCK_BY_ID = BY_ID.with_for_update(key_share=True)
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
        """Commits to creating a session, for as long as the lease lasts; None when the key was used before."""
        values = {
            "course_id": new.course_id,
            "starts_at": new.starts_at,
            "recording_enabled": new.recording_enabled,
            "max_participants": new.max_participants,
            "room_name": room_name,
            "created_by": created_by,
            "idempotency_key": key,
            "due_at": CLOCK + lease,
        }
        claim = insert(sessions).values(values)
        claim = claim.on_conflict_do_nothing(
            index_elements=["created_by", "idempotency_key"],
            index_where=sessions.c.idempotency_key.is_not(None),
        )
        return await self._one(claim.returning(*COLUMNS))

    async def take_over(self, session_id: UUID, lease: timedelta, put_off_by: timedelta) -> Session | None:
        """Goes on with a creation that was put off, by so much at the most; None while somebody works on it, or when it
        is done."""
        idle = sessions.c.due_at <= CLOCK + put_off_by
        change = update(sessions).where(sessions.c.id == session_id, UNCONFIRMED, idle)
        return await self._one(change.values(due_at=CLOCK + lease).returning(*COLUMNS))

    async def by_key(self, created_by: str, key: str) -> Session | None:
        return await self._one(BY_KEY, created_by=created_by, idempotency_key=key)

    async def confirm_room(self, session_id: UUID, no_show: timedelta | None) -> Session | None:
        """The session has its room and becomes visible; due when nobody has come for so long after its start. None when
        its creation was taken back meanwhile."""
        change = update(sessions).where(sessions.c.id == session_id, sessions.c.closes_at.is_(None))
        starts_at = func.greatest(sessions.c.starts_at, sessions.c.created_at)
        due_at = None if no_show is None else func.least(starts_at + no_show, END_OF_TIME)
        return await self._one(
            change.values(
                room_created_at=func.coalesce(sessions.c.room_created_at, func.now()),
                due_at=due_at,
                attempts=0,
            ).returning(*COLUMNS)
        )

    async def take_back(self, session_id: UUID, lease: datetime | None) -> bool:
        """Gives a creation up for good, and frees its key; False when somebody went on with it or confirmed it."""
        change = update(sessions).where(sessions.c.id == session_id, UNCONFIRMED, sessions.c.due_at == lease)
        change = change.values(closes_at=CLOCK, idempotency_key=None)
        return (await self._connection.execute(change.returning(sessions.c.id))).first() is not None

    async def drop(self, session_id: UUID) -> None:
        """Removes a session that never had a room."""
        await self._connection.execute(
            delete(sessions).where(sessions.c.id == session_id, sessions.c.room_created_at.is_(None))
        )

    async def by_name(self, room_name: str) -> Session | None:
        return await self._one(BY_NAME, room_name=room_name)

    async def by_id(self, session_id: UUID) -> Session | None:
        return await self._one(BY_ID, id=session_id)

    async def lock(self, room_name: str) -> Session | None:
        """The session, which no other transaction can change until this one ends."""
        return await self._one(LOCK, room_name=room_name)

    async def lock_by_id(self, session_id: UUID) -> Session | None:
        return await self._one(LOCK_BY_ID, id=session_id)

    async def lock_free(self, room_names: list[str]) -> dict[str, Session | None]:
        """The sessions, confirmed or not, of those of the rooms that nobody else has locked; None for a room of which
        there is no session."""
        rows = await self._connection.execute(LOCK_FREE, {"room_names": room_names})
        free: dict[str, Session | None] = {session.room_name: session for session in (Session(*row) for row in rows)}
        if rest := [name for name in room_names if name not in free]:
            locked = set((await self._connection.execute(ROOMS_OF_OURS, {"room_names": rest})).scalars())
            free.update((name, None) for name in rest if name not in locked)
        return free

    async def ours(self, room_names: list[str]) -> dict[str, UUID]:
        """Those of the rooms that are ours, and whose sessions' rooms they are."""
        query = select(sessions.c.room_name, sessions.c.id).where(sessions.c.room_name.in_(room_names))
        return {row.room_name: row.id for row in await self._connection.execute(query)}

    async def make_live(self, session_ids: list[UUID], look_after: timedelta | None) -> bool:
        """scheduled → live, and due for a look after so long, if not before; False when none was scheduled."""
        these = sessions.c.id == func.any(bindparam("session_ids", session_ids, ARRAY(UUID_)))
        change = update(sessions).where(these, sessions.c.status == SessionStatus.SCHEDULED)
        result = await self._connection.execute(
            change.values(
                status=SessionStatus.LIVE,
                live_at=func.now(),
                due_at=sooner(sessions, None if look_after is None else CLOCK + look_after),
                updated_at=func.now(),
            ).returning(sessions.c.id)
        )
        return result.first() is not None

    async def give_back_scheduled(self, session_id: UUID) -> None:
        """live → scheduled; looked at again when its start is far behind."""
        change = update(sessions).where(
            sessions.c.id == session_id,
            sessions.c.status == SessionStatus.LIVE,
            sessions.c.end_requested_at.is_(None),
        )
        await self._connection.execute(
            change.values(
                status=SessionStatus.SCHEDULED,
                live_at=None,
                due_at=sooner(sessions, sessions.c.starts_at),
                updated_at=func.now(),
            )
        )

    async def seen_empty(self, session_id: UUID) -> None:
        """Daily says that nobody is in the room."""
        await self._connection.execute(
            update(sessions).where(sessions.c.id == session_id).values(seen_empty_at=func.now())
        )

    async def change(
        self, session_id: UUID, values: dict[str, object], created_as: str, lease: timedelta, *, of_room: bool
    ) -> Session:
        """Changes these columns; what Daily must know `of_room` is ours to tell it, for as long as the lease lasts, and
        due then."""
        room = {"room_changed_at": CLOCK, "due_at": CLOCK + lease, "attempts": 0} if of_room else {}
        first = case((sessions.c.idempotency_key.is_not(None), func.coalesce(sessions.c.created_as, created_as)))
        session = await self._one(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(**values, **room, created_as=first, updated_at=func.now())
            .returning(*COLUMNS)
        )
        assert session is not None
        return session

    async def room_updated(self, session_id: UUID, changed_at: datetime) -> None:
        """Daily knows what was so then."""
        change = update(sessions).where(sessions.c.id == session_id)
        await self._connection.execute(change.values(room_updated_at=changed_at))

    async def look_again(self, session_id: UUID, at: datetime) -> None:
        """A live session is due by then."""
        change = update(sessions).where(
            sessions.c.id == session_id,
            sessions.c.status == SessionStatus.LIVE,
            sessions.c.end_requested_at.is_(None),
        )
        await self._connection.execute(change.values(due_at=sooner(sessions, literal(at))))

    async def request_end(
        self, session_id: UUID, lease: timedelta, closing: timedelta | None, as_of: datetime | None = None
    ) -> Session:
        """Commits to ending the session, as of now or `as_of`, and to removing its room after the closing time, if
        there is one; what was asked for before, and is earlier, stays."""
        closes_at = None if closing is None else func.least(sessions.c.closes_at, CLOCK + closing)
        session = await self._one(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(
                end_requested_at=func.coalesce(sessions.c.end_requested_at, as_of, func.now()),
                closes_at=sessions.c.closes_at if closes_at is None else closes_at,
                due_at=CLOCK + lease,
                attempts=0,
            )
            .returning(*COLUMNS)
        )
        assert session is not None
        return session

    async def end(self, session_id: UUID, *, closing: bool) -> Session:
        """The session as ended, as of when that was asked for, and due when its room is to be removed, unless whoever
        ends it is also `closing` it. One that had ended is left as it is."""
        open_still = sessions.c.ends_at.is_(None)
        due_at = sessions.c.due_at if closing else case((open_still, sessions.c.closes_at), else_=sessions.c.due_at)
        session = await self._one(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(
                status=SessionStatus.ENDED,
                ends_at=func.coalesce(sessions.c.ends_at, sessions.c.end_requested_at),
                due_at=due_at,
                attempts=case((open_still, 0), else_=sessions.c.attempts),
                updated_at=case((open_still, func.now()), else_=sessions.c.updated_at),
            )
            .returning(*COLUMNS)
        )
        assert session is not None
        return session

    async def room_deleted(self, session_id: UUID, settled_after: timedelta) -> None:
        """The room is removed for good, unless it was made so lately that a first request to make it, sent again since,
        may yet make it once more, or its session ended so lately that Daily need not list yet what was recorded: then
        it is closed again."""
        before = func.now() - settled_after
        listed = or_(sessions.c.recording_enabled.is_(False), sessions.c.end_requested_at <= before)
        settled = and_(sessions.c.room_created_at <= before, listed)
        await self._connection.execute(
            update(sessions)
            .where(sessions.c.id == session_id, sessions.c.room_deleted_at.is_(None))
            .values(
                room_deleted_at=case((settled, func.now())),
                due_at=case((settled, None), else_=CLOCK + settled_after),
            )
        )

    async def _one(self, statement: object, **values: object) -> Session | None:
        row = (await self._connection.execute(statement, values)).first()  # type: ignore[call-overload]
        return None if row is None else Session(*row)
