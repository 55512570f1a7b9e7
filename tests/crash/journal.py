"""What callers were told, which must be true for ever after."""

from dataclasses import dataclass, field
from typing import Any

from tests.crash.plan import PlannedSession


@dataclass
class Journal:
    """Acknowledged writes, and `surprises`: answers that nobody may get in this workload (who, what)."""

    creates: list[tuple[PlannedSession, dict[str, Any]]] = field(default_factory=list)
    """What was asked for, and the session as it was answered."""
    deletes: list[str] = field(default_factory=list)
    starts: list[tuple[str, str]] = field(default_factory=list)
    """Room name and recordingId, as in `stops`."""
    stops: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[tuple[str, str, str]] = field(default_factory=list)
    """Room name, user id, role."""
    removals: list[tuple[str, str]] = field(default_factory=list)
    """Room name and user id, as in `readmissions`."""
    readmissions: list[tuple[str, str]] = field(default_factory=list)
    sizes: dict[str, set[int]] = field(default_factory=dict)
    """What each room's limit was changed to."""
    others: list[dict[str, Any]] = field(default_factory=list)
    """What other applications have on the domain: the stand-in's answers to POST /sandbox/others."""
    surprises: list[tuple[str, str]] = field(default_factory=list)
