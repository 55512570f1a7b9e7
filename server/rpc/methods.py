"""The one table of the service's RPCs: who may call each, and what callers read when it fails for our or a dependency's
fault. It fails closed: what it does not name cannot be called."""

from dataclasses import dataclass
from enum import Enum, auto

SERVICE = "live_sessions.v1.LiveSessions"


class Access(Enum):
    PUBLIC = auto()
    OPTIONAL = auto()
    """Public; a token that is given all the same must be a trusted one, for its holder may see more."""
    SIGNED_IN = auto()
    """Any trusted token; use cases that belong to one session's instructor check that themselves."""
    INSTRUCTOR = auto()
    DAILY = auto()
    """Daily's signature over the body, which the use case verifies."""


@dataclass(frozen=True, slots=True)
class Method:
    """`streams`: it answers with a stream."""

    access: Access
    failure: str
    streams: bool = False


METHODS = {
    "CreateLiveSession": Method(Access.INSTRUCTOR, "Failed to create session room"),
    "GetLiveSession": Method(Access.PUBLIC, "Failed to get session"),
    "DeleteLiveSession": Method(Access.SIGNED_IN, "Failed to delete session"),
    "UpdateLiveSession": Method(Access.SIGNED_IN, "Failed to update session"),
    "StartSessionRecording": Method(Access.SIGNED_IN, "Failed to start session recording"),
    "StopSessionRecording": Method(Access.SIGNED_IN, "Failed to stop session recording"),
    "GetSessionRecording": Method(Access.SIGNED_IN, "Failed to get session recording"),
    "GetSessionToken": Method(Access.SIGNED_IN, "Failed to get session token"),
    "GetInstructorLiveSessions": Method(Access.PUBLIC, "Failed to fetch instructor sessions"),
    "GetCourseLiveSessions": Method(Access.SIGNED_IN, "Failed to fetch course sessions"),
    "ListSessionParticipants": Method(Access.SIGNED_IN, "Failed to list session participants"),
    "ListSessionRecordings": Method(Access.SIGNED_IN, "Failed to list session recordings"),
    "UpdateSessionParticipant": Method(Access.SIGNED_IN, "Failed to update session participant"),
    "MuteSessionParticipants": Method(Access.SIGNED_IN, "Failed to mute session participants"),
    "RemoveSessionParticipant": Method(Access.SIGNED_IN, "Failed to remove session participant"),
    "ReadmitSessionParticipant": Method(Access.SIGNED_IN, "Failed to readmit session participant"),
    "GetSessionAttendance": Method(Access.SIGNED_IN, "Failed to get session attendance"),
    "ExportSessionAttendance": Method(Access.SIGNED_IN, "Failed to export session attendance"),
    "WatchLiveSession": Method(Access.OPTIONAL, "Failed to watch session", streams=True),
    "ReceiveDailyWebhook": Method(Access.DAILY, "Failed to receive webhook"),
}
