"""A course's sessions, as an instructor's; and both lists narrowed to one status."""

from typing import Any

import grpc
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.resources_pb2 import LiveSession
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from tests.clients import Rest, bearer, said

ME, COURSE = "course-lists-instructor", "course-lists / a|b@c% ü"
PATH = "/sessions/course/course-lists%20%2F%20a%7Cb%40c%25%20%C3%BC"
MINE = f"/sessions/instructor/{ME}"
STARTS = [f"2030-01-{day:02}T10:00:00.000Z" for day in (2, 5, 1, 5, 4, 3, 5)]


@pytest.fixture(scope="module")
def sessions(rest: Rest) -> list[dict[str, Any]]:
    """Those of the course, newest start first: two of them live, two ended."""
    made = [rest.create(ME, courseId=COURSE, startsAt=start) for start in STARTS]
    for session in made[:2]:
        rest.call("POST", f"/sessions/{session['roomName']}/start-recording", ME)
    for session in made[2:4]:
        rest.call("DELETE", f"/sessions/{session['roomName']}", ME)
    rest.create(ME, courseId="another course", startsAt=STARTS[0])
    listed = list(said(rest.call("GET", PATH, "sam", "student"))[1])
    assert {session["_id"] for session in listed} == {session["_id"] for session in made}
    return listed


def pages(rest: Rest, url: str) -> list[list[dict[str, Any]]]:
    """Every page from `url` on, by the addresses in the Link headers."""
    answer = rest.call("GET", url, "sam", "student")
    assert answer.status_code == 200, answer.text
    following = answer.links.get("next")
    return [answer.json(), *(pages(rest, following["url"]) if following else [])]


def test_a_courses_sessions_are_an_array_newest_start_first(sessions: list[dict[str, Any]]) -> None:
    assert [session["startsAt"] for session in sessions] == sorted(STARTS, reverse=True)
    assert {session["courseId"] for session in sessions} == {COURSE}


def test_each_of_them_is_the_one_that_get_answers(rest: Rest, sessions: list[dict[str, Any]]) -> None:
    assert [rest.get(session["roomName"]) for session in sessions] == sessions


def test_it_needs_a_caller_who_is_signed_in(rest: Rest) -> None:
    assert rest.call("GET", PATH).status_code == 401


def test_an_unknown_courses_sessions_are_an_empty_array(rest: Rest) -> None:
    assert said(rest.call("GET", "/sessions/course/none", "sam", "student")) == (200, [])


def test_a_session_that_moves_to_another_course_is_listed_there(rest: Rest) -> None:
    room = rest.create(ME, courseId="course-from")["roomName"]
    moved = rest.call("PATCH", f"/sessions/{room}", ME, json={"courseId": "course-to"}).json()
    assert said(rest.call("GET", "/sessions/course/course-from", ME)) == (200, [])
    assert said(rest.call("GET", "/sessions/course/course-to", ME)) == (200, [moved])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_its_pages_together_are_the_whole_list(rest: Rest, sessions: list[dict[str, Any]], size: int) -> None:
    found = pages(rest, f"{PATH}?page_size={size}")
    assert [session for page in found for session in page] == sessions
    assert {len(page) for page in found[:-1]} <= {size}


@pytest.mark.parametrize("status", ["scheduled", "live", "ended"])
@pytest.mark.parametrize("path", [PATH, MINE])
def test_a_status_narrows_the_list_and_each_of_its_pages(
    rest: Rest, sessions: list[dict[str, Any]], path: str, status: str
) -> None:
    every = said(rest.call("GET", path, ME))[1]
    wanted = [session for session in every if session["status"] == status]
    assert len(wanted) >= 2
    assert said(rest.call("GET", f"{path}?status={status}", ME)) == (200, wanted)
    found = pages(rest, f"{path}?status={status}&page_size=1")
    assert [session for page in found for session in page] == wanted


def test_of_two_statuses_the_last_counts_on_every_page(rest: Rest, sessions: list[dict[str, Any]]) -> None:
    live = said(rest.call("GET", f"{MINE}?status=live"))[1]
    found = pages(rest, f"{MINE}?status=scheduled&page_size=1&status=live")
    assert [session for page in found for session in page] == live


@pytest.mark.parametrize("status", ["running", "", "LIVE", "4"])
def test_a_status_that_there_is_not_is_refused(rest: Rest, status: str) -> None:
    answer = rest.call("GET", f"{MINE}?status={status}")
    assert said(answer) == (400, {"error": "status must be scheduled, live or ended"})


def test_a_page_of_another_status_is_refused(rest: Rest, sessions: list[dict[str, Any]]) -> None:
    link = rest.call("GET", f"{MINE}?status=live&page_size=1").links["next"]["url"]
    answer = rest.call("GET", link.replace("status=live", "status=ended"))
    assert said(answer) == (400, {"error": "pageToken was given for another list"})


def test_grpc_narrows_by_the_enum_and_refuses_a_number_that_it_has_not(
    stub: LiveSessionsStub, rest: Rest, sessions: list[dict[str, Any]]
) -> None:
    caller = bearer(rest.token("sam", "student"))
    request = rpc.GetCourseLiveSessionsRequest(course_id=COURSE, status=LiveSession.live, page_size=1)
    answer = stub.GetCourseLiveSessions(request, metadata=caller, timeout=10)
    assert [session.status for session in answer.sessions] == [LiveSession.live]
    assert answer.next_page_token
    odd = rpc.GetCourseLiveSessionsRequest(course_id=COURSE, status=7)  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetCourseLiveSessions(odd, metadata=caller, timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
