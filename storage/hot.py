"""The statements of a class's start. Around a list of a thousand sessions SQLAlchemy would cost twice as much as the
list does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, Text, bindparam, cast, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.dialects.postgresql.psycopg import dialect

from storage.errors import StorageOverloaded
from storage.model import Admission, Of, Role, SessionRow, SessionStatus
from storage.sessions import VISIBLE
from storage.statements import Connect, Statements
from storage.tables import sessions

MAX_LISTS = 3
"""Lists that are read at once; the batches bound themselves."""
PATIENCE = 2.0
"""Seconds that a list waits for its turn."""
BEFORE_ALL = (datetime.max.replace(tzinfo=UTC), UUID(int=(1 << 128) - 1))


def _text(statement: Select[Any]) -> str:
    return str(statement.compile(dialect=dialect()))  # type: ignore[no-untyped-call]


# Milliseconds and text cost a fifth of what times and UUIDs cost to read, a thousand rows at once.
COLUMNS = [
    cast(column, Text)
    if column.name == "id"
    else cast(func.date_part(literal_column("'epoch'"), column) * literal_column("1000"), BigInteger)
    if column.name.endswith("_at")
    else column
    for column in (sessions.c[name] for name in SessionRow._fields)
]
BY_NAME = _text(select(*COLUMNS).where(VISIBLE, sessions.c.room_name == bindparam("name")))
BY_NAMES = _text(
    select(*COLUMNS).where(VISIBLE, sessions.c.room_name == func.any(bindparam("names", type_=ARRAY(TEXT))))
)


def _list(of: Of, status: SessionStatus | None) -> str:
    query = select(*COLUMNS).where(
        VISIBLE,
        sessions.c[of] == bindparam("of"),
        tuple_(sessions.c.starts_at, sessions.c.id) < tuple_(bindparam("starts_at"), bindparam("id")),
    )
    if status is not None:  # written out: PostgreSQL could not tell from a parameter that its index will do
        query = query.where(sessions.c.status == literal_column(f"'{status}'"))
    newest_first = query.order_by(sessions.c.starts_at.desc(), sessions.c.id.desc())
    return _text(newest_first.limit(bindparam("limit", None)))


LISTS = {(of, status): _list(of, status) for of in Of for status in (None, *SessionStatus)}

# Many users at once ask for entry: their rooms are found and their rows made in one statement. A user who is there
# already costs no write unless their role or name has changed.
ADMIT = """
WITH asked AS (
    SELECT * FROM unnest(
        %(rooms)s::text[], %(users)s::text[], %(daily_users)s::text[], %(names)s::text[], %(roles)s::text[]
    ) WITH ORDINALITY AS asked (room_name, user_id, daily_user_id, name, role, number)
), found AS (
    SELECT asked.*, sessions.id AS session_id, sessions.status, sessions.end_requested_at
    FROM asked JOIN sessions USING (room_name) WHERE sessions.room_created_at IS NOT NULL
), written AS (
    INSERT INTO participants (session_id, user_id, daily_user_id, name, role)
    SELECT DISTINCT ON (session_id, user_id) session_id, user_id, daily_user_id, name, role
    FROM found WHERE status <> 'ended' AND end_requested_at IS NULL
    ORDER BY session_id, user_id, number DESC
    ON CONFLICT (session_id, user_id) DO UPDATE SET
        role = excluded.role,
        name = coalesce(excluded.name, participants.name),
        updated_at = CASE WHEN participants.role <> excluded.role THEN now() ELSE participants.updated_at END
    WHERE participants.role <> excluded.role
        OR participants.name IS DISTINCT FROM coalesce(excluded.name, participants.name)
    RETURNING session_id, user_id, was_kicked, mic_allowed, camera_allowed
)
SELECT number, status, end_requested_at,
    coalesce(written.was_kicked, participants.was_kicked, false),
    coalesce(written.mic_allowed, participants.mic_allowed, true),
    coalesce(written.camera_allowed, participants.camera_allowed, true)
FROM found
LEFT JOIN written USING (session_id, user_id)
LEFT JOIN participants USING (session_id, user_id)
"""


KEEP = """
INSERT INTO daily_events (digest, id, type, room_name, body)
SELECT * FROM unnest(
    %(digests)s::bytea[], %(ids)s::text[], %(types)s::text[], %(rooms)s::text[], %(bodies)s::bytea[]
)
ON CONFLICT DO NOTHING
"""


class HotStatements:
    def __init__(self, connect: Connect) -> None:
        self._statements = Statements(connect)
        self._run = self._statements.run
        self._lists = asyncio.Semaphore(MAX_LISTS)

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many idle."""
        return self._statements.connections

    async def sessions(self, room_names: list[str]) -> list[SessionRow | None]:
        """By room name; None where there is no session."""
        if len(room_names) == 1:  # which PostgreSQL does not plan each time anew, as it does with arrays
            rows = await self._run(BY_NAME, {"name": room_names[0]})
        else:
            rows = await self._run(BY_NAMES, {"names": room_names})
        found = {row.room_name: row for row in map(SessionRow._make, rows)}
        return [found.get(name) for name in room_names]

    async def sessions_of(
        self,
        of: Of,
        id: str,
        status: SessionStatus | None,
        limit: int | None,
        after: tuple[datetime, UUID] | None,
    ) -> list[SessionRow]:
        """An instructor's or a course's, of one status or of all, newest starts_at first, from behind the row `after`
        (starts_at, id)."""
        starts_at, row_id = after or BEFORE_ALL
        values = {"of": id, "starts_at": starts_at, "id": row_id, "limit": limit}
        async with self._turn():
            return list(map(SessionRow._make, await self._run(LISTS[of, status], values)))

    async def admissions(self, asked: Sequence[tuple[str, str, str, str | None, Role]]) -> list[Admission | None]:
        """Records each (room name, user id, id inside Daily, name, role) as a participant; None where there is no
        session."""
        rooms, users, daily_users, names, roles = map(list, zip(*asked, strict=True))
        values = {"rooms": rooms, "users": users, "daily_users": daily_users, "names": names, "roles": roles}
        admissions: list[Admission | None] = [None] * len(asked)
        for number, *admission in await self._run(ADMIT, values):
            admissions[number - 1] = Admission(*admission)
        return admissions

    async def keep(self, events: Sequence[tuple[bytes, str, str, str | None, bytes]]) -> list[None]:
        """Puts each (digest, id, type, room name, body) of Daily's events into the inbox, unless it has come before."""
        digests, ids, types, rooms, bodies = map(list, zip(*events, strict=True))
        await self._run(KEEP, {"digests": digests, "ids": ids, "types": types, "rooms": rooms, "bodies": bodies})
        return [None] * len(events)

    async def close(self) -> None:
        await self._statements.close()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._lists.acquire()
        except TimeoutError:
            raise StorageOverloaded("every connection for lists stayed in use") from None
        try:
            yield
        finally:
            self._lists.release()
