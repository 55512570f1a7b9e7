"""Following a class over REST: server-sent events in the documented shapes, resuming, and what browsers may do."""

from typing import Any

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, said
from tests.watchers import events, stream_of

ORIGIN = "http://localhost:3000"
ME = "sse-ada"
NOT_FOUND = {"message": "Session not found"}


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


def bearer(rest: Rest, user: str = ME) -> dict[str, str]:
    return {"Authorization": f"Bearer {rest.token(user)}"}


def follow(
    stack: Stack, room: str, until: int, query: str = "", headers: dict[str, str] | None = None
) -> list[tuple[int | None, dict[str, Any]]]:
    _, text = stream_of(stack.rest_url, f"/sessions/{room}/events{query}", headers or {}, until)
    return events(text)


def change(rest: Rest, room: str, *limits: int) -> None:
    for limit in limits:
        assert rest.call("PATCH", f"/sessions/{room}", ME, json={"maxParticipants": limit}).status_code == 200


def test_an_event_is_a_line_of_json_with_its_revision_as_its_id(stack: Stack, rest: Rest, room: str) -> None:
    answer, text = stream_of(stack.rest_url, f"/sessions/{room}/events", {"Origin": ORIGIN}, until=1)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in answer.headers
    assert [name for name in answer.headers if name.startswith("grpc-")] == []
    [(id, event)] = events(text)
    assert id == 1
    assert event == {"revision": 1, "at": event["at"], "session": rest.get(room)}
    assert text.startswith('id: 1\ndata: {"revision":1,"at":"2')
    assert text.endswith("}}\n\n")


@pytest.mark.parametrize("when", ["2026-12-26T15:00:00Z", "2026-12-26T15:00:00.120Z", "2026-12-26T15:00:00.123Z"])
def test_times_have_three_digits(stack: Stack, rest: Rest, database: psycopg.Connection, when: str) -> None:
    room = rest.create(ME, startsAt=when, courseId='data: {"revision":7,"at":"x"}, "endsAt":1,"createdBy"')["roomName"]
    database.execute(
        "UPDATE session_events SET at = %s FROM sessions WHERE session_id = id AND room_name = %s", [when, room]
    )
    change(rest, room, 5)
    database.execute(
        "UPDATE session_events SET at = %s FROM sessions WHERE session_id = id AND room_name = %s", [when, room]
    )
    [(_, event)] = follow(stack, room, 2, "?after_revision=1")
    shown = when if "." in when else when.replace("Z", ".000Z")
    assert (event["at"], event["session"]["startsAt"]) == (shown, shown)
    assert event["session"] == rest.get(room)


