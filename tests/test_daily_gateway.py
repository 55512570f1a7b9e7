"""The one gateway to Daily: what the whole deployment sends stays within Daily's limits, what matters most goes first,
and what can be asked once is asked once."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from uuid import uuid4

import psycopg
import pytest

from sandbox.ports import HOST, free_port
from server import deadline
from server.daily.client import Daily, Start
from server.daily.errors import DailyUnavailable, DailyUnreadable
from server.daily.gateway import LARGEST_ANSWER, RATES, upkeep
from server.daily.turns import Priority, Turns
from storage.budgets import Budgets
from storage.errors import StorageUnavailable
from storage.model import Role
from tests.parts import Parts
from tests.wire import KEY, Wire, budgets, client, until

LIMITS = {"default": (100, 5.0), "deletes": (50, 30.0), "recordings": (50, 30.0), "starts": (5, 5.0)}
"""Requests that Daily takes, and in how many seconds."""
RECORDING = {"id": "rec-1", "room_name": "algebra", "start_ts": 1766761200, "status": "finished", "duration": 60}


@pytest.fixture(autouse=True)
def database(parts: Parts) -> Iterator[psycopg.Connection]:
    """With nothing spent."""
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE daily_budgets, daily_domains")
        yield connection


@pytest.fixture
async def daily(parts: Parts, at_daily: Wire) -> AsyncIterator[Daily]:
    async with client(at_daily.url, parts.database_url) as daily:
        yield daily


@pytest.fixture
async def budget(parts: Parts) -> AsyncIterator[Budgets]:
    async with budgets(parts.database_url) as budget:
        yield budget


async def test_no_cookie_of_daily_s_is_kept(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers("GET /rooms/algebra/presence", {"data": []}, **{"Set-Cookie": "balancer=7; Path=/"})
    for _ in range(2):
        await daily.presence("algebra")
    assert [asked.cookies for asked in at_daily.asked] == [{}, {}]


# The budget


@pytest.mark.parametrize("endpoints", LIMITS)
async def test_all_processes_together_stay_within_what_daily_takes(parts: Parts, endpoints: str) -> None:
    takes, seconds = LIMITS[endpoints]
    async with budgets(parts.database_url) as one, budgets(parts.database_url) as other:

        async def reserve(budget: Budgets) -> list[float]:
            waits = await budget.reserve(endpoints, 10)
            return [time.monotonic() + wait for wait in waits]

        leases = await asyncio.gather(*[reserve(budget) for _ in range(takes // 10 + 1) for budget in (one, other)])
    moments = sorted(moment for lease in leases for moment in lease)
    most = max(sum(start <= moment <= start + seconds for moment in moments) for start in moments)
    assert 0.9 * takes <= most <= takes


async def test_no_two_requests_are_given_the_same_moment_by_two_processes(parts: Parts) -> None:
    interval = RATES["starts"].interval
    async with budgets(parts.database_url) as one, budgets(parts.database_url) as other:
        leases = await asyncio.gather(*[budget.reserve("starts", 2) for budget in (one, other, one, other)])
    waits = sorted(wait for lease in leases for wait in lease)
    assert [round((after - before) / interval, 1) for before, after in pairwise(waits)] == [1.0] * 7


async def test_a_deployment_that_was_idle_may_send_a_few_requests_at_once_and_no_more(budget: Budgets) -> None:
    waits = await budget.reserve("default", 20)
    at_once = RATES["default"].burst + 1
    assert waits[:at_once] == [0.0] * at_once
    assert all(wait > 0 for wait in waits[at_once:])


async def test_the_classes_do_not_wait_for_each_other(budget: Budgets) -> None:
    await budget.pause("starts", 60)
    assert await budget.reserve("deletes", 1) == [0.0]


async def test_a_budget_that_cannot_be_reached_is_the_storages_failure(at_daily: Wire) -> None:
    with free_port() as port:
        async with client(at_daily.url, f"postgresql://postgres@{HOST}:{port}/postgres") as daily:
            with pytest.raises(StorageUnavailable):
                await daily.delete_room("algebra")
    assert at_daily.calls == []


# Turns


async def test_a_stop_passes_thirty_reads_that_wait(daily: Daily, at_daily: Wire) -> None:
    reads = [asyncio.create_task(daily.meeting(f"met-{number}")) for number in range(30)]
    await until(lambda: at_daily.asked)
    assert await daily.stop_recording("algebra", uuid4())
    await asyncio.gather(*reads, return_exceptions=True)
    assert len(at_daily.calls) == 31
    assert at_daily.calls.index("POST /rooms/algebra/recordings/stop") < 20


async def test_what_upkeep_reads_comes_after_what_callers_read(daily: Daily, at_daily: Wire, budget: Budgets) -> None:
    await budget.pause("default", 0.5)
    with upkeep():
        first = [asyncio.create_task(daily.webhooks()), asyncio.create_task(daily.meetings())]
    await asyncio.sleep(0)
    then = [asyncio.create_task(daily.meeting("met-1")), asyncio.create_task(daily.meeting("met-2"))]
    await asyncio.gather(*first, *then, return_exceptions=True)
    assert [call.split("/")[-1] for call in at_daily.calls] == ["met-1", "met-2", "webhooks", "meetings"]


async def test_a_request_that_gets_no_turn_in_time_was_certainly_not_sent(
    daily: Daily, at_daily: Wire, budget: Budgets
) -> None:
    await budget.pause("starts", 60)
    async with deadline.begin(1.0):
        with pytest.raises(DailyUnavailable) as failure:
            await daily.start_recording("algebra", uuid4())
    assert not failure.value.taken
    assert at_daily.calls == []


class Leases:
    """Stands where the budget stands: gives turns that are near, and remembers how many were wanted at once."""

    def __init__(self) -> None:
        self.wanted: list[int] = []

    async def reserve(self, endpoints: str, count: int) -> list[float]:
        self.wanted.append(count)
        return [0.05] * count

    async def pause(self, endpoints: str, seconds: float) -> None:
        raise AssertionError


async def test_turns_that_many_wait_for_are_leased_together() -> None:
    leases = Leases()
    turns = Turns("default", 0.06, leases)
    await asyncio.gather(*[turns.wait(Priority.READ) for _ in range(5)])
    assert leases.wanted == [5]


async def test_no_more_turns_are_leased_at_once_than_half_a_second_holds() -> None:
    leases = Leases()
    turns = Turns("default", 0.1, leases)
    await asyncio.gather(*[turns.wait(Priority.READ) for _ in range(30)])
    assert max(leases.wanted) == 5


async def test_a_process_that_was_frozen_uses_none_of_the_turns_it_missed() -> None:
    leases = Leases()
    turns = Turns("default", 0.06, leases)
    waiting = asyncio.gather(*[turns.wait(Priority.READ) for _ in range(5)])
    await until(lambda: leases.wanted)
    time.sleep(0.5)  # noqa: ASYNC251 -- as SIGSTOP would, it lets nothing run
    await waiting
    assert leases.wanted == [5, 5]


# How long, and how much, one request may take


@asynccontextmanager
async def answering(*parts: bytes, pause: float = 0.0) -> AsyncIterator[str]:
    """The URL of a server that answers whatever it is asked with these parts of a body, and a pause before each."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    try:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_an_answer_that_trickles_is_no_answer_when_its_time_is_over(parts: Parts) -> None:
    async with answering(*[b" "] * 100, pause=0.05) as url, client(url, parts.database_url) as daily:
        with pytest.raises(DailyUnavailable) as failure:
            async with deadline.begin(1.0):
                await daily.start_recording("algebra", uuid4())
    assert failure.value.taken


