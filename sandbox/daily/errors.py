"""Daily's errors: raised anywhere in the stand-in, turned into `{"error", "info"}` by app.py alone."""

from typing import Any

ERROR_OF_STATUS = {
    400: "invalid-request-error",
    401: "authentication-error",
    403: "forbidden-error",
    404: "not-found",
    429: "rate-limit-error",
}


class DailyError(Exception):
    def __init__(self, status: int, info: str | None = None, *, error: str | None = None, **more: Any) -> None:
        self.status = status
        self.body = {"error": error or ERROR_OF_STATUS.get(status, "server-error")}
        if info is not None:
            self.body["info"] = info
        self.body.update(more)
        super().__init__(self.body)


def invalid(info: str) -> DailyError:
    return DailyError(400, info)


def room_not_found(room: str, **more: Any) -> DailyError:
    return DailyError(404, f"room {room} not found", **more)


def nobody_in_call(name: str) -> DailyError:
    return DailyError(404, f"room {name} does not seem to be hosting a call currently")
