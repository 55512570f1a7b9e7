"""What all processes share of Daily: how many requests it takes, class by class of endpoint, and the domain's id."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import psycopg

from storage.statements import SHORT, Connect, Statements

# Leases the next moments of a class. Those that nobody took are lost but for a burst of them, so that no window of time
# holds more than the burst and what the rate gives it.
RESERVE = """
INSERT INTO daily_budgets AS budget (class, free_at)
VALUES (%(class)s, clock_timestamp() + make_interval(secs => %(taken)s - %(burst)s))
ON CONFLICT (class) DO UPDATE SET
    free_at = greatest(budget.free_at, clock_timestamp() - make_interval(secs => %(burst)s))
        + make_interval(secs => %(taken)s)
RETURNING extract(epoch FROM free_at - clock_timestamp())::float8
"""
PAUSE = """
INSERT INTO daily_budgets AS budget (class, free_at)
VALUES (%(class)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (class) DO UPDATE SET free_at = greatest(budget.free_at, excluded.free_at)
"""
RECALL = "SELECT domain_id FROM daily_domains WHERE fingerprint = %(fingerprint)s"
REMEMBER = """
INSERT INTO daily_domains (fingerprint, domain_id) VALUES (%(fingerprint)s, %(domain_id)s)
ON CONFLICT (fingerprint) DO UPDATE SET domain_id = excluded.domain_id
"""


class Rate(NamedTuple):
    """A request every `interval` seconds; after a pause `burst` more of them at once."""

    interval: float
    burst: int


class Budgets:
    def __init__(self, connect: Connect, rates: Mapping[str, Rate]) -> None:
        self._rates = rates

        async def relaxed() -> psycopg.AsyncConnection[Any]:
            """A lease that a crash of PostgreSQL takes back costs less than waiting for each to be on disk."""
            connection = await connect()
            await connection.set_autocommit(True)
            await connection.execute("SET synchronous_commit = off")
            return connection

        self._statements = Statements(relaxed)
        self._run = partial(self._statements.run, time_limit=SHORT)

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many idle."""
        return self._statements.connections

    async def reserve(self, endpoints: str, count: int) -> list[float]:
        """The seconds from now after which each of the next `count` requests of this class may be sent; none is
        negative."""
        rate = self._rates[endpoints]
        taken = count * rate.interval
        values = {"class": endpoints, "taken": taken, "burst": rate.burst * rate.interval}
        ((until_free,),) = await self._run(RESERVE, values)
        return [max(0.0, until_free - taken + number * rate.interval) for number in range(count)]

    async def pause(self, endpoints: str, seconds: float) -> None:
        """Nobody sends a request of this class for so long, but for those that have been reserved already."""
        await self._run(PAUSE, {"class": endpoints, "seconds": seconds})

    async def recall_domain(self, fingerprint: str) -> str | None:
        """The id of the domain that an address and key of Daily belong to, if it was ever read."""
        rows = await self._run(RECALL, {"fingerprint": fingerprint})
        return str(rows[0][0]) if rows else None

    async def remember_domain(self, fingerprint: str, domain_id: str) -> None:
        await self._run(REMEMBER, {"fingerprint": fingerprint, "domain_id": domain_id})

    async def close(self) -> None:
        await self._statements.close()
