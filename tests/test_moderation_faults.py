"""Moderation while things fail: Daily down, answers lost, a server killed between the intent and Daily."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import httpx
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack, servers_in_use
from tests.test_moderation import ALL, ME, PICTURE, Room

FAILED = "Failed to remove session participant"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """One whose servers can be killed."""
    with new_stack(workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def own_rest(own_stack: Stack) -> Iterator[Rest]:
    with http_client(own_stack.rest_url) as client:
        yield Rest(own_stack, client)


@pytest.fixture
def own_room(own_stack: Stack, own_rest: Rest) -> Iterator[Room]:
    for server in own_stack.servers:
        if server.ended:
            server.start()
    eventually(lambda: servers_in_use(own_stack) == len(own_stack.servers), 30)
    with http_client(own_stack.daily_url or "") as client:
        daily = DailyControl(client)
        yield Room(own_rest, daily)
        daily.reset()


def kill_all(stack: Stack) -> None:
    for server in stack.servers:
        server.kill()


def start_all(stack: Stack) -> None:
    for server in stack.servers:
        server.start()
    eventually(lambda: servers_in_use(stack) == len(stack.servers), 30)


def test_what_daily_does_not_take_is_committed_told_as_failed_and_done_later(own_room: Room) -> None:
    eve = own_room.join("eve")
    own_room.join("sam")
    own_room.daily.fault("status", "POST", f"/rooms/{own_room.name}/eject", status=500, times=8)
    assert own_room.remove("sam") == (500, {"error": FAILED})
    assert own_room.people()["sam"]["wasKicked"]
    assert own_room.rest.call("POST", f"/sessions/{own_room.name}/token", "sam", "student").status_code == 403
    eventually(lambda: list(own_room.inside()) == [eve], 40)


def test_a_lost_answer_is_asked_for_again_in_the_same_call(own_room: Room) -> None:
    stay = own_room.join("sam")
    own_room.daily.fault("lost_answer", "POST", f"/rooms/{own_room.name}/update-permissions")
    assert own_room.permit("sam", micAllowed=False)[0] == 200
    assert own_room.inside() == {stay: PICTURE}


@pytest.mark.parametrize("what", ["remove", "permit", "mute"])
def test_what_a_killed_server_had_committed_is_done_by_another(own_stack: Stack, own_room: Room, what: str) -> None:
    eve = own_room.join("eve")
    stay = own_room.join("sam")
    path = "eject" if what == "remove" else "update-permissions"
    own_room.daily.fault("hang", "POST", f"/rooms/{own_room.name}/{path}", times=2)
    begun = own_room.daily.calls(f"POST /rooms/:name/{path}")
    calls: dict[str, Callable[[], object]] = {
        "remove": lambda: own_room.remove("sam"),
        "permit": lambda: own_room.permit("sam", micAllowed=False),
        "mute": own_room.mute,
    }
    in_background(calls[what])
    eventually(lambda: own_room.daily.calls(f"POST /rooms/:name/{path}") > begun)
    kill_all(own_stack)
    start_all(own_stack)
    wanted = {"remove": {eve: ALL}, "permit": {eve: ALL, stay: PICTURE}, "mute": {eve: PICTURE, stay: PICTURE}}[what]
    eventually(lambda: own_room.inside() == wanted, 40)


def test_a_room_that_is_changed_by_a_server_that_dies_is_changed(own_stack: Stack, own_room: Room) -> None:
    own_room.daily.fault("hang", "POST", f"/rooms/{own_room.name}", times=2)
    begun = own_room.daily.calls("POST /rooms/:name")
    path = f"/sessions/{own_room.name}"
    in_background(lambda: own_room.rest.call("PATCH", path, ME, json={"maxParticipants": 3}))
    eventually(lambda: own_room.daily.calls("POST /rooms/:name") > begun)
    kill_all(own_stack)
    start_all(own_stack)
    assert own_room.rest.get(own_room.name)["maxParticipants"] == 3
    eventually(lambda: own_room.daily.of_room(own_room.name)["rooms"][0]["config"]["max_participants"] == 3, 60)


def test_while_no_server_runs_nobody_stays_for_long_after_they_are_back(own_stack: Stack, own_room: Room) -> None:
    eve, token = own_room.join("eve"), own_room.token("sam")
    own_room.remove("sam")
    kill_all(own_stack)
    own_room.join_with(token)
    start_all(own_stack)
    eventually(lambda: list(own_room.inside()) == [eve], 15)


@pytest.mark.parametrize("lag", [0, 25])
def test_who_joined_untold_with_an_older_token_is_put_right(own_room: Room, lag: int) -> None:
    """Daily's presence tells of them, however late."""
    own_room.daily.settings(presence_lag=lag)
    token = own_room.token("sam")
    own_room.permit("sam", micAllowed=False)
    own_room.daily.fault("webhook_drop", type="participant.joined", times=1)
    stay = own_room.join_with(token)
    assert own_room.inside() == {stay: ALL}
    eventually(lambda: own_room.inside() == {stay: PICTURE}, 180)


def late_request(stack: Stack, path: str, body: dict[str, object]) -> None:
    """One that was sent to Daily before the present state was, and arrives after it."""
    headers = {"Authorization": f"Bearer {stack.environment['LIVE_SESSIONS_DAILY_API_KEY']}"}
    answer = httpx.post(f"{stack.daily_url}/v1{path}", json=body, headers=headers, trust_env=False, timeout=10)
    assert answer.is_success, answer.text


def test_a_request_that_arrives_late_does_not_last(own_stack: Stack, own_room: Room) -> None:
    stay = own_room.join("sam")
    own_room.permit("sam", micAllowed=False)
    own_room.rest.call("PATCH", f"/sessions/{own_room.name}", ME, json={"maxParticipants": 3})
    late_request(own_stack, f"/rooms/{own_room.name}/update-permissions", {"data": {stay: {"canSend": True}}})
    late_request(own_stack, f"/rooms/{own_room.name}", {"properties": {"max_participants": 9}})
    eventually(lambda: own_room.inside() == {stay: PICTURE}, 40)
    eventually(lambda: own_room.daily.of_room(own_room.name)["rooms"][0]["config"]["max_participants"] == 3, 60)


def in_background(call: Callable[[], object]) -> None:
    """Its answer, or that there is none, makes no difference."""

    def forget() -> None:
        with suppress(httpx.HTTPError, AssertionError, ValueError):
            call()

    Thread(target=forget, daemon=True).start()
