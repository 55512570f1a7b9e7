"""What can be done with recordings inside a transaction."""

from dataclasses import fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Integer, and_, bindparam, case, cast, extract, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Update

from storage.model import Recording, RecordingStatus, Session
from storage.sessions import CLOCK, Sessions
from storage.sessions import COLUMNS as SESSION_COLUMNS
from storage.tables import recordings, sessions

COLUMNS = [recordings.c[field.name] for field in fields(Recording)]
NEWEST_FIRST = (recordings.c.created_at.desc(), recordings.c.id.desc())
RUNNING = recordings.c.status == RecordingStatus.PROCESSING
# A start that failed left no recording behind.
EXISTS = or_(RUNNING, recordings.c.recording_id.is_not(None))

OF_SESSION = select(*COLUMNS).where(recordings.c.session_id == bindparam("session_id")).order_by(*NEWEST_FIRST)
LATEST = OF_SESSION.where(EXISTS).limit(1)
BY_ID = select(*COLUMNS).where(recordings.c.id == bindparam("id"))
BY_DAILY_ID = select(*COLUMNS).where(recordings.c.recording_id == bindparam("recording_id"))
KNOWN = select(recordings.c.recording_id, recordings.c.status).where(
    recordings.c.recording_id == func.any(bindparam("ids", type_=ARRAY(TEXT)))
)


