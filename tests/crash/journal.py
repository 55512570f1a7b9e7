"""What callers were told, which must be true for ever after."""

from dataclasses import dataclass, field
from typing import Any

from live_sessions.v1 import resources_pb2 as pb
from tests.crash.plan import PlannedSession


@dataclass
class Stream:
    """What was told of a session, without a break, after a revision."""

    after: int
    told: list[pb.LiveSessionEvent] = field(default_factory=list)
    ended: bool = False
    """With the word that there is no more to come."""


@dataclass
class Watched:
    """A session, and all that somebody who follows it was told: its instructor, or None for anybody."""

    room: str
    instructor: str | None
    streams: list[Stream] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The revision to come back with."""
        revisions = (event.revision for stream in reversed(self.streams) for event in reversed(stream.told))
        return next((revision for revision in revisions if revision), 0)


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
    watched: list[Watched] = field(default_factory=list)
