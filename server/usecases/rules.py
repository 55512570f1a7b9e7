"""Pure decisions: no I/O, no waiting, the time passed in. They return quietly or raise."""

from datetime import timedelta
from typing import TypeVar

from server import deadline
from server.caller import Caller
from server.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from storage.model import (
    Admission,
    NewSession,
    Participant,
    Recording,
    RecordingStatus,
    Session,
    SessionRow,
    SessionStatus,
)

S = TypeVar("S", Session, SessionRow)

LEASE = timedelta(seconds=deadline.CALL + 2)
"""How long a call may work on a create or a start before another may go on with it: longer than any call takes."""
LATE = timedelta(seconds=6)
"""How long after it was given up a request may still take effect at Daily."""


def found(session: S | None) -> S:
    if session is None:
        raise NotFound("Session not found", "SESSION_NOT_FOUND")
    return session


def recorded(recording: Recording | None) -> Recording:
    if recording is None:
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
    if session.status == SessionStatus.ENDED or session.delete_requested_at is not None:
        raise ended()


def may_join(admission: Admission | None, room_name: str) -> Admission:
    if admission is None:
        raise NotFound("Session not found", "SESSION_NOT_FOUND")
    if admission.status == SessionStatus.ENDED or admission.delete_requested_at is not None:
        raise ended()
    if admission.was_kicked:
        raise PermissionDenied(f"Not authorized to join session:{room_name}")
    return admission


def ended() -> FailedPrecondition:
    return FailedPrecondition("Session has ended", "SESSION_ENDED")


def same_request(session: Session, new: NewSession) -> None:
    """A repeated create must ask for what the first one asked for."""
    first = NewSession(session.course_id, session.starts_at, session.recording_enabled, session.max_participants)
    if first != new:
        raise InvalidArgument(
            "Idempotency-Key was used before with another request",
            "Idempotency-Key",
            reason="IDEMPOTENCY_KEY_REUSED",
        )


def is_over(recording: Recording, session: Session) -> bool:
    """Whether a stop has nothing left to do."""
    return recording.status != RecordingStatus.PROCESSING and session.status == SessionStatus.ENDED