class Recordings:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def begin(self, session_id: UUID, *, made_live: bool, lease: timedelta) -> Recording:
        """Commits to starting a recording, for as long as the lease lasts. The session must be locked."""
        values = {"session_id": session_id, "made_live": made_live, "lease_until": CLOCK + lease}
        recording = await self._one(insert(recordings).values(values).returning(*COLUMNS))
        assert recording is not None
        return recording

    async def take_over(self, id: UUID, lease: timedelta, idle: timedelta) -> bool:
        """Goes on with a start that nobody has worked on for `idle`; False while somebody does."""
        change = update(recordings).where(
            recordings.c.id == id,
            RUNNING,
            recordings.c.recording_id.is_(None),
            recordings.c.lease_until <= CLOCK - idle,
        )
        result = await self._connection.execute(change.values(lease_until=CLOCK + lease).returning(recordings.c.id))
        return result.first() is not None

    async def release(self, id: UUID) -> None:
        """Ends the lease of a start, so that a repeated call or the reconciler can go on with it."""
        await self._connection.execute(update(recordings).where(recordings.c.id == id).values(lease_until=CLOCK))

    async def confirm(self, id: UUID, recording_id: str, started_at: datetime) -> Recording | None:
        """Daily runs it under `recording_id`; what an event told first stays. None when it is no longer running."""
        change = update(recordings).where(recordings.c.id == id, RUNNING)
        return await self._one(
            change.values(
                recording_id=func.coalesce(recordings.c.recording_id, recording_id),
                started_at=func.coalesce(recordings.c.started_at, started_at),
                updated_at=func.now(),
            ).returning(*COLUMNS)
        )

    async def identify(self, id: UUID, recording_id: str, started_at: datetime) -> bool:
        """Daily's event names the recording, whatever has become of it. Once named it keeps its name, which callers
        were told: another under the same instance was started by a late request. False for no row that takes it."""
        unnamed = or_(recordings.c.recording_id.is_(None), recordings.c.recording_id == recording_id)
        change = update(recordings).where(recordings.c.id == id, unnamed)
        return await self._changed(
            change.values(recording_id=recording_id, started_at=started_at, updated_at=func.now())
        )

    async def request_stop(self, id: UUID) -> None:
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id)
            .values(stop_requested_at=func.coalesce(recordings.c.stop_requested_at, func.now()))
        )

    async def complete(self, id: UUID) -> Recording:
        """processing → completed, now; one that is not processing is left as it is."""
        start = func.coalesce(recordings.c.started_at, recordings.c.created_at)
        stop = func.greatest(start, func.now())
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id, RUNNING)
            .values(
                status=RecordingStatus.COMPLETED,
                stopped_at=stop,
                duration=cast(func.floor(extract("epoch", stop - start)), Integer),
                updated_at=func.now(),
            )
        )
        recording = await self.by_id(id)
        assert recording is not None
        return recording

    async def finish(self, id: UUID, ended_at: datetime, duration: int | None, s3_key: str | None) -> None:
        """Daily's last word: the file is stored. It outweighs a failure, and keeps the time at which it was stopped."""
        # Only what was stopped has a duration, and keeps it when an error is told afterwards.
        stopped = or_(recordings.c.status == RecordingStatus.COMPLETED, recordings.c.duration.is_not(None))
        await self._connection.execute(
            update(recordings)
            .where(recordings.c.id == id)
            .values(
                status=RecordingStatus.COMPLETED,
                failure_reason=None,
                stopped_at=case((stopped, recordings.c.stopped_at), else_=ended_at),
                duration=func.coalesce(duration, recordings.c.duration),
                s3_key=func.coalesce(s3_key, recordings.c.s3_key),
                settled_at=func.coalesce(recordings.c.settled_at, func.now()),
                updated_at=func.now(),
            )
        )

    async def fail(self, id: UUID, reason: str, at: datetime | None = None) -> bool:
        """It failed, now or `at`; False when Daily's last word had come before."""
        change = update(recordings).where(recordings.c.id == id, recordings.c.settled_at.is_(None))
        return await self._changed(change.values(_failure(reason, at)))

    async def fail_start(self, id: UUID, reason: str) -> None:
        """It never started: a session that was live only for its sake is scheduled again."""
        change = update(recordings).where(recordings.c.id == id, RUNNING, recordings.c.recording_id.is_(None))
        failed = change.values(_failure(reason)).returning(recordings.c.session_id, recordings.c.made_live)
        result = await self._connection.execute(failed)
        row = result.first()
        if row is not None and row.made_live:
            await Sessions(self._connection).give_back_scheduled(row.session_id)

    async def keep_live(self, session_id: UUID) -> None:
        """Somebody is in the room: the session stays live whatever becomes of a start."""
        change = update(recordings).where(recordings.c.session_id == session_id, RUNNING)
        await self._connection.execute(change.values(made_live=False))

    async def by_id(self, id: UUID) -> Recording | None:
        return await self._one(BY_ID, id=id)

    async def by_daily_id(self, recording_id: str) -> Recording | None:
        return await self._one(BY_DAILY_ID, recording_id=recording_id)

    async def known(self, recording_ids: list[str]) -> dict[str, RecordingStatus]:
        """Those of Daily's ids that some row of ours has, and what has become of it."""
        rows = await self._connection.execute(KNOWN, {"ids": recording_ids})
        return {id: RecordingStatus(status) for id, status in rows}

    async def running(self, session_id: UUID) -> Recording | None:
        return await self._one(OF_SESSION.where(RUNNING), session_id=session_id)

    async def latest(self, session_id: UUID) -> Recording | None:
        """The most recent one, those apart that never started."""
        return await self._one(LATEST, session_id=session_id)

    async def of_session(self, session_id: UUID) -> list[Recording]:
        rows = await self._connection.execute(OF_SESSION, {"session_id": session_id})
        return [Recording(*row) for row in rows]

    async def unsettled(self) -> list[tuple[Session, Recording]]:
        """Recordings of which Daily's last word has not come and on whose start nobody works, oldest first."""
        due = and_(
            recordings.c.settled_at.is_(None),
            or_(recordings.c.recording_id.is_not(None), recordings.c.lease_until <= CLOCK),
        )
        query = select(*SESSION_COLUMNS, *COLUMNS).join(sessions).where(due).order_by(recordings.c.created_at)
        rows = await self._connection.execute(query.limit(1000))
        width = len(SESSION_COLUMNS)
        return [(Session(*row[:width]), Recording(*row[width:])) for row in rows]

    async def _changed(self, change: Update) -> bool:
        return (await self._connection.execute(change.returning(recordings.c.id))).first() is not None

    async def _one(self, statement: object, **values: object) -> Recording | None:
        row = (await self._connection.execute(statement, values)).first()  # type: ignore[call-overload]
        return None if row is None else Recording(*row)


def _failure(reason: str, at: datetime | None = None) -> dict[str, object]:
    return {
        "status": RecordingStatus.FAILED,
        "failure_reason": reason,
        "stopped_at": func.coalesce(recordings.c.stopped_at, at, func.now()),
        "settled_at": func.now(),
        "updated_at": func.now(),
    }
