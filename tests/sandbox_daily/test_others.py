"""Other applications on the domain of the stand-in."""

from typing import Any

from tests.clients import eventually
from tests.sandbox_daily.stand_in import Daily, Receiver, is_error, types


def test_another_application_has_a_room_with_a_call_and_a_recording(daily: Daily, hook: Receiver) -> None:
    other = daily.others()
    told = hook.events(4)
    assert types(told) == ["meeting.started", *["participant.joined"] * 2, "recording.started"]
    assert [event["payload"]["user_id"] for event in told[1:3]] == ["someone else|1", "jürgen@example.org"]
    assert daily.api.get(f"/rooms/{other['room']}").json()["config"] == {"enable_recording": "cloud"}
    assert [one["id"] for one in daily.listed("/recordings", room_name=other["room"])] == [other["recording"]]
    assert [one["ongoing"] for one in daily.listed("/meetings", room=other["room"])] == [True]


def test_its_webhook_may_take_the_only_place_and_need_not_answer(daily: Daily) -> None:
    other = daily.others(webhook="http://127.0.0.1:1/of-another-application", recording=False)
    (webhook,) = daily.api.get("/webhooks").json()
    assert (webhook["uuid"], webhook["url"]) == (other["webhook"], "http://127.0.0.1:1/of-another-application")
    ours = daily.api.post("/webhooks", json={"url": "http://127.0.0.1:1/ours"})
    assert is_error(ours, 400, "invalid-request-error", "already has a webhook")
    eventually(lambda: daily.state()["webhook"]["state"] == "FAILED")


def test_its_events_are_delivered_as_they_are_given(daily: Daily, hook: Receiver) -> None:
    events: list[dict[str, Any]] = [
        {"version": "1.1.0", "type": "transcript.started", "payload": {"user": "jürgen|ünknown"}},
        {"type": "participant.joined", "id": None, "payload": []},
    ]
    daily.others(users=[], recording=False, events=events)
    assert hook.events(2) == events


def test_a_malformed_application_is_refused_with_a_reason(daily: Daily) -> None:
    assert is_error(daily.control.post("/others", json={"events": [1]}), 400, "invalid-request-error", "events must be")
    assert is_error(daily.control.post("/others", json={"name": "x"}), 400, "invalid-request-error", "unknown field")
