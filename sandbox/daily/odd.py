"""Odd records: which fields of which record are shown otherwise than they are, or not at all."""

from dataclasses import asdict, dataclass, field
from typing import Any

from . import checks
from .errors import invalid

JSON = dict[str, Any]
FIELDS: dict[str, checks.Check] = {
    "kind": checks.one_of("room", "meeting", "participant", "recording", "webhook"),
    "id": checks.STRING,
    "room": checks.STRING,
    "where": checks.one_of("answers", "events"),
    "set": checks.OBJECT,
    "remove": ("a list of strings", checks.is_strings),
}


@dataclass
class Oddity:
    """Of one record by its id, of all in one room, or of all of its kind; in answers, in events, or in both."""

    kind: str
    id: str | None = None
    room: str | None = None
    where: str | None = None
    set: JSON = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)

    def meets(self, kind: str, id: str, room: str | None, where: str) -> bool:
        return self.kind == kind and self.id in (None, id) and self.room in (None, room) and self.where in (None, where)


class Oddities:
    def __init__(self) -> None:
        self._list: list[Oddity] = []

    def add(self, body: JSON) -> JSON:
        if unknown := body.keys() - FIELDS.keys():
            raise invalid(f"unknown field {min(unknown)}; known are {', '.join(FIELDS)}")
        if "kind" not in body:
            raise invalid("kind is required")
        checks.check(body, FIELDS)
        self._list.append(Oddity(**body))
        return asdict(self._list[-1])

    def listed(self) -> list[JSON]:
        return [asdict(each) for each in self._list]

    def clear(self) -> None:
        self._list.clear()

    def shown(self, record: JSON, kind: str, id: str, room: str | None = None, where: str = "answers") -> JSON:
        """The record as Daily shows it."""
        for each in self._list:
            if each.meets(kind, id, room, where):
                record = {name: value for name, value in (record | each.set).items() if name not in each.remove}
        return record
