"""Session events on their way to the product's back end, made in PostgreSQL as a server makes them, beside no server of
the stack's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from sandbox.stack import Stack
from tests.backend import SECRET, Backend
from tests.clients import new_stack

DELIVERED = """
SELECT deliveries.*, type, deliveries.due_at - clock_timestamp() AS due_in, delivered_at IS NOT NULL AS done
FROM deliveries JOIN session_events USING (session_id, revision) JOIN sessions ON sessions.id = deliveries.session_id
WHERE room_name = %s ORDER BY deliveries.revision
"""


@dataclass(frozen=True)
class Outbox:
    stack: Stack
    database: psycopg.Connection

    def settings(self, product: Backend) -> dict[str, str]:
        """Of a server that delivers there."""
        url = product.url.replace("http://", "http://hook:pass-1f@")
        return self.stack.environment | {"LIVE_SESSIONS_EVENTS_URL": url, "LIVE_SESSIONS_EVENTS_SECRET": SECRET}

    def session(self) -> str:
        """The room of a new one, of which `session.created` is to be told."""
        room = f"room-{uuid4().hex}"
        self.database.execute(
            "INSERT INTO sessions (room_name, course_id, created_by, starts_at, room_created_at)"
            " VALUES (%s, 'maths', 'ada', '2999-01-01T00:00Z', now())",
            [room],
        )
        return room

    def change(self, room: str, times: int) -> None:
        """Of which as many `session.updated` are to be told."""
        self.database.execute(
            "SELECT tell(array_fill(id, of), array_fill('session.updated'::text, of), array_fill(state, of))"
            " FROM (SELECT id, session_state(sessions) AS state, ARRAY[%s] AS of FROM sessions WHERE room_name = %s)",
            [times, room],
        )

    def rows(self, room: str) -> list[dict[str, Any]]:
        """The deliveries of a session in the order of its events; `due_in` is a timedelta or None, and `done` true of
        those that were taken."""
        with self.database.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(DELIVERED, [room]).fetchall()

    def row(self, room: str) -> dict[str, Any]:
        [one] = self.rows(room)
        return one

    def due_in(self, room: str) -> float:
        """Seconds until the session's outbox is looked at."""
        query = "SELECT extract(epoch FROM outboxes.due_at - clock_timestamp()) FROM outboxes JOIN sessions USING (id)"
        [(seconds,)] = self.database.execute(f"{query} WHERE room_name = %s", [room]).fetchall()
        return float(seconds)

    def is_due(self, room: str, attempts: int = 0) -> None:
        """All of the session's that is neither delivered nor given up, as if it had been tried so often."""
        of = "(SELECT id FROM sessions WHERE room_name = %s)"
        self.database.execute(
            "UPDATE deliveries SET due_at = clock_timestamp(), attempts = %s, error = NULL"
            f" WHERE due_at IS NOT NULL AND session_id = {of}",
            [attempts, room],
        )
        self.database.execute(f"UPDATE outboxes SET due_at = clock_timestamp() WHERE id = {of}", [room])


@contextmanager
def outbox() -> Iterator[Outbox]:
    with new_stack() as stack:
        stack.servers[0].kill()
        with psycopg.connect(stack.database_url, autocommit=True) as database:
            database.execute("SET live_sessions.deliver = 'on'")
            yield Outbox(stack, database)
