"""Any JSON at all as a create request: it makes a session exactly when the documented rule says so."""

import json
import re
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import Rest, said

ME = "any-json"
COUNT = "SELECT count(*) FROM sessions WHERE created_by = %s"
TIMES = ["2025-12-26T15:00:00.000Z", "2025-12-26T15:00:00Z", "2030-06-01T00:00:00+02:00"]
NAMES = ["courseId", "startsAt", "recordingEnabled", "maxParticipants"]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=5,
)
good = st.fixed_dictionaries(
    {"courseId": st.text(min_size=1, max_size=128), "startsAt": st.sampled_from(TIMES)},
    optional={"recordingEnabled": st.booleans() | st.none(), "maxParticipants": st.integers(-1, 202) | st.none()},
)
# One field at a time is odd, so that each decides often enough.
odd = st.builds(
    lambda request, change: request | change, good, st.dictionaries(st.sampled_from(NAMES), anything, max_size=1)
)
unknown = st.dictionaries(st.text(min_size=1).filter(lambda name: name not in NAMES), anything, max_size=2)
bodies = good | st.builds(lambda extra, request: extra | request, unknown, odd) | anything


def is_valid(body: Any) -> bool:
    """The rule of CreateLiveSessionRequest in service.proto."""
    if not isinstance(body, dict):
        return False
    course, recording, most = body.get("courseId"), body.get("recordingEnabled"), body.get("maxParticipants")
    return (
        isinstance(course, str)
        and 0 < len(course) <= 128
        and course.strip() != ""
        and not re.search(r"[\x00-\x1f\x7f-\x9f]", course)
        and body.get("startsAt") in TIMES
        and (recording is None or isinstance(recording, bool))
        and (most is None or (not isinstance(most, bool) and isinstance(most, int | float) and is_count(most)))
    )


def is_count(number: float) -> bool:
    return 1 <= number <= 200 and number == int(number)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, ascii_only=st.booleans())
def test_any_json_makes_a_session_exactly_when_it_is_a_valid_request(
    rest: Rest, database: psycopg.Connection, body: Any, ascii_only: bool
) -> None:
    before = database.execute(COUNT, [ME]).fetchone()
    content = json.dumps(body, ensure_ascii=ascii_only).encode()
    status, answer = said(rest.call("POST", "/sessions", ME, content=content))

    if is_valid(body):
        assert status == 201, answer
        assert answer["courseId"] == body["courseId"]
    else:
        assert status == 400, answer
        assert set(answer) in ({"error"}, {"error", "message"})
        assert database.execute(COUNT, [ME]).fetchone() == before
