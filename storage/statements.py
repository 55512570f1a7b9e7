"""Single statements by psycopg alone and on connections of their own: what pool and SQLAlchemy do around a statement
costs a lone call as much as the statement does."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg

from storage.errors import translated

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]


class Statements:
    """All can be repeated, so a connection that was lost while nobody used it is replaced unseen. As many connections
    are kept as were ever in use at once."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._spare: list[psycopg.AsyncConnection[Any]] = []
        self._in_use = 0

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many idle."""
        return self._in_use, len(self._spare)

    async def run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """The rows. Raises StorageUnavailable."""
        with translated():
            while self._spare:
                with suppress(psycopg.OperationalError):
                    return await self._run_on(self._spare.pop(), statement, values)
            connection = await self._connect()
            await connection.set_autocommit(True)
            return await self._run_on(connection, statement, values)

    async def close(self) -> None:
        for connection in self._spare:
            await connection.close()

    async def _run_on(
        self, connection: psycopg.AsyncConnection[Any], statement: str, values: Mapping[str, object]
    ) -> list[tuple[Any, ...]]:
        """Keeps the connection unless anything went wrong on it."""
        self._in_use += 1
        try:
            cursor = await connection.execute(statement.encode(), values)
            rows = await cursor.fetchall() if cursor.description else []
        except BaseException:
            await connection.close()
            raise
        finally:
            self._in_use -= 1
        self._spare.append(connection)
        return rows
