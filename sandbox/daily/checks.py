"""The types that values in request bodies must have, with one message for each wrong one."""

import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .errors import invalid

Check = tuple[str, Callable[[Any], bool]]


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return is_int(value) or (isinstance(value, float) and math.isfinite(value))


def is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def _flags_or_subset(allowed: set[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, bool) or (is_strings(value) and set(value) <= allowed)


PERMISSIONS: dict[str, Check] = {
    "hasPresence": ("a boolean", lambda v: isinstance(v, bool)),
    "canSend": (
        "a boolean or a list of video, audio, screenVideo, screenAudio, customVideo, customAudio",
        _flags_or_subset({"video", "audio", "screenVideo", "screenAudio", "customVideo", "customAudio"}),
    ),
    "canReceive": (
        "an object of base, byUserId, byParticipantId",
        lambda v: isinstance(v, dict) and v.keys() <= {"base", "byUserId", "byParticipantId"},
    ),
    "canAdmin": (
        "a boolean or a list of participants, streaming, transcription",
        _flags_or_subset({"participants", "streaming", "transcription"}),
    ),
}


def is_permissions(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in PERMISSIONS and PERMISSIONS[name][1](item) for name, item in value.items()
    )


BOOLEAN: Check = ("a boolean", lambda v: isinstance(v, bool))
STRING: Check = ("a string", lambda v: isinstance(v, str))
NUMBER: Check = ("a number", is_number)
UNIX_TIME: Check = ("a number (unix seconds)", is_number)
SECONDS: Check = ("a number of seconds, 0 or more", lambda v: is_number(v) and v >= 0)
POSITIVE: Check = ("a positive number", lambda v: is_number(v) and v > 0)
POSITIVE_INT: Check = ("a positive integer", lambda v: is_int(v) and v > 0)
OBJECT: Check = ("an object", lambda v: isinstance(v, dict))
UUID: Check = ("a UUID", is_uuid)
IDS: Check = ("a list of at most 100 strings", lambda v: is_strings(v) and len(v) <= 100)
PERMISSION_SET: Check = ("an object of hasPresence, canSend, canReceive, canAdmin", is_permissions)


def one_of(*allowed: str) -> Check:
    return "one of " + ", ".join(allowed), lambda v: isinstance(v, str) and v in allowed


def check(values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Raises 400 for the first value of the wrong type. Absent values and names without a check pass."""
    for name, (kind, ok) in checks.items():
        if name in values and not ok(values[name]):
            raise invalid(f"{name} must be {kind}")
