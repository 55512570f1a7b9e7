"""Who is let into a call of the stand-in, and who is put out of it."""

import time
from typing import Any

from tests.clients import eventually
from tests.sandbox_daily.stand_in import Daily, is_error


def test_joining_is_refused_by_room_size_and_name(daily: Daily) -> None:
    room, other = daily.room(properties={"max_participants": 1}), daily.room()
    daily.entered(room, ud="u-1")
    assert is_error(daily.enter(room, ud="u-2"), 403, "forbidden-error", "is full")
    wrong = daily.control.post(f"/rooms/{other}/join", json={"token": daily.token(r=room)})
    assert is_error(wrong, 403, "forbidden-error", "not for room")
    assert is_error(daily.enter("nowhere"), 404, "not-found", "room nowhere not found")
    assert is_error(daily.control.post(f"/rooms/{other}/join"), 400, "invalid-request-error", "token is required")


def test_ejected_users_may_come_back_unless_banned_from_the_running_call(daily: Daily) -> None:
    room = daily.room()
    daily.entered(room, ud="host")
    first = daily.entered(room, ud="u-1")
    assert daily.api.post(f"/rooms/{room}/eject", json={"ids": [first]}).json() == {"ejectedIds": [first]}
    second = daily.entered(room, ud="u-1")
    body = {"user_ids": ["u-1"], "ban": True}
    assert daily.api.post(f"/rooms/{room}/eject", json=body).json() == {"ejectedIds": [second]}
    assert is_error(daily.enter(room, ud="u-1"), 403, "forbidden-error", "banned")
    presence = daily.api.get(f"/rooms/{room}/presence").json()
    assert [p["userId"] for p in presence["data"]] == ["host"]
    assert set(presence["data"][0]) == {"room", "id", "userId", "userName", "joinTime", "duration"}


def test_permissions_are_updated_by_session_id(daily: Daily) -> None:
    room = daily.room()
    one, other = daily.entered(room, ud="u-1", p={"cs": "v"}), daily.entered(room, ud="u-2")
    body = {"data": {one: {"canSend": False}}}
    daily.api.post(f"/rooms/{room}/update-permissions", json=body).raise_for_status()
    connections = {c["session_id"]: c["permissions"]["canSend"] for c in daily.state()["connections"]}
    assert (connections[one], connections[other]) == (False, True)


def test_a_token_may_end_its_own_stay(daily: Daily) -> None:
    room = daily.room()
    session = daily.entered(room, exp=int(time.time()) + 2, ejt=True)

    def left() -> Any:
        return next(c["left_at"] for c in daily.state()["connections"] if c["session_id"] == session)

    assert eventually(left)


def test_permissions_can_be_updated_for_all_inside_and_for_each_connection_of_a_user(daily: Daily) -> None:
    room = daily.room()
    first, second = daily.entered(room, ud="u-1"), daily.entered(room, ud="u-1")
    body = {"data": {"*": {"canSend": ["audio"]}, second: {"canSend": False}}}
    daily.api.post(f"/rooms/{room}/update-permissions", json=body).raise_for_status()
    sends = {one["session_id"]: one["permissions"]["canSend"] for one in daily.of_room(room)["connections"]}
    assert sends == {first: ["audio"], second: False}


def test_no_more_than_a_hundred_are_ejected_by_one_request(daily: Daily) -> None:
    room = daily.room()
    sessions = daily.fill(room, users=101)
    for body in ({"ids": sessions}, {"user_ids": [f"user-{i}" for i in range(101)]}):
        refused = daily.api.post(f"/rooms/{room}/eject", json=body)
        assert is_error(refused, 400, "invalid-request-error", "a list of at most 100 strings")
    ejected = daily.api.post(f"/rooms/{room}/eject", json={"ids": sessions[:100]}).json()["ejectedIds"]
    assert ejected == sessions[:100]
    assert [one["id"] for one in daily.listed(f"/rooms/{room}/presence")] == sessions[100:]
