"""What can go wrong, in our words and without gRPC; `interceptors` turns it into statuses.

ServiceError
├── InvalidArgument       a field is missing, malformed or out of its range
├── Unauthenticated       no trusted token or signature
├── PermissionDenied      known, but may not
├── NotFound              no such session, or it has no recording
├── FailedPrecondition    not in this state
├── Overloaded            more work than we can take
├── Internal              asking again would not help
├── Unavailable           Daily.co or PostgreSQL cannot do its part now; trying again is safe
├── StreamEnded           a stream ends although there is more to come: its client is to come back
└── SlowReader            a stream's client does not take what it is sent
"""


class ServiceError(Exception):
    """`reason` is a name of ErrorReason in errors.proto without its prefix; `message` is for the caller."""

    reason = "INTERNAL"

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.reason


class InvalidArgument(ServiceError):
    """`fields` are the REST names of the fields at fault."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, message: str, *fields: str, reason: str | None = None) -> None:
        super().__init__(message, reason)
        self.fields = fields


class Unauthenticated(ServiceError):
    reason = "UNAUTHENTICATED"


class PermissionDenied(ServiceError):
    reason = "PERMISSION_DENIED"


class NotFound(ServiceError):
    pass


class FailedPrecondition(ServiceError):
    pass


class Overloaded(ServiceError):
    reason = "OVERLOADED"


class Internal(ServiceError):
    """`message` goes to the log; the caller reads the RPC's own "Failed to …"."""


class Unavailable(ServiceError):
    """`message` goes to the log; the caller reads the RPC's own "Failed to …"."""

    reason = "DEPENDENCY_UNAVAILABLE"


class StreamEnded(ServiceError):
    reason = "STREAM_ENDED"


class SlowReader(ServiceError):
    reason = "SLOW_READER"
