"""Values as Daily writes them, read tolerantly and bounded: nothing leaves here that PostgreSQL could not store."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from server.daily.tokens import user_id

MAX_ID = 256
MAX_TEXT = 1000
MAX_SECONDS = 1e9
"""The longest duration that can be meant, some thirty years."""
MILLISECONDS = 1e11
"""Unix seconds are below it for three thousand years, and milliseconds have been above it since 1973."""
HIDDEN_USER = "hipaa"
"""What stands in the place of user ids on domains that must not show them."""

Item = Mapping[str, Any]


class Unreadable(Exception):
    """A value without which the whole item says nothing is missing, or is nothing that we understand."""


def mapping(value: object) -> Item:
    """Raises Unreadable for anything but a JSON object."""
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    return value


def given_id(item: Item, field: str) -> str:
    """The id in this field. Raises Unreadable when there is none, or one that cannot be stored."""
    if id := optional_id(item, field):
        return id
    raise Unreadable(f"no {field}")


def optional_id(item: Item, field: str) -> str | None:
    """None where there is no id. Raises Unreadable for one that cannot be stored: shortened, it would be another's."""
    value = item.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
        value = str(value)
    if not is_id(value):
        raise Unreadable(f"odd {field}")
    return str(value)


def is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and storable(value) == value


def user_of(item: Item, field: str, connection_id: str) -> str:
    """The user's id inside Daily; that of the connection where Daily names no user."""
    id = optional_id(item, field)
    return connection_id if id in (None, HIDDEN_USER) else str(id)


def name_of(item: Item, field: str, user: str) -> str | None:
    """The user's name. A token of ours without one has our id in its place, which is none."""
    name = text(item.get(field))
    return None if name is not None and user_id(name) == user else name


def text(value: object, max_length: int = MAX_TEXT) -> str | None:
    """Free text without what cannot be stored, cut; None for nothing and for what is no text."""
    return storable(value)[:max_length] or None if isinstance(value, str) else None


def storable(value: str) -> str:
    """Without NUL characters and halves of surrogate pairs."""
    return value.replace("\0", "").encode(errors="ignore").decode()


def time_of(value: object) -> datetime:
    """A moment in seconds or milliseconds since 1970, as a number or as text, or in ISO form; cut to milliseconds.
    Raises Unreadable."""
    try:
        return _moment(_iso(value) if isinstance(value, str) and not _is_number(value) else _number(value))
    except (ValueError, OverflowError):
        raise Unreadable("odd time") from None


def later(moment: datetime, seconds: float) -> datetime:
    """Of a moment and a duration that were read here, so that no calendar is too short for it."""
    return moment + timedelta(milliseconds=int(seconds * 1000 + 0.5))


def _moment(seconds: float) -> datetime:
    seconds = seconds / 1000 if seconds > MILLISECONDS else seconds
    if not 0 <= seconds <= MILLISECONDS:
        raise ValueError("before 1970, or in thousands of years")
    return datetime.fromtimestamp(int(seconds * 1000 + 0.5) / 1000, UTC)


def _iso(value: str) -> float:
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def optional_time(item: Item, field: str) -> datetime | None:
    """None too for what is no time: another one, less exact, stands in for it."""
    try:
        return None if item.get(field) is None else time_of(item[field])
    except Unreadable:
        return None


def optional_seconds(item: Item, field: str) -> float | None:
    """A duration; None for what is none."""
    try:
        seconds = _number(item.get(field))
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= MAX_SECONDS else None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _number(value: object) -> float:
    """Raises ValueError, OverflowError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("no number")
    return number