async def test_what_takes_no_connection_has_certainly_taken_no_request(parts: Parts) -> None:
    async with AsyncExitStack() as opened:
        full = opened.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(2):  # nobody accepts the one who waits, and so nobody else gets as far
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        daily = await opened.enter_async_context(client(f"http://{HOST}:{full.getsockname()[1]}", parts.database_url))
        with pytest.raises(DailyUnavailable) as failure:
            async with deadline.begin(1.0):
                await daily.start_recording("algebra", uuid4())
    assert not failure.value.taken


async def test_an_answer_larger_than_any_of_dailys_is_not_read_to_its_end(parts: Parts) -> None:
    endless = [b" " * (1 << 20)] * (LARGEST_ANSWER // (1 << 20) + 1)
    async with answering(json.dumps(RECORDING).encode(), *endless) as url, client(url, parts.database_url) as daily:
        with pytest.raises(DailyUnreadable):
            await daily.recording("rec-1")


# What Daily has too much of


async def test_a_request_that_was_too_much_pauses_the_deployment_and_is_sent_again(
    daily: Daily, at_daily: Wire, budget: Budgets
) -> None:
    at_daily.answers("POST /rooms/algebra/recordings/start", {"error": "rate-limit-error"}, 429)
    at_daily.answers("POST /rooms/algebra/recordings/start", {"status": "sent"})
    start = asyncio.create_task(daily.start_recording("algebra", uuid4()))
    await until(lambda: at_daily.asked)
    assert await start is Start.SENT
    first, second = at_daily.asked
    assert first == second


async def test_a_pause_holds_for_every_process(daily: Daily, at_daily: Wire, budget: Budgets) -> None:
    at_daily.answers("GET /recordings", {"error": "rate-limit-error"}, 429)
    async with deadline.begin(1.0):
        with pytest.raises(DailyUnavailable) as failure:
            await daily.recordings("algebra")
    assert not failure.value.taken
    (wait,) = await budget.reserve("recordings", 1)
    assert wait > 0.2


async def test_a_pause_is_as_long_as_daily_says(daily: Daily, at_daily: Wire, budget: Budgets) -> None:
    at_daily.answers("GET /recordings", {"error": "rate-limit-error"}, 429, **{"Retry-After": "25"})
    async with deadline.begin(1.0):
        with pytest.raises(DailyUnavailable):
            await daily.recordings("algebra")
    (wait,) = await budget.reserve("recordings", 1)
    assert 20 < wait < 27


# Asked once


async def test_twenty_looks_at_one_recording_at_one_time_are_one_request(daily: Daily, at_daily: Wire) -> None:
    at_daily.open.clear()
    at_daily.answers("GET /recordings/rec-1", RECORDING)
    looks = [asyncio.create_task(daily.recording("rec-1")) for _ in range(20)]
    await until(lambda: at_daily.asked)
    looks[0].cancel()
    looks[7].cancel()
    at_daily.open.set()
    seen = await asyncio.gather(*looks, return_exceptions=True)
    assert at_daily.calls == ["GET /recordings/rec-1"]
    assert [number for number, one in enumerate(seen) if isinstance(one, asyncio.CancelledError)] == [0, 7]
    assert {one.id for one in seen if one is not None and not isinstance(one, BaseException)} == {"rec-1"}


async def test_a_look_that_nobody_waits_for_any_more_is_not_sent(daily: Daily, at_daily: Wire, budget: Budgets) -> None:
    await budget.pause("default", 0.5)
    looks = [asyncio.create_task(daily.recording("rec-1")) for _ in range(3)]
    await asyncio.sleep(0.1)
    for look in looks:
        look.cancel()
    await asyncio.gather(*looks, return_exceptions=True)
    at_daily.answers("GET /webhooks", [])
    assert await daily.webhooks() == []
    assert at_daily.calls == ["GET /webhooks"]


async def test_a_look_fails_for_all_who_wait_for_it_and_for_nobody_later(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers("GET /recordings/rec-1", {"error": "forbidden-error"}, 403)
    at_daily.answers("GET /recordings/rec-1", RECORDING)
    failures = await asyncio.gather(*[daily.recording("rec-1") for _ in range(3)], return_exceptions=True)
    assert {str(failure) for failure in failures} == {"Daily answered 403: forbidden-error"}
    assert await daily.recording("rec-1") is not None


async def test_an_access_link_is_shared_until_shortly_before_it_expires(daily: Daily, at_daily: Wire) -> None:
    lasting, short = int(time.time()) + 3600, int(time.time()) + 50
    at_daily.answers("GET /recordings/rec-1/access-link", {"download_link": "https://files/1", "expires": lasting})
    at_daily.answers("GET /recordings/rec-2/access-link", {"download_link": "https://files/2", "expires": short})
    assert {(await daily.access_link("rec-1")).url for _ in range(5)} == {"https://files/1"}
    assert {(await daily.access_link("rec-2")).url for _ in range(2)} == {"https://files/2"}
    assert at_daily.calls == ["GET /recordings/rec-1/access-link"] + 2 * ["GET /recordings/rec-2/access-link"]


# The domain's id


async def token(daily: Daily) -> str:
    return await daily.meeting_token(
        "algebra", user="sam", name="Sam", role=Role.STUDENT, mic_allowed=True, camera_allowed=True
    )


async def test_a_process_started_while_daily_is_down_issues_tokens(parts: Parts, at_daily: Wire) -> None:
    at_daily.answers("GET /", {"domain_name": "school", "domain_id": "dom-1"})
    async with client(at_daily.url, parts.database_url) as earlier:
        await asyncio.gather(*[token(earlier) for _ in range(20)])
    assert at_daily.calls == ["GET /"]
    at_daily.answers("GET /", {"error": "server-error"}, 500)
    async with client(at_daily.url, parts.database_url) as later:
        assert await token(later)
    assert at_daily.calls == ["GET /"]


async def test_the_domain_of_another_key_is_another_and_the_key_is_not_stored(
    parts: Parts, at_daily: Wire, database: psycopg.Connection
) -> None:
    at_daily.answers("GET /", {"domain_name": "school", "domain_id": "dom-1"})
    for key in (f"the first {KEY}", f"the second {KEY}"):
        async with client(at_daily.url, parts.database_url, key) as daily:
            await token(daily)
    stored = database.execute("SELECT fingerprint, domain_id FROM daily_domains").fetchall()
    assert at_daily.calls == ["GET /", "GET /"]
    assert [domain for _, domain in stored] == ["dom-1", "dom-1"]
    assert not any(KEY in fingerprint for fingerprint, _ in stored)
