"""Single statements by psycopg alone and on connections of their own: what pool and SQLAlchemy do around a statement
costs a lone call as much as the statement does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg

from storage.conflicts import repeated
from storage.errors import READ_ONLY, translated

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]
Rows = list[tuple[Any, ...]]

PATIENCE = 2.0
"""Seconds that a statement waits for one of our connections where PostgreSQL gives no further one."""
TIME_LIMIT = 10.0
"""Seconds that a statement may take: PostgreSQL's own `statement_timeout`, which one that is frozen does not keep."""
SHORT = 3.0
"""The same for one that all others of a process wait for."""


class Statements:
    """All can be repeated, so a connection that was lost while nobody used it is replaced unseen. As many connections
    are kept as were ever in use at once."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._spare: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()
        self._busy = 0

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many idle."""
        return self._busy, self._spare.qsize()

    async def run(self, statement: str, values: Mapping[str, object], time_limit: float = TIME_LIMIT) -> Rows:
        """Raises StorageUnavailable."""
        with translated():
            async with asyncio.timeout(time_limit):
                return await repeated(lambda: self._run(statement, values))

    async def close(self) -> None:
        while not self._spare.empty():
            await self._spare.get_nowait().close()

    async def _run(self, statement: str, values: Mapping[str, object]) -> Rows:
        with translated():
            while True:
                connection, was_spare = await self._taken()
                self._busy += 1
                try:
                    rows = await _rows(connection, statement, values)
                except psycopg.Error as error:
                    was_lost = connection.broken or isinstance(error, READ_ONLY)
                    await connection.close()
                    if not (was_spare and was_lost):
                        raise
                except BaseException:
                    await connection.close()
                    raise
                else:
                    self._spare.put_nowait(connection)
                    return rows
                finally:
                    self._busy -= 1

    async def _taken(self) -> tuple[psycopg.AsyncConnection[Any], bool]:
        """A connection, and whether it had been kept. Where PostgreSQL gives no further one, the next that is left."""
        if not self._spare.empty():
            return self._spare.get_nowait(), True
        try:
            connection = await self._connect()
        except psycopg.OperationalError:
            if self._spare.empty() and not self._busy:
                raise
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._spare.get(), True
            except TimeoutError:
                pass
            raise
        await connection.set_autocommit(True)
        return connection, False


async def _rows(connection: psycopg.AsyncConnection[Any], statement: str, values: Mapping[str, object]) -> Rows:
    cursor = await connection.execute(statement.encode(), values)
    return await cursor.fetchall() if cursor.description else []
