"""How the stand-in behaves where Daily may behave in several ways."""

import time
import uuid

import pytest

from tests.clients import eventually
from tests.sandbox_daily.stand_in import JSON, Daily, Receiver, is_error


def test_the_settings_are_shown_changed_and_reset(daily: Daily) -> None:
    before = daily.control.get("/settings").json()
    assert (before["listing_lag"], before["removal_ends_call"], before["nobody_needed"]) == (0, False, True)
    changed = daily.control.post("/settings", json={"listing_lag": 6, "nobody_needed": False}).json()
    assert changed == before | {"listing_lag": 6, "nobody_needed": False}
    assert daily.control.get("/settings").json() == changed
    assert daily.control.delete("/settings").json() == before


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"listing_leg": 6}, "unknown setting listing_leg"),
        ({"listing_lag": -1}, "listing_lag must be a number of seconds, 0 or more"),
        ({"nobody_needed": 0}, "nobody_needed must be a boolean"),
        ({"max_webhooks": 0}, "max_webhooks must be a positive integer"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_reason(daily: Daily, body: JSON, info: str) -> None:
    assert is_error(daily.control.post("/settings", json=body), 400, "invalid-request-error", info)


def test_a_recording_can_be_listed_late_though_it_is_told_at_once(daily: Daily, hook: Receiver) -> None:
    daily.settings(listing_lag=1.5)
    room = daily.room()
    recording = daily.record(room)
    assert daily.listed("/recordings", room_name=room) == []
    assert daily.api.get(f"/recordings/{recording}").status_code == 404
    assert hook.events(1)[0]["payload"]["recording_id"] == recording
    eventually(lambda: daily.listed("/recordings", room_name=room))
    assert daily.recording(recording)["status"] == "in-progress"


def test_removing_a_room_leaves_its_call_and_recording_running_unless_told_otherwise(daily: Daily) -> None:
    room = daily.room()
    session, recording = daily.entered(room), daily.record(room)
    assert daily.api.delete(f"/rooms/{room}").json() == {"deleted": True, "name": room}
    assert daily.enter(room).status_code == 404
    calls = [
        daily.api.post(f"/rooms/{room}/eject", json={"ids": [session]}),
        daily.api.post(f"/rooms/{room}/update-permissions", json={"data": {"*": {"canSend": False}}}),
        daily.api.get(f"/rooms/{room}/presence"),
        daily.api.post(f"/rooms/{room}/recordings/stop"),
    ]
    assert [call.status_code for call in calls] == [404] * 4
    assert daily.recording(recording)["status"] == "in-progress"
    assert [one["ongoing"] for one in daily.listed("/meetings", room=room)] == [True]
    assert daily.leave(room, session)["left_at"]


def test_removing_a_room_can_end_its_call_and_its_recording(daily: Daily) -> None:
    daily.settings(removal_ends_call=True)
    room = daily.room()
    daily.entered(room)
    recording = daily.record(room)
    daily.api.delete(f"/rooms/{room}").raise_for_status()
    assert daily.listed("/meetings", room=room, ongoing="true") == []
    eventually(lambda: daily.recording(recording)["status"] == "finished")


def test_a_recording_can_need_somebody_in_the_call(daily: Daily) -> None:
    daily.settings(nobody_needed=False)
    room = daily.room()
    answer = daily.api.post(f"/rooms/{room}/recordings/start")
    assert is_error(answer, 404, "not-found", f"room {room} does not seem to be hosting a call currently")
    daily.entered(room)
    assert daily.record(room)


def test_a_room_has_one_streaming_instance_unless_the_domain_has_more(daily: Daily) -> None:
    room = daily.room()
    daily.record(room)
    other = daily.api.post(f"/rooms/{room}/recordings/start", json={"instanceId": str(uuid.uuid4())})
    assert is_error(other, 400, "invalid-request-error", "cannot have more than 1 streaming instance")
    same = daily.api.post(f"/rooms/{room}/recordings/start")
    assert is_error(same, 400, "invalid-request-error", "has an active stream")
    daily.api.post(f"/rooms/{room}/recordings/stop").raise_for_status()
    assert daily.record(room, instanceId=str(uuid.uuid4()))


def test_a_recording_is_processed_for_as_long_as_told(daily: Daily) -> None:
    daily.settings(processing_seconds=1)
    recording = daily.record(daily.room())
    ended = daily.control.post(f"/recordings/{recording}/end").json()["end_ts"]
    eventually(lambda: daily.recording(recording)["status"] == "finished")
    assert time.time() >= ended + 1


def test_a_room_may_not_be_larger_than_the_plan(daily: Daily) -> None:
    room = daily.room(properties={"max_participants": 200})
    for path, body in (("/rooms", {"name": "big"}), (f"/rooms/{room}", {})):
        answer = daily.api.post(path, json=body | {"properties": {"max_participants": 201}})
        assert is_error(answer, 400, "invalid-request-error", "max_participants must be at most 200")
    daily.settings(max_participants_of_plan=1000)
    daily.api.post(f"/rooms/{room}", json={"properties": {"max_participants": 1000}}).raise_for_status()
