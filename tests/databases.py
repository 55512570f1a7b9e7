"""Databases of a test's own, beside the stack's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from sandbox.stack import Stack
from storage import migrations


@asynccontextmanager
async def migrated(stack: Stack) -> AsyncIterator[str]:
    """The URL of an empty one, as the migrations make it; dropped afterwards."""
    name = f"test_{uuid4().hex}"
    url = urlsplit(stack.database_url)._replace(path=f"/{name}").geturl()
    async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            await asyncio.to_thread(migrations.upgrade, url)
            yield url
        finally:
            await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
