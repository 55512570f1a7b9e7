"""Of several servers behind Envoy one loses its way to PostgreSQL, or all do: the one loses its share of the calls; all
keep theirs, and tell callers what is wrong."""

import sys
from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox.ports import HOST
from sandbox.stack import Stack
from tests.clients import eventually, http_client, new_stack, servers_in_use
from tests.crash.network import Link, Network, running_network
from tests.load import under_load

UNAVAILABLE = (500, '{"error":"Failed to get session"}')
NOT_FOUND = (500, '"Session not found"')


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with running_network() as running:
        yield running


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with new_stack(workers=3) as running:
        yield running


@pytest.fixture(scope="module")
def client(own: Stack) -> Iterator[httpx.Client]:
    with http_client(own.rest_url) as client:
        yield client


@pytest.fixture(scope="module")
def link(own: Stack, network: Network) -> Link:
    """The first server's own way to PostgreSQL."""
    [directory] = parse_qs(urlsplit(own.database_url).query)["host"]
    link, first = network.link_to_socket(f"{directory}/.s.PGSQL.5432"), own.servers[0]
    url = f"postgresql://postgres@{HOST}:{link.port}/postgres"
    first.kill()
    first.command = ["env", f"LIVE_SESSIONS_DATABASE_URL={url}", sys.executable, "-m", "server"]
    first.start()
    eventually(lambda: servers_in_use(own) == 3, 40)
    return link


def get(client: httpx.Client) -> tuple[int, str]:
    answer = client.get("/sessions/nope")
    return answer.status_code, answer.text


def test_a_server_that_does_not_reach_postgresql_gets_no_calls_until_it_does(
    own: Stack, client: httpx.Client, network: Network, link: Link
) -> None:
    network.set_open(link, open=False)
    eventually(lambda: servers_in_use(own) == 2, 60)
    assert Counter(get(client) for _ in range(100)) == {NOT_FOUND: 100}
    network.set_open(link, open=True)
    eventually(lambda: servers_in_use(own) == 3, 60)
    assert Counter(get(client) for _ in range(100)) == {NOT_FOUND: 100}


def test_while_nobody_reaches_postgresql_every_call_gets_to_a_server_and_health_is_ok(
    own: Stack, client: httpx.Client
) -> None:
    assert own.postgres is not None
    with under_load({f"caller {n}": lambda: get(client) for n in range(4)}) as load:
        own.postgres.stop()
        eventually(lambda: servers_in_use(own) == 0, 60)
        health = client.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        seen = len(load.outcomes)
        eventually(lambda: len(load.outcomes) > seen + 100)
        assert {each.said for each in load.outcomes[seen + 10 :]} == {UNAVAILABLE}
        own.postgres.start()
        eventually(lambda: all(load.last(f"caller {n}", 5) == [NOT_FOUND] * 5 for n in range(4)), 10)
        eventually(lambda: servers_in_use(own) == 3, 40)
    assert {each.said for each in load.outcomes} == {UNAVAILABLE, NOT_FOUND}