def test_resources_have_their_documented_shapes(stack: Stack, rest: Rest, daily: DailyControl) -> None:
    room = str(rest.recording(ME)["roomName"])
    daily.join(room, rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"])
    eventually(lambda: "joinedAt" in rest.call("GET", f"/sessions/{room}/participants", ME).json()[0])
    told = [data for _, data in follow(stack, room, 4, headers=bearer(rest))]
    shown = {kind: rest.call("GET", f"/sessions/{room}/{kind}s", ME).json() for kind in ("recording", "participant")}
    assert [{k: v for k, v in one.items() if k != "at"} for one in told] == [
        {"revision": 0, "session": rest.get(room)},
        {"revision": 0, "recording": shown["recording"][0]},
        {"revision": 4, "participant": shown["participant"][0]},
    ]


def test_half_a_state_has_no_id_and_so_is_never_come_back_with(stack: Stack, rest: Rest) -> None:
    room = str(rest.recording(ME)["roomName"])
    told = follow(stack, room, 3, headers=bearer(rest))
    assert [id for id, _ in told] == [None, 3]


@pytest.mark.parametrize("spelled", ["after_revision", "afterRevision"])
def test_who_comes_back_is_told_what_came_after(stack: Stack, rest: Rest, room: str, spelled: str) -> None:
    change(rest, room, 1, 2, 3)
    told = follow(stack, room, 4, f"?{spelled}=2")
    assert [(id, data["session"]["maxParticipants"]) for id, data in told] == [(3, 2), (4, 3)]


def test_a_browser_comes_back_with_the_id_of_the_last_event(stack: Stack, rest: Rest, room: str) -> None:
    """`EventSource` does, to the address that it was given first."""
    change(rest, room, 1, 2, 3)
    told = follow(stack, room, 4, "?after_revision=1", {"Last-Event-ID": "3"})
    assert [id for id, _ in told] == [4]


@pytest.mark.parametrize("id", ["x", "-1", "3 or 4", "", "2147483648", "9" * 400])
def test_an_id_that_is_none_of_ours_is_passed_over(stack: Stack, rest: Rest, room: str, id: str) -> None:
    change(rest, room, 1, 2, 3)
    told = follow(stack, room, 4, "?after_revision=3", {"Last-Event-ID": id})
    assert [id for id, _ in told] == [4]


def test_the_first_event_comes_at_once_where_nothing_is_new(stack: Stack, room: str) -> None:
    [(id, event)] = follow(stack, room, 1, "?after_revision=1")
    assert (id, event) == (1, {"revision": 1, "at": event["at"], "heartbeat": {}})


def test_a_change_is_told_while_the_stream_stays_open(stack: Stack, rest: Rest, room: str) -> None:
    path = f"/sessions/{room}/events"
    with http_client(stack.rest_url) as client, client.stream("GET", path) as answer:
        ids = (line for line in answer.iter_lines() if line.startswith("id: "))
        assert next(ids) == "id: 1"
        change(rest, room, 77)
        assert next(ids) == "id: 2"


def test_a_browser_that_comes_back_to_a_closed_class_is_told_to_stop(stack: Stack, rest: Rest, room: str) -> None:
    """To which `EventSource` listens: it does not come back again."""
    assert rest.call("DELETE", f"/sessions/{room}", ME).status_code == 200
    path = f"/sessions/{room}/events"
    _, text = stream_of(stack.rest_url, path, {}, until=10_000)  # to its end
    last = events(text)[-1][0]
    eventually(lambda: rest.call("GET", path, headers={"Last-Event-ID": str(last)}, timeout=1).status_code == 204, 30)
    answer = rest.call("GET", f"{path}?after_revision={last}")
    assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (204, b"", None)


# Errors, before the first event


@pytest.mark.parametrize(
    ("query", "headers", "status", "body"),
    [
        ("?after_revision=-1", {}, 400, {"error": "afterRevision must be at least 0"}),
        ("?page_size=5", {}, 400, None),
        ("?session_name=other", {}, 400, None),
        ("?after_revision=x", {}, 400, None),
        ("?after_revision=2147483648", {}, 400, None),
        ("", {"Authorization": "Bearer x"}, 401, {"error": "Unauthorized", "message": "The token is not valid"}),
        ("", {"Authorization": ""}, 401, {"error": "Unauthorized", "message": "A bearer token is required"}),
    ],
)
def test_an_error_has_its_status_and_shape(
    rest: Rest, room: str, query: str, headers: dict[str, str], status: int, body: dict[str, str] | None
) -> None:
    answer = rest.call("GET", f"/sessions/{room}/events{query}", headers=headers | {"Origin": ORIGIN})
    assert said(answer)[0] == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert body is None or answer.json() == body
    assert body is not None or answer.json()["error"] == "Bad Request"


@pytest.mark.parametrize(("name", "error"), [("ls-no-such", (404, NOT_FOUND)), ("a%2Fb", None)])
def test_a_session_that_is_not_there_is_404(rest: Rest, name: str, error: tuple[int, object] | None) -> None:
    expected = error or (400, {"error": "sessionName must be 1 to 128 letters, digits, - or _"})
    assert said(rest.call("GET", f"/sessions/{name}/events")) == expected


# Methods and paths


def test_head_answers_at_once_as_get_would(rest: Rest, room: str) -> None:
    answer = rest.call("HEAD", f"/sessions/{room}/events?after_revision=1")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "text/event-stream", b"")
    assert rest.call("HEAD", "/sessions/ls-no-such/events").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_not_allowed(rest: Rest, room: str, method: str) -> None:
    answer = rest.call(method, f"/sessions/{room}/events")
    assert (said(answer)[0], answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_page_of_the_products_origin_may_follow_with_a_token(rest: Rest, room: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = rest.call("OPTIONS", f"/sessions/{room}/events", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)


def test_an_instructor_or_a_course_called_events_is_a_list(rest: Rest) -> None:
    for of in ("instructor", "course"):
        assert said(rest.call("GET", f"/sessions/{of}/events", ME)) == (200, [])


def test_one_more_slash_is_the_same_path(stack: Stack, room: str) -> None:
    _, text = stream_of(stack.rest_url, f"/sessions/{room}/events/", {}, until=1)
    assert [id for id, _ in events(text)] == [1]
