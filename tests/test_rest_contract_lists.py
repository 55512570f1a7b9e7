"""An instructor's sessions over REST: an array, newest start first, in pages for who asks."""

from typing import Any

import pytest

from tests.clients import Rest, said

STARTS = [f"2030-01-{day:02}T10:00:00.000Z" for day in (2, 5, 1, 5, 4, 3, 5)]


@pytest.fixture(scope="module")
def listed(rest: Rest) -> list[dict[str, Any]]:
    """The sessions of `contract-lists`, as one array."""
    for start in STARTS:
        rest.create("contract-lists", startsAt=start)
    return list(said(rest.call("GET", "/sessions/instructor/contract-lists"))[1])


def pages(rest: Rest, url: str) -> list[list[dict[str, Any]]]:
    """Every page from `url` on, by the addresses in the Link headers."""
    answer = rest.call("GET", url)
    assert answer.status_code == 200, answer.text
    following = answer.links.get("next")
    return [answer.json(), *(pages(rest, following["url"]) if following else [])]


def test_the_sessions_are_an_array_newest_start_first(listed: list[dict[str, Any]]) -> None:
    assert [session["startsAt"] for session in listed] == sorted(STARTS, reverse=True)
    assert {session["createdBy"] for session in listed} == {"contract-lists"}


def test_each_session_in_the_list_is_the_one_that_get_answers(rest: Rest, listed: list[dict[str, Any]]) -> None:
    assert [rest.get(session["roomName"]) for session in listed] == listed


def test_ended_sessions_are_listed_too(rest: Rest) -> None:
    name = rest.create("contract-ended")["roomName"]
    ended = rest.call("DELETE", f"/sessions/{name}", "contract-ended").json()
    assert said(rest.call("GET", "/sessions/instructor/contract-ended")) == (200, [ended])


@pytest.mark.parametrize("nobody", ["contract-nobody", "%F0%9F%98%80", "a%2Fb", "a%20b"])
def test_nobodys_sessions_are_an_empty_array(rest: Rest, nobody: str) -> None:
    assert said(rest.call("GET", f"/sessions/instructor/{nobody}")) == (200, [])


def test_an_instructors_id_is_told_from_a_sessions_verb(rest: Rest) -> None:
    assert said(rest.call("GET", "/sessions/instructor/recording")) == (200, [])


@pytest.mark.parametrize("size", range(1, 9))
def test_the_pages_together_are_the_whole_list_each_row_once(
    rest: Rest, listed: list[dict[str, Any]], size: int
) -> None:
    found = pages(rest, f"/sessions/instructor/contract-lists?page_size={size}")
    assert [session for page in found for session in page] == listed
    assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
    assert 0 < len(found[-1]) <= size


def test_page_size_may_be_written_as_in_json(rest: Rest, listed: list[dict[str, Any]]) -> None:
    assert pages(rest, "/sessions/instructor/contract-lists?pageSize=5") == [listed[:5], listed[5:]]


def test_a_session_created_between_two_pages_repeats_no_row(rest: Rest) -> None:
    old = [rest.create("contract-moving", startsAt=f"2030-01-0{day}T10:00:00Z") for day in (3, 2, 1)]
    first = rest.call("GET", "/sessions/instructor/contract-moving?page_size=2")
    rest.create("contract-moving", startsAt="2031-01-01T10:00:00Z")
    rest_of_them = rest.call("GET", first.links["next"]["url"])
    assert first.json() + rest_of_them.json() == old


def test_the_whole_list_has_no_link(rest: Rest, listed: list[dict[str, Any]]) -> None:
    assert "link" not in rest.call("GET", "/sessions/instructor/contract-lists").headers
    assert "link" not in rest.call("GET", f"/sessions/instructor/contract-lists?page_size={len(listed)}").headers


def test_a_page_of_another_instructors_list_is_refused(rest: Rest, listed: list[dict[str, Any]]) -> None:
    link = rest.call("GET", "/sessions/instructor/contract-lists?page_size=1").links["next"]["url"]
    answer = rest.call("GET", link.replace("contract-lists", "contract-others"))
    assert said(answer) == (400, {"error": "pageToken was given for another list"})


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page_size=-1", "pageSize must be at least 1"),
        ("page_token=x", "pageToken needs a pageSize"),
        ("page_size=1&page_token=x", "pageToken is not one that we gave"),
        ("page_size=1&page_token=%00", "pageToken is not one that we gave"),
        ("page_size=1&page_token=W10", "pageToken is not one that we gave"),
        ("page_size=1&page_token=%F0%9F%98%80", "pageToken is not one that we gave"),
    ],
)
def test_a_page_that_cannot_be_is_refused(rest: Rest, query: str, message: str) -> None:
    assert said(rest.call("GET", f"/sessions/instructor/contract-lists?{query}")) == (400, {"error": message})
