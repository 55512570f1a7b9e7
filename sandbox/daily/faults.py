"""Faults to order: which one the next matching API call or webhook event meets."""

import asyncio
from dataclasses import asdict, dataclass

from . import checks
from .errors import invalid
from .model import EVENT_TYPES, JSON

HTTP_FAULTS = ("status", "rate_limit", "delay", "hang", "lost_answer", "nobody_in_call")
WEBHOOK_FAULTS = ("webhook_drop", "webhook_delay", "webhook_duplicate", "webhook_reorder")
FIELDS: dict[str, checks.Check] = {
    "fault": checks.one_of(*HTTP_FAULTS, *WEBHOOK_FAULTS),
    "method": checks.one_of("GET", "POST", "DELETE"),
    "path": ("a path that starts with /", lambda v: isinstance(v, str) and v.startswith("/")),
    "status": ("an integer from 400 to 599", lambda v: checks.is_int(v) and 400 <= v <= 599),
    "seconds": checks.POSITIVE,
    "times": ("a positive integer or null", lambda v: v is None or (checks.is_int(v) and v > 0)),
    "type": checks.one_of(*EVENT_TYPES),
    "room": checks.STRING,
}
NEEDED = {"status": ("status",), "delay": ("seconds",), "webhook_delay": ("seconds",)}


@dataclass
class Fault:
    """`times` is how often it still acts, None until cleared; `type` and `room` narrow a fault of events."""

    fault: str
    method: str | None = None
    path: str | None = None
    status: int | None = None
    seconds: float | None = None
    times: int | None = 1
    type: str | None = None
    room: str | None = None

    def meets_call(self, method: str, path: str) -> bool:
        if self.path is None or self.method != method:
            return False
        wanted, given = self.path.strip("/").split("/"), path.strip("/").split("/")
        return len(wanted) == len(given) and all(
            want == "*" or want.startswith(":") or want == have for want, have in zip(wanted, given, strict=True)
        )

    def meets_event(self, type: str, room: str) -> bool:
        return self.fault in WEBHOOK_FAULTS and self.type in (None, type) and self.room in (None, room)


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.cleared = asyncio.Event()

    def add(self, body: JSON) -> JSON:
        fault = _parsed(body)
        self._faults.append(fault)
        return asdict(fault)

    def listed(self) -> list[JSON]:
        return [asdict(fault) for fault in self._faults]

    def clear(self) -> None:
        """Also releases the calls that hang."""
        self._faults.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()

    def take_for_call(self, method: str, path: str) -> Fault | None:
        return self._take(next((f for f in self._faults if f.meets_call(method, path)), None))

    def take_for_event(self, type: str, room: str) -> Fault | None:
        return self._take(next((f for f in self._faults if f.meets_event(type, room)), None))

    def _take(self, fault: Fault | None) -> Fault | None:
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._faults.remove(fault)
        return fault


def _parsed(body: JSON) -> Fault:
    if unknown := body.keys() - FIELDS.keys():
        raise invalid(f"unknown field {min(unknown)}; known are {', '.join(FIELDS)}")
    checks.check(body, FIELDS)
    name = body.get("fault")
    needed = ["fault", *NEEDED.get(str(name), ())]
    if name in HTTP_FAULTS:
        needed += ["method", "path"]
    if missing := [field for field in needed if field not in body]:
        raise invalid(f"{missing[0]} is required")
    return Fault(**body)
