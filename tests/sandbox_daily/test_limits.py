"""Daily's rate limits, which the stand-in keeps when it is told to."""

from collections.abc import Iterator

import httpx
import pytest

from tests.sandbox_daily.stand_in import KEY, Daily, is_error, running


@pytest.fixture
def limited() -> Iterator[Daily]:
    with running("--limits") as daily:
        yield daily


def statuses(*answers: httpx.Response) -> dict[int, int]:
    found = [answer.status_code for answer in answers]
    return {status: found.count(status) for status in found}


def test_calls_over_the_limit_are_refused_have_no_effect_and_are_counted(limited: Daily) -> None:
    answers = [limited.api.post("/rooms", json={"name": f"room-{i}"}) for i in range(103)]
    assert statuses(*answers) == {200: 100, 429: 3}
    assert is_error(answers[-1], 429, "rate-limit-error", "100 in 5 s")
    assert limited.rooms() == {f"room-{i}" for i in range(100)}
    assert limited.calls("POST /rooms") == 103
    assert limited.refused()["default"] == 3


def test_the_dear_calls_have_windows_of_their_own(limited: Daily) -> None:
    rooms = [limited.room() for _ in range(20)]
    listed = [limited.api.get("/recordings") for _ in range(51)]
    deleted = [limited.api.delete(f"/rooms/none-{i}") for i in range(51)]
    started = [limited.api.post(f"/rooms/{room}/recordings/start") for room in rooms[:6]]
    assert statuses(*listed) == {200: 50, 429: 1}
    assert statuses(*deleted) == {404: 50, 429: 1}
    assert statuses(*started) == {200: 5, 429: 1}
    one = limited.of_room(rooms[0])["recordings"][0]["id"]
    assert limited.api.get(f"/recordings/{one}").status_code == 200
    assert limited.refused() == {
        "default": 0,
        "DELETE /rooms/:name": 1,
        "GET /recordings": 1,
        "POST /rooms/:name/recordings/start": 1,
    }


def test_only_daily_s_calls_with_a_valid_key_count(limited: Daily) -> None:
    for _ in range(110):
        limited.control.get("/calls").raise_for_status()
        assert limited.api.get("/rooms", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert limited.api.get("/rooms").status_code == 200
    assert limited.refused()["default"] == 0


def test_the_limits_are_off_unless_told_and_can_be_told_while_it_runs(daily: Daily) -> None:
    assert statuses(*[daily.api.get("/webhooks") for _ in range(150)]) == {200: 150}
    daily.settings(limits=True)
    assert statuses(*[daily.api.get("/webhooks") for _ in range(101)]) == {200: 100, 429: 1}
    daily.reset()
    assert daily.api.get("/webhooks", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
