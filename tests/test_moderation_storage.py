"""What two who change the rows of moderation at one time can count on."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sandbox.stack import Stack
from storage.model import Moderation
from storage.moderation import Moderations
from storage.queue import Queue


@pytest.fixture
async def connection(stack: Stack) -> AsyncIterator[AsyncConnection]:
    """A transaction that is rolled back."""
    engine = create_async_engine(stack.database_url.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@pytest.mark.parametrize("lease", [2, 20])
async def test_a_change_overtakes_whoever_is_at_work_on_the_room(connection: AsyncConnection, lease: int) -> None:
    """Their lease is no longer theirs, whenever it would have ended: they cannot put off what they have not seen."""
    row = "(course_id, room_name, starts_at, created_by) VALUES ('algebra', 'room', now(), 'ada')"
    session = (await connection.exec_driver_sql(f"INSERT INTO sessions {row} RETURNING id")).scalar_one()
    due = "INSERT INTO moderations (id, due_at) VALUES (%(id)s, clock_timestamp() + %(lease)s) RETURNING due_at"
    values = {"id": session, "lease": timedelta(seconds=lease)}
    taken = Moderation(session, (await connection.exec_driver_sql(due, values)).scalar_one())
    await Moderations(connection).due(session, timedelta(seconds=8))
    assert not await Queue(connection).put_off(taken, None)
