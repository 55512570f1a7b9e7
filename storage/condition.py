"""A look at PostgreSQL on a connection of its own: whether it is there and takes writes, its schema, its clock."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from storage.errors import StorageUnavailable, StorageUnsuitable, translated
from storage.statements import Connect

TIME_LIMIT = 3.0
"""Seconds that a look may take, and seconds to find out what stands between PostgreSQL and us."""
ROUNDS = 10
LOOK = """
SELECT clock_timestamp(), current_setting('transaction_read_only') = 'on', to_regclass('alembic_version') IS NOT NULL
"""
REVISION = "SELECT version_num FROM alembic_version"
BACKEND = "SELECT pg_backend_pid()"
LENDER = (
    "LIVE_SESSIONS_DATABASE_URL leads to a pooler that lends its connections by the transaction; settings and prepared"
    " statements need one that keeps them by the session (PgBouncer: pool_mode = session)"
)

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Condition:
    now: datetime
    """By PostgreSQL's clock."""
    revision: str | None
    """Of the schema; None when nothing has been migrated yet."""


class Examiner:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._is_known = False

    async def look(self) -> Condition:
        """Raises StorageUnavailable, also of a server that takes no writes; StorageUnsuitable, of a pooler that gives
        each transaction another of its connections: what was SET on them would be lost, and others would have it."""
        with translated():
            try:
                async with asyncio.timeout(TIME_LIMIT):
                    connection = self._connection = self._connection or await self._connect()
                    await connection.set_autocommit(True)
                    condition = await _condition(connection)
                if not self._is_known:
                    async with asyncio.timeout(TIME_LIMIT):
                        await self._refuse_a_lender(connection)
                    self._is_known = True
            except BaseException:
                await self.close()
                raise
        return condition

    async def close(self) -> None:
        if self._connection:
            await self._connection.close()
            self._connection = None

    async def _refuse_a_lender(self, first: Connection) -> None:
        """Two connections that are open at the same time have a backend each, and keep it, unless a pooler lends them
        out by the transaction: then the second gets what the first has just left, or either now one, now another."""
        second = await self._connect()
        try:
            await second.set_autocommit(True)
            seen = [(await _backend(first), await _backend(second), await _backend(second)) for _ in range(ROUNDS)]
        finally:
            await second.close()
        own, others = seen[0][:2]
        if own == others or set(seen) != {(own, others, others)}:
            raise StorageUnsuitable(LENDER)


async def _condition(connection: Connection) -> Condition:
    [(now, is_read_only, is_migrated)] = await _rows(connection, LOOK)
    if is_read_only:
        raise StorageUnavailable("the server is read-only")
    revisions = await _rows(connection, REVISION) if is_migrated else []
    return Condition(now, revisions[0][0] if revisions else None)


async def _backend(connection: Connection) -> int:
    [(pid,)] = await _rows(connection, BACKEND)
    return int(pid)


async def _rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """Never prepared: a lender's next connection would not know the statement."""
    cursor = await connection.execute(statement.encode(), prepare=False)
    return await cursor.fetchall()
