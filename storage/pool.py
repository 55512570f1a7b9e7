"""SQLAlchemy's pool, which makes do with the connections that it has, and forgets those that turn out to be useless."""

import time
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util.queue import Empty

from storage.errors import READ_ONLY
from storage.statements import Connect

PATIENCE = 2.0
"""Seconds that a transaction waits for a connection."""
PAUSE = 1.0
"""Seconds for which no further connection is asked for, where PostgreSQL has refused one and there are others."""


def pool(connect: Connect, size: int, **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+psycopg://",
        async_creator=connect,
        poolclass=ContentPool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=PATIENCE,
        pool_use_lifo=True,
        pool_pre_ping=True,  # a connection that PostgreSQL ended while nobody used it is replaced unseen
        hide_parameters=True,  # they are users' ids and names
        **options,
    )
    event.listen(engine.sync_engine, "handle_error", _tell_the_lost)
    return engine


class ContentPool(AsyncAdaptedQueuePool):
    """Where PostgreSQL gives no further connection, such as when `max_connections` is reached, a transaction waits for
    one of those that others of ours use."""

    _refused_until = 0.0

    def _do_get(self) -> ConnectionPoolEntry:
        if time.monotonic() < self._refused_until and (left := self._left()):
            return left
        try:
            return super()._do_get()
        except psycopg.OperationalError:
            self._refused_until = time.monotonic() + PAUSE
            if left := self._left():
                return left
            raise

    def _left(self) -> ConnectionPoolEntry | None:
        """The next connection that somebody leaves, if there is one."""
        try:
            return self._pool.get(self.checkedout() > 0, PATIENCE)
        except Empty:
            return None


def _tell_the_lost(context: ExceptionContext) -> None:
    """A read-only connection is as good as lost, and so are those that were made before it."""
    if isinstance(context.original_exception, READ_ONLY):
        context.is_disconnect = True
