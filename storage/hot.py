"""The two statements of a class's start, each for a whole batch of calls, by psycopg alone and on connections of their
own: what pool and SQLAlchemy do around a statement costs a lone call as much as the statement does."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import dialect

from storage.errors import translated
from storage.model import Admission, Role, Session
from storage.sessions import BY_NAMES

SESSIONS = str(BY_NAMES.compile(dialect=dialect()))  # type: ignore[no-untyped-call]

# Many users at once ask for entry: their rooms are found and their rows made in one statement. A user who is there
# already costs no write unless their role has changed.
ADMIT = """
WITH asked AS (
    SELECT * FROM unnest(
        %(rooms)s::text[], %(users)s::text[], %(daily_users)s::text[], %(roles)s::text[]
    ) WITH ORDINALITY AS asked (room_name, user_id, daily_user_id, role, number)
), found AS (
    SELECT asked.*, sessions.id AS session_id, sessions.status, sessions.delete_requested_at
    FROM asked JOIN sessions USING (room_name) WHERE sessions.room_created_at IS NOT NULL
), written AS (
    INSERT INTO participants (session_id, user_id, daily_user_id, role)
    SELECT DISTINCT ON (session_id, user_id) session_id, user_id, daily_user_id, role
    FROM found WHERE status <> 'ended' AND delete_requested_at IS NULL
    ORDER BY session_id, user_id, number DESC
    ON CONFLICT (session_id, user_id) DO UPDATE SET role = excluded.role, updated_at = now()
    WHERE participants.role <> excluded.role
    RETURNING session_id, user_id, was_kicked, mic_allowed, camera_allowed
)
SELECT number, status, delete_requested_at,
    coalesce(written.was_kicked, participants.was_kicked, false),
    coalesce(written.mic_allowed, participants.mic_allowed, true),
    coalesce(written.camera_allowed, participants.camera_allowed, true)
FROM found
LEFT JOIN written USING (session_id, user_id)
LEFT JOIN participants USING (session_id, user_id)
"""


class HotStatements:
    """Both can be repeated, so a connection that was lost while nobody used it is replaced unseen."""

    def __init__(self, connect: Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]) -> None:
        self._connect = connect
        self._spare: list[psycopg.AsyncConnection[Any]] = []

    async def sessions(self, room_names: list[str]) -> list[Session | None]:
        """By room name; None where there is no session."""
        rows = await self._run(SESSIONS, {"names": room_names})
        found = {session.room_name: session for session in (Session(*row) for row in rows)}
        return [found.get(name) for name in room_names]

    async def admissions(self, asked: Sequence[tuple[str, str, str, Role]]) -> list[Admission | None]:
        """Records each (room name, user id, id inside Daily, role) as a participant; None where there is no session."""
        rooms, users, daily_users, roles = map(list, zip(*asked, strict=True))
        values = {"rooms": rooms, "users": users, "daily_users": daily_users, "roles": roles}
        admissions: list[Admission | None] = [None] * len(asked)
        for number, *admission in await self._run(ADMIT, values):
            admissions[number - 1] = Admission(*admission)
        return admissions

    async def close(self) -> None:
        for connection in self._spare:
            await connection.close()

    async def _run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        with translated():
            while self._spare:
                with suppress(psycopg.OperationalError):
                    return await self._run_on(self._spare.pop(), statement, values)
            connection = await self._connect()
            await connection.set_autocommit(True)
            return await self._run_on(connection, statement, values)

    async def _run_on(
        self, connection: psycopg.AsyncConnection[Any], statement: str, values: Mapping[str, object]
    ) -> list[tuple[Any, ...]]:
        """Keeps the connection unless anything went wrong on it."""
        try:
            rows = await (await connection.execute(statement.encode(), values)).fetchall()
        except BaseException:
            await connection.close()
            raise
        self._spare.append(connection)
        return rows
