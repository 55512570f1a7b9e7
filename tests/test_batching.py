"""Concurrent calls share statements, and share nothing else."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from storage.batching import ENOUGH, MAX_SIZE, Batcher
from storage.errors import StorageUnavailable
from tests.clients import Rest


class Recorder:
    """Stands where a statement stands: doubles each number, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began: asyncio.Queue[list[int]] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        self.began.put_nowait(items)
        await self.gate.wait()
        if 13 in items:
            raise ValueError("no statement with 13 in it succeeds")
        if -1 in items:
            raise StorageUnavailable("gone")
        return [2 * item for item in items]


async def test_calls_that_come_together_share_one_statement() -> None:
    run = Recorder()
    batcher = Batcher(run)
    assert await asyncio.gather(*map(batcher, range(100, 200))) == list(range(200, 400, 2))
    assert run.batches == [list(range(100, 200))]


async def test_calls_that_are_in_no_hurry_wait_for_each_other_until_there_are_enough() -> None:
    run = Recorder()
    batcher = Batcher(run, linger=60)
    calls = [asyncio.create_task(batcher(100))]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(batcher(number)) for number in range(101, 100 + ENOUGH)]
    assert await asyncio.gather(*calls) == list(range(200, 200 + 2 * ENOUGH, 2))
    assert run.batches == [list(range(100, 100 + ENOUGH))]


async def test_calls_that_are_in_no_hurry_wait_no_longer_than_they_may() -> None:
    run = Recorder()
    assert await Batcher(run, linger=0.01)(1) == 2
    assert run.batches == [[1]]


async def test_a_lone_call_is_a_statement_of_its_own() -> None:
    run = Recorder()
    batcher = Batcher(run)
    assert [await batcher(1), await batcher(2)] == [2, 4]
    assert run.batches == [[1], [2]]


async def test_a_batch_is_bounded() -> None:
    run = Recorder()
    batcher = Batcher(run)
    await asyncio.gather(*map(batcher, range(MAX_SIZE + 14, 2 * MAX_SIZE + 15)))
    assert [len(batch) for batch in run.batches] == [MAX_SIZE, 1]


async def test_a_call_that_is_cancelled_does_not_harm_its_neighbours() -> None:
    run = Recorder()
    run.gate.clear()
    batcher = Batcher(run)
    calls = [asyncio.create_task(batcher(number)) for number in range(3)]
    assert await run.began.get() == [0, 1, 2]
    calls[1].cancel()
    run.gate.set()
    await asyncio.wait(calls)
    assert calls[1].cancelled()
    assert (calls[0].result(), calls[2].result()) == (0, 4)


async def test_a_call_that_fails_does_not_harm_its_neighbours() -> None:
    batcher = Batcher(Recorder())
    first, failed, last = await asyncio.gather(batcher(1), batcher(13), batcher(2), return_exceptions=True)
    assert (first, last) == (2, 4)
    assert isinstance(failed, ValueError)


async def test_an_outage_is_told_to_every_call_of_the_batch_and_to_no_later_one() -> None:
    batcher = Batcher(Recorder())
    failures = await asyncio.gather(batcher(1), batcher(-1), return_exceptions=True)
    assert [type(failure) for failure in failures] == [StorageUnavailable, StorageUnavailable]
    assert await batcher(3) == 6


async def test_a_statement_that_is_stuck_leaves_a_way_around_it() -> None:
    run = Recorder()
    run.gate.clear()
    batcher = Batcher(run)
    stuck = asyncio.create_task(batcher(1))
    assert await run.began.get() == [1]
    second = asyncio.create_task(batcher(2))
    assert await run.began.get() == [2]
    run.gate.set()
    assert (await stuck, await second) == (2, 4)


async def test_a_call_that_comes_as_all_statements_end_waits_for_nobody() -> None:
    run = Recorder()
    run.gate.clear()
    batcher = Batcher(run)

    async def twice() -> int:
        return await batcher(await batcher(1))

    first = asyncio.create_task(twice())
    assert await run.began.get() == [1]
    second = asyncio.create_task(batcher(3))
    assert await run.began.get() == [3]
    run.gate.set()
    assert await asyncio.wait_for(asyncio.gather(first, second), timeout=5) == [4, 6]


@pytest.mark.parametrize("round_", range(3))
def test_a_read_that_starts_after_an_acknowledged_write_sees_it(rest: Rest, round_: int) -> None:
    names = [rest.create(f"fresh-{round_}")["roomName"] for _ in range(10)]
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            for name in names:
                rest.get(name)

    readers = [threading.Thread(target=hammer) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for name in names:
            rest.call("DELETE", f"/sessions/{name}", f"fresh-{round_}")
            assert rest.get(name)["status"] == "ended"
    finally:
        done.set()
        for reader in readers:
            reader.join()
