"""What can be done with recordings inside a transaction, in which their session is locked."""

from dataclasses import fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Integer, and_, bindparam, case, cast, delete, extract, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.model import Recording, RecordingStatus
from storage.queue import CLOCK
from storage.sessions import Sessions
from storage.tables import recordings

COLUMNS = [recordings.c[field.name] for field in fields(Recording)]
NEWEST_FIRST = (recordings.c.created_at.desc(), recordings.c.id.desc())
RUNNING = recordings.c.status == RecordingStatus.PROCESSING
UNDECIDED = and_(RUNNING, recordings.c.recording_id.is_(None))
# A start that failed left no recording behind.
EXISTS = or_(RUNNING, recordings.c.recording_id.is_not(None))

OF_SESSION = select(*COLUMNS).where(recordings.c.session_id == bindparam("session_id")).order_by(*NEWEST_FIRST)
LATEST = OF_SESSION.where(EXISTS).limit(1)
BY_ID = select(*COLUMNS).where(recordings.c.id == bindparam("id"))
BY_DAILY_ID = select(*COLUMNS).where(recordings.c.recording_id == bindparam("recording_id"))
OF_SESSIONS = recordings.c.session_id == func.any(bindparam("session_ids", type_=ARRAY(UUID_)))
KEEP_LIVE = update(recordings).where(OF_SESSIONS, RUNNING, recordings.c.made_live).values(made_live=False)


