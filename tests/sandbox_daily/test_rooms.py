"""The stand-in's domain, errors, rooms and lists are Daily's."""

import time
import uuid
from typing import Any

import pytest

from tests.clients import eventually
from tests.sandbox_daily.stand_in import JSON, KEY, Daily, is_error


def test_a_missing_key_is_400_and_a_wrong_one_401(daily: Daily) -> None:
    bare = daily.api.get("/rooms", headers={"Authorization": ""})
    assert is_error(bare, 400, "authorization-header-error", "Bearer")
    assert is_error(daily.api.get("/rooms", headers={"Authorization": KEY}), 400, "authorization-header-error", "")
    wrong = daily.api.get("/rooms", headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()) == (401, {"error": "authentication-error"})


def test_the_domain_names_itself(daily: Daily) -> None:
    domain = daily.api.get("/").json()
    assert domain["domain_name"] == "sandbox"
    assert uuid.UUID(domain["domain_id"])
    assert domain["config"] == {}


def test_malformed_json_is_a_parsing_error(daily: Daily) -> None:
    assert is_error(daily.api.post("/rooms", content=b"{"), 400, "json-parsing-error", "JSON")
    assert is_error(daily.api.post("/rooms", json=[]), 400, "invalid-request-error", "object")


def test_a_room_answers_only_its_non_default_properties(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    properties = {"max_participants": 200, "enable_recording": "cloud", "start_video_off": None}
    body = {"name": name, "privacy": "private", "properties": properties}
    room = daily.api.post("/rooms", json=body).json()
    assert uuid.UUID(room.pop("id"))
    assert room.pop("created_at").endswith("Z")
    assert room == {
        "name": name,
        "api_created": True,
        "privacy": "private",
        "url": f"https://sandbox.daily.co/{name}",
        "config": {"enable_recording": "cloud"},
    }


def test_a_second_room_of_the_same_name_is_a_bad_request(daily: Daily) -> None:
    name = daily.room()
    answer = daily.api.post("/rooms", json={"name": name})
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid-request-error", "info": f"a room named {name} already exists"}


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"name": "two words"}, "contains invalid characters"),
        ({"name": "x" * 129}, "at most 128 characters"),
        ({"name": 5}, "name must be"),
        ({"privacy": "secret"}, "privacy must be one of public, private"),
        ({"properties": {"exp": 1}}, "exp is in the past"),
        ({"properties": {"exp": "soon"}}, "exp must be a number"),
        ({"properties": {"max_participants": True}}, "max_participants must be a positive integer"),
        ({"properties": []}, "properties must be an object"),
    ],
)
def test_a_wrong_room_is_refused_with_a_reason(daily: Daily, body: JSON, info: str) -> None:
    assert is_error(daily.api.post("/rooms", json=body), 400, "invalid-request-error", info)


def test_an_update_changes_and_resets_properties(daily: Daily) -> None:
    name = daily.room(properties={"max_participants": 5, "start_audio_off": True})
    body = {"privacy": "private", "properties": {"max_participants": None, "start_video_off": True}}
    room = daily.api.post(f"/rooms/{name}", json=body).json()
    assert room["privacy"] == "private"
    assert room["config"] == {"start_audio_off": True, "start_video_off": True}


def test_a_missing_room_is_404(daily: Daily) -> None:
    missing = {"error": "not-found", "info": "room nowhere not found"}
    for answer in (daily.api.get("/rooms/nowhere"), daily.api.delete("/rooms/nowhere")):
        assert (answer.status_code, answer.json()) == (404, missing)


def test_an_expired_room_is_404_and_its_delete_says_deleted(daily: Daily) -> None:
    name = daily.room(properties={"exp": int(time.time()) + 1})
    eventually(lambda: daily.api.get(f"/rooms/{name}").status_code == 404)
    answer = daily.api.delete(f"/rooms/{name}")
    assert (answer.status_code, answer.json()["deleted"]) == (404, True)


def test_lists_are_newest_first_with_cursors(daily: Daily) -> None:
    names = [daily.room() for _ in range(4)]
    newest = daily.api.get("/rooms", params={"limit": 4}).json()
    assert [room["name"] for room in newest["data"]] == names[::-1]
    assert newest["total_count"] >= 4
    ids = [room["id"] for room in newest["data"]]

    def page(**query: Any) -> list[str]:
        return [room["id"] for room in daily.api.get("/rooms", params=query).json()["data"]]

    assert page(starting_after=ids[0], limit=2) == ids[1:3]
    assert page(ending_before=ids[3], limit=2) == ids[1:3]
    assert page(starting_after=ids[0], ending_before=ids[3]) == ids[1:3]
    assert is_error(daily.api.get("/rooms", params={"limit": 101}), 400, "invalid-request-error", "limit")
    unknown = daily.api.get("/rooms", params={"starting_after": "x"})
    assert is_error(unknown, 400, "invalid-request-error", "no object with id x")
