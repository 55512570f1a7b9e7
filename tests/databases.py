"""Databases, users and ways of a test's own at the stack's PostgreSQL."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from alembic import command
from alembic.config import Config

from storage import migrations


@contextmanager
def new_database(url: str, owner: str = "postgres") -> Iterator[str]:
    """The URL of an empty one at the same server, for its owner."""
    name = f"own_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(f"CREATE DATABASE {name} OWNER {owner}")
        try:
            yield at(url, name, owner)
        finally:
            database.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def migrated(url: str) -> Iterator[str]:
    """As new_database, with the tables as the migrations make them."""
    with new_database(url) as own:
        migrate(own)
        yield own


@contextmanager
def new_user(url: str, options: str) -> Iterator[str]:
    """The name of one with these options of CREATE ROLE."""
    name = f"user_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(f"CREATE ROLE {name} LOGIN {options}")
        try:
            yield name
        finally:
            database.execute(f"DROP ROLE {name}")


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Backends that answer nothing, and close nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def at(url: str, database: str, user: str = "postgres", password: str = "") -> str:
    """The same server, reached by another user or for another database."""
    parts = urlsplit(url)
    who = f"{user}:{password}" if password else user
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{who}@{host}", path=f"/{database}").geturl()


def migrate(url: str, revision: str = "head") -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["database_url"] = url
    command.upgrade(config, revision)
