"""Pages of a list: opaque tokens that are bound to the list which they were made for."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from server.errors import InvalidArgument

MAX_SIZE = 1000

Cursor = tuple[datetime, UUID]


class Row(Protocol):
    @property
    def id(self) -> UUID | str: ...


class Request(Protocol):
    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Page:
    """`size` rows, or all, of the list `scope`, from behind the row `after`."""

    scope: str
    size: int | None
    after: Cursor | None

    @property
    def limit(self) -> int | None:
        """How many rows to read: one more than asked for tells whether there is a next page."""
        return None if self.size is None else self.size + 1

    def cut(self, rows: Sequence[R], time: Callable[[R], datetime]) -> tuple[Sequence[R], str]:
        """The rows of this page, and the token of the next one, which is empty on the last."""
        if self.size is None or len(rows) <= self.size:
            return rows, ""
        last = rows[self.size - 1]
        token = json.dumps([self.scope, time(last).isoformat(), str(last.id)])
        return rows[: self.size], base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def page(request: Request, scope: str) -> Page:
    """Raises InvalidArgument for a size or a token that cannot be."""
    size, token = request.page_size, request.page_token
    if size < 0:
        raise InvalidArgument("pageSize must be at least 1", "pageSize")
    if token and not size:
        raise InvalidArgument("pageToken needs a pageSize", "pageSize")
    return Page(scope, min(size, MAX_SIZE) or None, _cursor(token, scope) if token else None)


def _cursor(token: str, scope: str) -> Cursor:
    try:
        made_for, at, id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        cursor = datetime.fromisoformat(at), UUID(id)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise InvalidArgument("pageToken is not one that we gave", "pageToken") from None
    if made_for != scope or cursor[0].tzinfo is None:
        raise InvalidArgument("pageToken was given for another list", "pageToken")
    return cursor
