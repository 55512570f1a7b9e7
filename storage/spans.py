"""Spans around transactions and batches: whoever constructs the storage may have them traced."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

Span = Callable[[str, Mapping[str, str | int]], AbstractContextManager[None]]
"""By its name and attributes; entered when the work begins."""

_NONE = nullcontext()


def no_span(name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[None]:
    return _NONE
