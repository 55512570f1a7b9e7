"""The log: lines for people or for machines, and what each line of a call carries, wherever it is written."""

import json
import logging
import re
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Format = Literal["text", "json"]
PLAIN = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
"""What a field may be: nothing that could pass for another field, or another line."""


@dataclass(slots=True)
class Call:
    """A call as its lines name it."""

    request_id: str
    method: str
    session: str | None = None
    """The room's name, once it is known: as the caller wrote it."""
    trace_id: str | None = None


_call: ContextVar[Call] = ContextVar("call")


def belongs_to(call: Call) -> None:
    """Everything that this task and those which it begins write from now on."""
    _call.set(call)


def concerns(room_name: str | None) -> None:
    """The call at hand, if there is one, is about this session, or so its caller says."""
    if (call := _call.get(None)) is not None:
        call.session = room_name


def belongs_to_trace(id: str | None) -> None:
    """The call at hand is part of this trace."""
    if (call := _call.get(None)) is not None:
        call.trace_id = id


def to_stderr(format: Format) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if format == "json" else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "alembic", "storage.pool"):  # the last: SQLAlchemy, in the name of our pool
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _fields() -> dict[str, str]:
    call = _call.get(None)
    if call is None:
        return {}
    fields = {name: getattr(call, name) for name in ("request_id", "method", "session", "trace_id")}
    return {name: value for name, value in fields.items() if value is not None and PLAIN.fullmatch(value)}


class _Text(logging.Formatter):
    """`time level logger message`, and the call's fields behind them."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the library's
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in _fields().items())])


class _Json(logging.Formatter):
    """One object a line, a traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | _fields())
