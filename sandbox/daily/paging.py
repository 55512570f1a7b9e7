"""Daily's lists: newest first, `limit` (at most 100, the default), cursors that name an object's id."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .errors import invalid

MAX_LIMIT = 100
CURSORS = {"starting_after", "ending_before"}
T = TypeVar("T")


def page(newest_first: Sequence[T], query: Mapping[str, str], id_of: Callable[[T], str]) -> Sequence[T]:
    limit = limit_of(query)
    start, end = 0, len(newest_first)
    ids = [id_of(item) for item in newest_first] if CURSORS & query.keys() else []
    if "starting_after" in query:
        start = _position(ids, query["starting_after"]) + 1
    if "ending_before" in query:
        end = _position(ids, query["ending_before"])
        if "starting_after" not in query:
            start = max(0, end - limit)
    return newest_first[start:end][:limit]


def limit_of(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(MAX_LIMIT))
    if not (text.isdecimal() and 1 <= int(text) <= MAX_LIMIT):
        raise invalid(f"limit must be an integer from 1 to {MAX_LIMIT}")
    return int(text)


def _position(ids: list[str], cursor: str) -> int:
    try:
        return ids.index(cursor)
    except ValueError:
        raise invalid(f"no object with id {cursor}") from None
