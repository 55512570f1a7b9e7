"""Spans of calls, of what upkeep does, and of the parts of both. Off, as they are until `server.otel` begins them, each
costs a look at one variable."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Attributes = Mapping[str, str | int]
NONE: Attributes = {}
OFF = nullcontext()


class Tracer(Protocol):
    def whole(
        self, name: str, attributes: Attributes, headers: Mapping[str, str] | None
    ) -> AbstractContextManager[None]: ...

    def part(self, name: str, attributes: Attributes) -> AbstractContextManager[None]: ...
    def note(self, attributes: Attributes, *, failed: bool) -> None: ...
    def trace_id(self) -> str | None: ...


_tracer: Tracer | None = None


def begin(tracer: Tracer) -> None:
    global _tracer
    _tracer = tracer


def is_on() -> bool:
    return _tracer is not None


def whole(
    name: str, attributes: Attributes = NONE, headers: Mapping[str, str] | None = None
) -> AbstractContextManager[None]:
    """A span of its own. That of a call has headers, and goes on with the trace that they name."""
    return OFF if _tracer is None else _tracer.whole(name, attributes, headers)


def part(name: str, attributes: Attributes = NONE) -> AbstractContextManager[None]:
    """A span inside the one at hand, which has failed if it raises; none where none is at hand."""
    return OFF if _tracer is None else _tracer.part(name, attributes)


def note(attributes: Attributes, *, failed: bool = False) -> None:
    """Adds to the span at hand."""
    if _tracer is not None:
        _tracer.note(attributes, failed=failed)


def trace_id() -> str | None:
    return None if _tracer is None else _tracer.trace_id()
