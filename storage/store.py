"""The way into PostgreSQL: `async with store.transaction() as tx`, and then verbs in our language."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg import waiting
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.attendance import Attendance
from storage.batching import Batcher
from storage.budgets import Budgets, Rate
from storage.chores import Chores
from storage.errors import StorageConflict, translated
from storage.events import Events
from storage.hot import HotStatements
from storage.inbox import Inbox
from storage.meetings import Meetings
from storage.moderation import Moderations
from storage.participants import Participants
from storage.queue import Queue
from storage.recordings import Recordings
from storage.sessions import Sessions

POOL_SIZE = 6
"""Connections for transactions, and half as many for single statements. The hot statements have their own."""
# A statement that takes longer than any call may take is a mistake; PostgreSQL ends it even when nobody waits any more.
# SET, and not the startup parameter `options`, which PgBouncer refuses or ignores.
SETTINGS = (
    "SET timezone = 'UTC'; SET statement_timeout = '10s'; SET lock_timeout = '8s';"
    " SET idle_in_transaction_session_timeout = '15s'"
)
# A host that has vanished is noticed within seconds, by connections that wait for it as by those that are kept.
LIVENESS: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
REPEATS = 5
"""How often a transaction is tried that PostgreSQL undid for the sake of another one."""

T = TypeVar("T")
P = ParamSpec("P")


class _Connection(psycopg.AsyncConnection[Any]):
    """Gives up at once when its task is cancelled. psycopg would first wait for PostgreSQL to confirm the cancellation,
    which a frozen server never does (github.com/psycopg/psycopg/issues/1371)."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.pgconn.finish()
            raise


class Transaction:
    def __init__(self, connection: AsyncConnection) -> None:
        self.sessions = Sessions(connection)
        self.recordings = Recordings(connection)
        self.participants = Participants(connection)
        self.attendance = Attendance(connection)
        self.moderations = Moderations(connection)
        self.meetings = Meetings(connection)
        self.inbox = Inbox(connection)
        self.chores = Chores(connection)
        self.queue = Queue(connection)
        self._connection = connection

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """An exception inside undoes what was done inside, and the transaction goes on."""
        async with self._connection.begin_nested():
            yield


class Store:
    def __init__(self, database_url: str, rates: Mapping[str, Rate]) -> None:
        """`rates` are those of the classes of Daily's endpoints."""
        self._database_url = database_url
        self._engine = self._pool(POOL_SIZE)
        self._autocommit = self._pool(POOL_SIZE // 2, isolation_level="AUTOCOMMIT")
        self._hot = HotStatements(self._connect)
        self.budgets = Budgets(self._connect, rates)
        self.events = Events(self._connect)
        self.session = Batcher(self._hot.sessions)
        """By room name; the read of everybody who opens the page of a class."""
        self.admission = Batcher(self._hot.admissions)
        """The write of everybody who joins: (room name, user id, id inside Daily, name, role)."""
        self.keep_event = Batcher(self._hot.keep)
        """The write of each of Daily's events: (digest, id, type, room name, body)."""
        self.sessions_of = self._hot.sessions_of
        """An instructor's or a course's; pages and long lists."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits at the end, or rolls back on any exception. Raises StorageUnavailable, StorageOverloaded."""
        with translated():
            async with self._engine.begin() as connection:
                yield Transaction(connection)

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Transaction]:
        """For a single statement, which needs no transaction around it and so no round trips for one."""
        with translated():
            async with self._autocommit.connect() as connection:
                yield Transaction(connection)

    async def run(
        self, step: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What the step does is one transaction, tried again when it and another one stood in each other's way. Raises
        StorageUnavailable, StorageOverloaded."""
        for attempt in range(1, REPEATS + 1):
            try:
                async with self.transaction() as tx:
                    return await step(tx, *args, **kwargs)
            except StorageConflict:
                if attempt == REPEATS:
                    raise
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - no secret
        raise AssertionError

    def _pool(self, size: int, **options: Any) -> AsyncEngine:
        return create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            pool_size=size,
            max_overflow=0,
            pool_timeout=2,
            pool_use_lifo=True,
            pool_pre_ping=True,  # a connection that PostgreSQL ended while nobody used it is replaced unseen
            **options,
        )

    async def _connect(self) -> _Connection:
        connection = await _Connection.connect(self._database_url, autocommit=True, **LIVENESS)
        try:
            async with asyncio.timeout(LIVENESS["connect_timeout"]):
                await connection.execute(SETTINGS)
            await connection.set_autocommit(False)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        await self._hot.close()
        await self.budgets.close()
        await self.events.close()
        await self._engine.dispose()
        await self._autocommit.dispose()
