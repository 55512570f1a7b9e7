"""A stack of its own for what kills or freezes servers."""

from collections.abc import Iterator

import pytest

from tests.faults.steps import Own, own_stack


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """A test may kill, freeze and restart its server."""
    with own_stack() as running:
        yield running
