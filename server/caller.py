"""Who makes the call at hand."""

from contextvars import ContextVar
from dataclasses import dataclass

from storage.model import Role


@dataclass(frozen=True, slots=True)
class Caller:
    id: str
    name: str | None
    role: Role


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """A LookupError on a public RPC, which has no business asking."""
    return _caller.get()


def known_caller() -> Caller | None:
    """None where an RPC needs no token and none came."""
    return _caller.get(None)


def set_caller(caller: Caller) -> None:
    _caller.set(caller)