class Recordings:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def begin(self, session_id: UUID, id: UUID, *, made_live: bool, lease: timedelta) -> Recording:
        """Commits to starting a recording under this instance, for as long as the lease lasts."""
        values = {"id": id, "instance_id": id, "session_id": session_id, "made_live": made_live}
        recording = await self._one(insert(recordings).values(**values, due_at=CLOCK + lease).returning(*COLUMNS))
        assert recording is not None
        return recording

    async def take_over(self, id: UUID, lease: timedelta) -> Recording | None:
        """Goes on with a start that nobody works on; None while somebody does, or when it is decided."""
        change = update(recordings).where(recordings.c.id == id, UNDECIDED, recordings.c.due_at <= CLOCK)
        return await self._one(change.values(due_at=CLOCK + lease).returning(*COLUMNS))

    async def in_doubt(self, id: UUID, seconds: timedelta) -> None:
        """A request was not answered: for so long it may still take effect."""
        await self._connection.execute(
            update(recordings).where(recordings.c.id == id).values(in_doubt_until=CLOCK + seconds)
        )

    async def is_in_doubt(self, id: UUID) -> bool:
        query = select(recordings.c.id).where(recordings.c.id == id, recordings.c.in_doubt_until > CLOCK)
        return (await self._connection.execute(query)).first() is not None

    async def name(self, id: UUID, recording_id: str, started_at: datetime, look_after: timedelta) -> Recording | None:
        """Daily runs it under this id, whatever we had thought of it; due when Daily should have ended it. A row made
        for the same recording before it was known to be ours goes, and is returned: what has become of the recording
        since is to be asked for at once. One that has its name keeps it, as callers were told it."""
        same = and_(recordings.c.recording_id == recording_id, recordings.c.id != id)
        gone = await self._one(delete(recordings).where(same, recordings.c.instance_id.is_(None)).returning(*COLUMNS))
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id, recordings.c.recording_id.is_(None))
            .values(
                recording_id=recording_id,
                started_at=started_at,
                due_at=case((RUNNING, CLOCK + look_after), else_=CLOCK) if gone is None else CLOCK,
                attempts=0,
                updated_at=func.now(),
            )
        )
        return gone

    async def runs_under(self, id: UUID, instance_id: UUID | None) -> None:
        """It was taken for what another start has brought about, or for one of ours where it is none."""
        change = update(recordings).where(recordings.c.id == id)
        await self._connection.execute(change.values(instance_id=instance_id))

    async def add(
        self,
        session_id: UUID,
        instance_id: UUID | None,
        recording_id: str,
        started_at: datetime,
        look_after: timedelta,
        *,
        failed: str | None = None,
    ) -> None:
        """One that no row of ours asked for, or not this way: it is a recording of the session all the same. Where it
        has `failed`, for this reason, what it is at Daily is seen to by then."""
        values = {
            "session_id": session_id,
            "instance_id": instance_id,
            "recording_id": recording_id,
            "started_at": started_at,
            "made_live": False,
        }
        addition = insert(recordings).values(**values, due_at=CLOCK + look_after)
        if failed is not None:
            addition = addition.values(
                status=RecordingStatus.FAILED, failure_reason=failed, stopped_at=func.now(), settled_at=func.now()
            )
        await self._connection.execute(addition.on_conflict_do_nothing(index_elements=["recording_id"]))

    async def reopen(self, id: UUID, look_after: timedelta) -> None:
        """A start that had failed came about after all."""
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id)
            .values(
                status=RecordingStatus.PROCESSING,
                failure_reason=None,
                stopped_at=None,
                settled_at=None,
                due_at=CLOCK + look_after,
                attempts=0,
                updated_at=func.now(),
            )
        )

    async def complete(self, id: UUID, stopped_at: datetime, look_after: timedelta) -> None:
        """processing → completed; due for its file, of which Daily's last word has not come."""
        stop = func.greatest(recordings.c.started_at, stopped_at)
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id, RUNNING)
            .values(
                status=RecordingStatus.COMPLETED,
                stopped_at=stop,
                duration=_whole_seconds(stop - recordings.c.started_at),
                due_at=CLOCK + look_after,
                attempts=0,
                updated_at=func.now(),
            )
        )

    async def finish(
        self,
        id: UUID,
        started_at: datetime | None,
        duration: int | None,
        s3_key: str | None,
        at: datetime,
        tolerance: timedelta,
    ) -> None:
        """Daily's last word: the file is stored. It outweighs a failure. Daily's times outweigh ours, but those that
        callers were told when they stopped it stay where Daily's differ by no more than the tolerance; `at` is the end
        of one of which Daily tells no duration."""
        start = func.coalesce(started_at, recordings.c.started_at, recordings.c.created_at)
        stop = at if duration is None else start + timedelta(seconds=duration)
        near = func.abs(extract("epoch", recordings.c.stopped_at - stop)) <= tolerance.total_seconds()
        stopped = or_(recordings.c.status == RecordingStatus.COMPLETED, recordings.c.duration.is_not(None))
        told = and_(stopped, or_(literal(duration is None), near))
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id)
            .values(
                status=RecordingStatus.COMPLETED,
                failure_reason=None,
                started_at=case((told, recordings.c.started_at), else_=start),
                stopped_at=case((told, recordings.c.stopped_at), else_=stop),
                duration=case((told, recordings.c.duration), else_=duration),
                s3_key=func.coalesce(s3_key, recordings.c.s3_key),
                settled_at=func.coalesce(recordings.c.settled_at, func.now()),
                due_at=None,
                updated_at=func.now(),
            )
        )

    async def fail(self, id: UUID, reason: str, at: datetime | None = None) -> None:
        """It failed, now or `at`, unless Daily's last word had come before."""
        change = update(recordings).where(recordings.c.id == id, recordings.c.settled_at.is_(None))
        await self._connection.execute(change.values(_failure(reason, at)))

    async def fail_start(self, id: UUID, reason: str) -> None:
        """It never started: a session that was live only for its sake is scheduled again."""
        failed = update(recordings).where(recordings.c.id == id, UNDECIDED).values(_failure(reason))
        result = await self._connection.execute(failed.returning(recordings.c.session_id, recordings.c.made_live))
        row = result.first()
        if row is not None and row.made_live:
            await Sessions(self._connection).give_back_scheduled(row.session_id)

    async def keep_live(self, session_ids: list[UUID]) -> None:
        """Somebody is in each room: the session stays live whatever becomes of a start."""
        await self._connection.execute(KEEP_LIVE, {"session_ids": session_ids})

    async def by_id(self, id: UUID) -> Recording | None:
        return await self._one(BY_ID, id=id)

    async def by_daily_id(self, recording_id: str) -> Recording | None:
        return await self._one(BY_DAILY_ID, recording_id=recording_id)

    async def latest(self, session_id: UUID) -> Recording | None:
        """The most recent one, those apart that never started."""
        return await self._one(LATEST, session_id=session_id)

    async def of_session(self, session_id: UUID) -> list[Recording]:
        rows = await self._connection.execute(OF_SESSION, {"session_id": session_id})
        return [Recording(*row) for row in rows]

    async def _one(self, statement: object, **values: object) -> Recording | None:
        row = (await self._connection.execute(statement, values)).first()  # type: ignore[call-overload]
        return None if row is None else Recording(*row)


def _whole_seconds(interval: object) -> object:
    return cast(func.floor(extract("epoch", interval)), Integer)  # type: ignore[arg-type]


def _failure(reason: str, at: datetime | None = None) -> dict[str, object]:
    return {
        "status": RecordingStatus.FAILED,
        "failure_reason": reason,
        "stopped_at": func.coalesce(recordings.c.stopped_at, at, func.now()),
        "settled_at": func.now(),
        "due_at": None,
        "updated_at": func.now(),
    }
