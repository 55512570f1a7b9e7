"""What a request to Daily can come to, beside its answer."""

from server.errors import Internal, Unavailable


class DailyUnavailable(Unavailable):
    """No answer, or none that says what happened. `taken`: the request may have had its effect, or have it yet; else
    it certainly has none."""

    def __init__(self, message: str, *, taken: bool) -> None:
        super().__init__(message)
        self.taken = taken


class DailyRefused(Internal):
    """Daily said no, and nothing happened: asking again would not help. `status` is HTTP's, `info` are Daily's words;
    the message is for the log."""

    def __init__(self, status: int, info: str) -> None:
        super().__init__(f"Daily answered {status}: {info[:300]}")
        self.status = status
        self.info = info


class DailyUnreadable(Internal):
    """Daily answered well, with something that we do not understand; the message is for the log."""
