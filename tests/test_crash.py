"""The crash test in short, and that its checker finds out a server that leaves out a part of what it does."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash import crippled, plan, twins
from tests.crash.plan import Number
from tests.crash.run import Report, run


def test_a_seed_chooses_the_same_operations_faults_and_blows_every_time() -> None:
    number = Number(kills=20, postgres=2, freezes=3, cuts=3)
    first, again = (plan.make(7, 1000, number, servers=3) for _ in range(2))
    assert first == again != plan.make(8, 1000, number, servers=3)
    victims = [victim for blow in first.blows for victim in blow.victims]
    assert (len(victims), victims.count(plan.POSTGRES)) == (26, 2)
    assert {operation.kind for operation in first.operations} == plan.WEIGHTS.keys()
    assert {operation.fault["fault"] for operation in first.operations if operation.fault} == set(plan.FAULTS)


@pytest.fixture(scope="module")
def runs() -> Iterator[tuple[Report, dict[str, set[str]]]]:
    """A run in short, and what was found without parts, side by side: most of both is waiting."""
    # Not below `tmp_path`, which another test run of root's closes to PostgreSQL's own account.
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as marked, ThreadPoolExecutor(2) as pool:
        chosen = plan.make(10, 50, Number(kills=4, postgres=1, cuts=1), servers=2)
        running = pool.submit(run, chosen, Path(whole), servers=2)
        without = pool.submit(twins.found_without_parts, Path(marked))
        yield running.result(), without.result()


def test_nothing_acknowledged_is_lost_and_nothing_stays_undone_while_servers_and_database_are_killed(
    runs: tuple[Report, dict[str, set[str]]],
) -> None:
    report, _ = runs
    assert report.violations == []
    assert report.errors == []
    assert report.dealt == {"kill server": 3, "kill PostgreSQL": 1, "cut server": 1}
    assert sum(count for (_, outcome), count in report.outcomes.items() if outcome == "acknowledged") >= 20


# What the checker must find, at least, of a session with the part left out, when its twin is right.
FOUND = {
    "end": {"unfinished end", "open for ever", "recorded after closing"},
    "closing": {"unfinished closing"},
    "session": {"open for ever"},
    "start": {"unfinished start", "recording in no row"},
    "recording": {"unfinished recording", "recording differs"},
    "attendance": {"attendance", "meeting not compared"},
    "inbox": {"event not applied", "attendance"},
    "eject": {"inside after closing"},
    "webhook": {"webhook"},
    "budget": {"refused by limits"},
    "first": {"told nothing"},
    "resume": {"told twice"},
    "state": {"state not whole"},
    "change": {"change missed", "told otherwise"},
    "owner": {"told what is not theirs"},
    "last": {"stream not ended"},
}


@pytest.mark.parametrize("part", FOUND)
def test_a_server_that_leaves_out_a_part_is_found_out(part: str, runs: tuple[Report, dict[str, set[str]]]) -> None:
    _, found = runs
    assert found[part] >= FOUND[part]


def test_every_part_that_can_be_left_out_is_shown() -> None:
    assert FOUND.keys() == crippled.PARTS.keys()
