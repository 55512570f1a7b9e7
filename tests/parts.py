"""PostgreSQL and the Daily stand-in alone, for what needs no server of ours."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from sqlalchemy import create_engine

from sandbox.ports import HOST, free_port
from sandbox.postgres import Postgres
from sandbox.process import Process, Workspace, stop_together
from storage.tables import daily_budgets, daily_domains, metadata

API_KEY = "the domain's key, which has more than 32 bytes"


@dataclass(frozen=True)
class Parts:
    database_url: str
    daily_url: str
    """The stand-in's own, without `/v1`."""


@contextmanager
def running() -> Iterator[Parts]:
    # Not in pytest's own temporary directory, which PostgreSQL's user must not enter when the tests run as root.
    with TemporaryDirectory() as directory, free_port() as port:
        workspace = Workspace(Path(directory))
        workspace.claim()
        postgres, url = Postgres(workspace), f"http://{HOST}:{port}"
        options = [f"--port={port}", f"--api-key={API_KEY}", f"--state={workspace.path / 'daily.json'}"]
        stand_in = Process("daily", [sys.executable, "-m", "sandbox.daily", *options], workspace, ready=lambda: up(url))
        try:
            postgres.start()
            stand_in.start()
            make_tables(postgres.url)
            yield Parts(postgres.url, url)
        finally:
            stop_together(stand_in, postgres)
            workspace.release()


def make_tables(database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    metadata.create_all(engine, tables=[daily_budgets, daily_domains])
    engine.dispose()


def up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/sandbox/state", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
