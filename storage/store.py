"""The way into PostgreSQL: `async with store.transaction() as tx`, and then verbs in our language."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg import waiting
from psycopg.types.array import ListBinaryDumper
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.attendance import Attendance
from storage.batching import Batcher
from storage.budgets import Budgets, Rate
from storage.chores import Chores
from storage.condition import Examiner
from storage.conflicts import repeated
from storage.deliveries import Deliveries
from storage.errors import translated
from storage.events import Events
from storage.hot import HotStatements
from storage.inbox import Inbox
from storage.meetings import Meetings
from storage.moderation import Moderations
from storage.participants import Participants
from storage.pool import pool
from storage.queue import Queue
from storage.recordings import Recordings
from storage.sessions import Sessions
from storage.spans import Span, no_span
from storage.url import CONNECT_TIMEOUT, dialled

POOL_SIZE = 6
"""Connections for transactions, and half as many for single statements. The hot statements have their own."""
LINGER = 0.02
"""Seconds that Daily waits for its answer, so that fewer of its events are committed alone."""
# A statement that takes longer than any call may take is a mistake; PostgreSQL ends it even when nobody waits any more.
# SET, and not the startup parameter `options`, which PgBouncer refuses or ignores.
SETTINGS = (
    "SET timezone = 'UTC'; SET statement_timeout = '10s'; SET lock_timeout = '8s';"
    " SET idle_in_transaction_session_timeout = '15s'"
)
DELIVER = "; SET live_sessions.deliver = 'on'"

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
        self.deliveries = Deliveries(connection)
        self.queue = Queue(connection)
        self._connection = connection

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """An exception inside undoes what was done inside, and the transaction goes on."""
        with translated():
            async with self._connection.begin_nested():
                yield


class Store:
    def __init__(
        self, database_url: str, rates: Mapping[str, Rate], span: Span = no_span, *, deliver: bool = False
    ) -> None:
        """`rates` are those of the classes of Daily's endpoints. What changes is also put into outboxes where it is to
        be delivered."""
        self._span = span
        self._dialled = dialled(database_url)
        self._settings = SETTINGS + DELIVER if deliver else SETTINGS
        self._engine = pool(self._connect, POOL_SIZE)
        self._autocommit = pool(self._connect, POOL_SIZE // 2, isolation_level="AUTOCOMMIT")
        self._hot = HotStatements(self._connect)
        self.budgets = Budgets(self._connect, rates)
        self.events = Events(self._connect, span)
        self._examiner = Examiner(self._connect)
        self.look = self._examiner.look
        """Whether PostgreSQL is there, and what it is like; on a connection of its own."""
        self.session = Batcher(self._hot.sessions, span, "PostgreSQL sessions")
        """By room name; the read of everybody who opens the page of a class."""
        self.admission = Batcher(self._hot.admissions, span, "PostgreSQL admissions")
        """The write of everybody who joins: (room name, user id, id inside Daily, name, role)."""
        self.keep_event = Batcher(self._hot.keep, span, "PostgreSQL events", linger=LINGER)
        """The write of each of Daily's events: (digest, id, type, room name, body)."""
        self.sessions_of = self._hot.sessions_of
        """An instructor's or a course's; pages and long lists."""

    async def take_hold(self) -> None:
        """Of one connection of each kind: where PostgreSQL gives no further ones, each has its own to wait for. Raises
        StorageUnavailable."""
        async with self.transaction(), self.statement():
            await asyncio.gather(
                self._hot.sessions([""]), self.budgets.recall_domain(""), self.events.committed(None, [])
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits at the end, or rolls back on any exception. Raises StorageUnavailable, StorageOverloaded."""
        with self._span("PostgreSQL transaction", {}), translated():
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

        async def attempt() -> T:
            async with self.transaction() as tx:
                return await step(tx, *args, **kwargs)

        return await repeated(attempt)

    def batches(self) -> dict[str, Counter[int]]:
        """How many statements so many calls have shared, by what they asked for."""
        shared: dict[str, Batcher[Any, Any]] = {
            "session": self.session,
            "admission": self.admission,
            "event": self.keep_event,
            "present": self.events.present,
        }
        return {name: batcher.sizes.copy() for name, batcher in shared.items()}

    def connections(self) -> dict[str, tuple[int, int]]:
        """By pool: how many are in use, and how many idle."""
        pools: dict[str, Any] = {"transactions": self._engine.pool, "statements": self._autocommit.pool}
        used = {name: (pool.checkedout(), pool.checkedin()) for name, pool in pools.items()}
        single: dict[str, Any] = {"hot": self._hot, "budgets": self.budgets, "events": self.events}
        return used | {name: statements.connections for name, statements in single.items()}

    async def _connect(self) -> _Connection:
        connection = await _Connection.connect(self._dialled, autocommit=True)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.execute(self._settings)
            await connection.set_autocommit(False)
            # Arrays as text cost forty times as much, for each element of them is quoted by Python.
            connection.adapters.register_dumper(list, ListBinaryDumper)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        await self._examiner.close()
        await self._hot.close()
        await self.budgets.close()
        await self.events.close()
        await self._engine.dispose()
        await self._autocommit.dispose()
