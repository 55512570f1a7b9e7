"""The real stack, started once by the sandbox's own code, and what the tests drive it with."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import httpx
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests import parts as bare_parts
from tests.clients import DailyControl, Rest, daily_control, http_client, new_stack
from tests.wire import Wire, wire


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=2, help="restarts of a server in test_rolling_restart.py")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with new_stack() as running:
        yield running


@pytest.fixture(scope="session")
def parts() -> Iterator[bare_parts.Parts]:
    """PostgreSQL and the Daily stand-in alone."""
    with bare_parts.running() as running:
        yield running


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with http_client(stack.rest_url) as client:
        yield client


@pytest.fixture(scope="session")
def stub(stack: Stack) -> Iterator[LiveSessionsStub]:
    with grpc.insecure_channel(stack.grpc_proxy) as channel:
        yield LiveSessionsStub(channel)


@pytest.fixture(scope="session")
def rest(stack: Stack, http: httpx.Client) -> Rest:
    return Rest(stack, http)


@pytest.fixture
def daily(stack: Stack) -> Iterator[DailyControl]:
    with daily_control(stack) as control:
        yield control


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[Wire]:
    """Daily.co at the wire, for tests without a stack."""
    async with wire() as daily:
        yield daily


@pytest.fixture
def at_daily(served: Wire) -> Wire:
    served.forget()
    return served


@pytest.fixture
async def connection(stack: Stack) -> AsyncIterator[AsyncConnection]:
    """A transaction that is rolled back."""
    engine = create_async_engine(stack.database_url.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent
