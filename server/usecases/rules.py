"""Pure decisions: no I/O, no waiting, the time passed in. They return quietly or raise."""

import json
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TypeVar

from server import deadline
from server.caller import Caller
from server.daily.model import Present
from server.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from storage.model import (
    Admission,
    Chore,
    Connection,
    Moderation,
    NewSession,
    Occupancy,
    Participant,
    Recording,
    RecordingStatus,
    Session,
    SessionChanges,
    SessionStatus,
)

S = TypeVar("S")

LEASE = timedelta(seconds=deadline.WORK + 2)
"""How long whoever began may work on something before another may go on with it: longer than any work takes."""
LATE = timedelta(seconds=6)
"""How long after it was given up a request may still take effect at Daily."""
LAST_RESORT = timedelta(days=1)
"""After the latest end that the rules allow, Daily removes the room by itself."""
LOST_LEAVE = 4
"""After an empty timeout, and from then on after each so many of them, Daily is asked who is in a room that seems
occupied: a leave may have been lost."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The rules by which a class ends by itself; None switches one off."""

    empty: timedelta | None = None
    no_show: timedelta | None = None
    max_duration: timedelta | None = None
    closing: timedelta | None = None

    @property
    def first_look(self) -> timedelta | None:
        """After which a session that has become live is looked at."""
        return min((rule for rule in (self.empty, self.max_duration) if rule is not None), default=None)

    def room_expires_at(self, session: Session) -> datetime | None:
        if self.no_show is None or self.max_duration is None or self.closing is None:
            return None
        latest_start = max(planned(session), session.updated_at)
        try:
            return latest_start + self.no_show + self.max_duration + self.closing + LAST_RESORT
        except OverflowError:  # in the last days of the year 9999
            return None


@dataclass(frozen=True, slots=True)
class End:
    """The session is to end, as of then."""

    as_of: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """There is nothing to do before then."""

    at: datetime | None


@dataclass(frozen=True, slots=True)
class AskWhoIsThere:
    """What we were told is not enough to decide; whatever Daily says, the session is looked at again by then."""

    ends_by: datetime | None


def taken_at(item: Session | Moderation | Recording | Chore) -> datetime:
    """When upkeep took an item, by PostgreSQL's clock."""
    assert item.due_at is not None
    return item.due_at - LEASE


def planned(session: Session) -> datetime:
    """When it was to start; a session may be created for a time that has passed."""
    return max(session.starts_at, session.created_at)


def next_step(session: Session, room: Occupancy, lifetimes: Lifetimes, now: datetime) -> End | Look | AskWhoIsThere:
    """What a session needs whose end nobody asked for."""
    if session.status == SessionStatus.SCHEDULED:
        if lifetimes.no_show is None:
            return Look(None)
        at = planned(session) + lifetimes.no_show
        return End(now, "nobody came") if at <= now else Look(at)
    live_at = session.live_at or session.created_at
    longest = None if lifetimes.max_duration is None else live_at + lifetimes.max_duration
    if longest is not None and longest <= now:
        return End(now, "it was live for too long")
    if lifetimes.empty is None:
        return Look(longest)
    look = live_at + lifetimes.empty if room.inside else empty_since(session, room) + lifetimes.empty
    return AskWhoIsThere(ends_by=longest) if look <= now else Look(min(look, longest or look))


def at_the_latest(step: End | Look, at: datetime | None) -> End | Look:
    """A look that is to come later comes then."""
    return Look(min(step.at, at)) if isinstance(step, Look) and step.at is not None and at is not None else step


def empty_since(session: Session, room: Occupancy) -> datetime:
    return room.last_left_at or session.live_at or session.created_at


def found(session: S | None) -> S:
    if session is None:
        raise NotFound("Session not found", "SESSION_NOT_FOUND")
    return session


def recorded(recording: Recording | None) -> Recording:
    if recording is None or recording.recording_id is None:
        raise NotFound("This session has not been recorded", "RECORDING_NOT_FOUND")
    return recording


def owns(caller: Caller, session: Session, to_do: str) -> None:
    """Only the instructor who created a session may change it; `to_do` completes "Not authorized to …"."""
    if caller.id != session.created_by:
        raise PermissionDenied(f"Not authorized to {to_do} session:{session.room_name}")


def may_watch(caller: Caller, session: Session, participant: Participant | None) -> None:
    """The recording is for the instructor and for those who were there and were not removed."""
    if caller.id == session.created_by:
        return
    if participant is None or participant.joined_at is None or participant.was_kicked:
        raise PermissionDenied(f"Not authorized to access recording for session:{session.room_name}")


def may_record(session: Session) -> None:
    if not session.recording_enabled:
        raise FailedPrecondition("Recording is not enabled for this session", "RECORDING_NOT_ENABLED")
    if session.end_requested_at is not None:
        raise ended()


def may_join(admission: Admission | None, room_name: str) -> Admission:
    if admission is None:
        raise NotFound("Session not found", "SESSION_NOT_FOUND")
    if admission.end_requested_at is not None:
        raise ended()
    if admission.was_kicked:
        raise PermissionDenied(f"Not authorized to join session:{room_name}")
    return admission


def ended() -> FailedPrecondition:
    return FailedPrecondition("Session has ended", "SESSION_ENDED")


def same_request(session: Session, new: NewSession) -> None:
    """A repeated create must ask for what the first one asked for, and before its session has ended."""
    if (session.created_as or as_created(session)) != as_created(new):
        raise InvalidArgument(
            "Idempotency-Key was used before with another request",
            "Idempotency-Key",
            reason="IDEMPOTENCY_KEY_REUSED",
        )
    if session.end_requested_at is not None:
        raise ended()


def as_created(what: Session | NewSession) -> str:
    """What a create asked for, to be compared with what another one asks for."""
    return json.dumps([what.course_id, what.starts_at.isoformat(), what.recording_enabled, what.max_participants])


def may_have_recorded(session: Session) -> bool:
    """Also one in which that has been switched off."""
    return session.recording_enabled or session.room_changed_at is not None


def changes(session: Session, asked: SessionChanges) -> dict[str, object]:
    """The columns that differ from what is asked for."""
    values = {field.name: getattr(asked, field.name) for field in fields(asked)}
    if asked.max_participants == 0:
        values["max_participants"] = None
    given = [name for name in values if getattr(asked, name) is not None]
    differing = {name: values[name] for name in given if values[name] != getattr(session, name)}
    if session.end_requested_at is not None:
        raise ended()
    if "starts_at" in differing and session.status != SessionStatus.SCHEDULED:
        raise FailedPrecondition("Session has started", "SESSION_STARTED")
    return differing


def room_is_stale(session: Session) -> bool:
    """Whether it is not certain that Daily knows what was changed of the room."""
    changed, updated = session.room_changed_at, session.room_updated_at
    return changed is not None and (updated is None or updated < changed)


def may_be_removed(session: Session, user_id: str) -> None:
    if user_id == session.created_by:
        raise FailedPrecondition("The session's instructor cannot be removed", "INSTRUCTOR_NOT_REMOVABLE")


def known(participant: Participant | None) -> Participant:
    if participant is None:
        raise NotFound("Participant not found", "PARTICIPANT_NOT_FOUND")
    return participant


def stays_of(present: list[Present]) -> list[Connection]:
    """As Daily's presence tells them."""
    return [
        Connection(one.connection_id, one.user_id, one.joined_at, None, user_name=one.user_name)
        for one in present
        if one.joined_at
    ]


def is_undecided(recording: Recording) -> bool:
    """Whether it is not known yet what came of its start."""
    return recording.status == RecordingStatus.PROCESSING and recording.recording_id is None


def is_running_one_of_ours(recording: Recording) -> bool:
    """Of which a session has one at the most."""
    return recording.status == RecordingStatus.PROCESSING and recording.instance_id is not None
