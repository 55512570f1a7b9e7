"""Creating, reading and deleting a session over REST, word for word as documented."""

import re
from datetime import datetime

import pytest

from tests.clients import EXAMPLE, DailyControl, Rest, said

DOCUMENTED = [
    "_id",
    "courseId",
    "roomName",
    "status",
    "startsAt",
    "endsAt",
    "createdBy",
    "recordingEnabled",
    "maxParticipants",
    "createdAt",
    "updatedAt",
]
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_the_documented_example_is_created_with_exactly_the_documented_body(rest: Rest) -> None:
    status, session = said(rest.call("POST", "/sessions", "contract-create", json=EXAMPLE))

    assert status == 201
    assert list(session) == DOCUMENTED
    assert session == EXAMPLE | {
        "_id": session["_id"],
        "roomName": session["roomName"],
        "status": "scheduled",
        "endsAt": None,
        "createdBy": "contract-create",
        "createdAt": session["createdAt"],
        "updatedAt": session["createdAt"],
    }
    assert UUID4.fullmatch(session["_id"])
    assert TIME.fullmatch(session["createdAt"])
    assert re.fullmatch(r"ls-[A-Za-z0-9_-]{22}", session["roomName"])


def test_the_optional_fields_may_be_left_out(rest: Rest) -> None:
    request = {"courseId": "course-uuid-123", "startsAt": "2025-12-26T15:00:00.000Z"}
    status, session = said(rest.call("POST", "/sessions", "contract-create", json=request))

    assert status == 201
    assert list(session) == [name for name in DOCUMENTED if name != "maxParticipants"]
    assert session["recordingEnabled"] is False


def test_null_is_as_good_as_leaving_an_optional_field_out(rest: Rest) -> None:
    session = rest.create("contract-create", recordingEnabled=None, maxParticipants=None)
    assert session["recordingEnabled"] is False
    assert "maxParticipants" not in session


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ("2025-12-26T15:00:00Z", "2025-12-26T15:00:00.000Z"),
        ("2025-12-26T15:00:00.5Z", "2025-12-26T15:00:00.500Z"),
        ("2025-12-26T15:00:00.123456Z", "2025-12-26T15:00:00.123Z"),
        ("2025-12-26T15:00:00.123999999Z", "2025-12-26T15:00:00.123Z"),
        ("2025-12-26T15:00:00+02:00", "2025-12-26T13:00:00.000Z"),
        ("2025-12-31T20:30:00.250-05:30", "2026-01-01T02:00:00.250Z"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00.000Z"),
        ("9999-12-30T23:59:59.999Z", "9999-12-30T23:59:59.999Z"),
    ],
)
def test_starts_at_comes_back_in_utc_with_three_digits(rest: Rest, given: str, answered: str) -> None:
    created = rest.create("contract-times", startsAt=given)
    assert created["startsAt"] == answered
    assert rest.get(created["roomName"])["startsAt"] == answered


@pytest.mark.parametrize("missing", [["courseId"], ["startsAt"], ["courseId", "startsAt"]])
def test_a_session_needs_a_course_and_a_start(rest: Rest, missing: list[str]) -> None:
    request = {name: value for name, value in EXAMPLE.items() if name not in missing}
    answer = rest.call("POST", "/sessions", "contract-create", json=request)
    assert said(answer) == (400, {"error": "courseId and startsAt are required"})


def test_a_student_cannot_create_a_session(rest: Rest) -> None:
    answer = rest.call("POST", "/sessions", "contract-sam", "student", json=EXAMPLE)
    assert said(answer) == (403, {"message": "Only instructors can create sessions"})


def test_a_session_whose_room_daily_refuses_is_not_made(rest: Rest, daily: DailyControl) -> None:
    daily.fault("status", "POST", "/rooms", status=403)
    answer = rest.call("POST", "/sessions", "contract-refused", json=EXAMPLE)
    assert said(answer) == (500, {"error": "Failed to create session room"})
    assert said(rest.call("GET", "/sessions/instructor/contract-refused")) == (200, [])


def test_anybody_gets_a_session_by_its_room_name(rest: Rest) -> None:
    created = rest.create("contract-get")
    answer = rest.call("GET", f"/sessions/{created['roomName']}")
    assert said(answer) == (200, created)
    assert list(answer.json()) == DOCUMENTED


def test_a_session_that_is_recorded_is_live(rest: Rest) -> None:
    created = rest.create("contract-get")
    rest.call("POST", f"/sessions/{created['roomName']}/start-recording", "contract-get")
    live = rest.get(created["roomName"])
    assert live == created | {"status": "live", "updatedAt": live["updatedAt"]}
    assert live["updatedAt"] > created["updatedAt"]


def test_a_session_that_does_not_exist_is_the_documented_bare_string(rest: Rest) -> None:
    answer = rest.call("GET", "/sessions/unique-room-name")
    assert said(answer) == (500, "Session not found")
    assert answer.text == '"Session not found"'


def test_a_deleted_session_is_returned_ended_and_kept(rest: Rest) -> None:
    created = rest.create("contract-delete")
    answer = rest.call("DELETE", f"/sessions/{created['roomName']}", "contract-delete")
    status, ended = said(answer)

    assert status == 200
    assert list(ended) == DOCUMENTED
    assert ended == created | {"status": "ended", "endsAt": ended["endsAt"], "updatedAt": ended["updatedAt"]}
    assert ended["updatedAt"] >= ended["endsAt"]  # when it was asked for
    assert TIME.fullmatch(ended["endsAt"])
    assert datetime.fromisoformat(ended["endsAt"]) > datetime.fromisoformat(created["createdAt"])
    assert rest.get(created["roomName"]) == ended


def test_deleting_twice_answers_the_same_twice(rest: Rest) -> None:
    name = rest.create("contract-delete")["roomName"]
    first, second = (rest.call("DELETE", f"/sessions/{name}", "contract-delete") for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)


def test_a_deleted_sessions_room_is_gone_from_daily(rest: Rest, daily: DailyControl) -> None:
    name = rest.create("contract-delete")["roomName"]
    assert name in daily.rooms()
    rest.call("DELETE", f"/sessions/{name}", "contract-delete")
    assert name not in daily.rooms()


def test_a_deletion_that_daily_refuses_says_so_and_can_be_repeated(rest: Rest, daily: DailyControl) -> None:
    name = rest.create("contract-delete")["roomName"]
    daily.fault("status", "DELETE", f"/rooms/{name}", status=403)
    answer = rest.call("DELETE", f"/sessions/{name}", "contract-delete")
    assert said(answer) == (500, {"error": "Failed to delete session"})
    assert rest.call("DELETE", f"/sessions/{name}", "contract-delete").json()["status"] == "ended"
