"""A recording of the stand-in, from its start to its file."""

import time
import uuid

import httpx
import pytest

from sandbox.daily.recordings import DEFAULT_INSTANCE
from tests.clients import eventually
from tests.sandbox_daily.stand_in import Daily, Receiver, is_error


def test_a_recording_lives_from_start_to_file(daily: Daily) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    started = daily.api.post(f"/rooms/{room}/recordings/start", json={"instanceId": instance, "maxDuration": 600})
    assert started.json() == {"status": "sent"}
    (recording,) = daily.api.get("/recordings", params={"room_name": room}).json()["data"]
    assert recording["status"] == "in-progress"
    assert "duration" not in recording
    daily.api.post(f"/rooms/{room}/recordings/stop", json={"instanceId": instance}).raise_for_status()
    assert daily.recording(recording["id"])["status"] == "in-progress"
    link = daily.api.get(f"/recordings/{recording['id']}/access-link").json()
    assert httpx.get(link["download_link"], trust_env=False).status_code == 404
    eventually(lambda: daily.recording(recording["id"])["status"] == "finished")
    finished = daily.recording(recording["id"])
    assert finished["duration"] == 1
    assert finished["s3key"].startswith(f"sandbox/{room}/")
    assert link["expires"] > time.time()
    assert httpx.get(link["download_link"], trust_env=False).content[4:8] == b"ftyp"
    deleted = daily.api.delete(f"/recordings/{recording['id']}")
    assert deleted.json() == {"deleted": True, "id": recording["id"]}
    assert daily.api.get(f"/recordings/{recording['id']}").status_code == 404


def test_the_same_instance_cannot_record_twice_and_another_can_where_the_domain_allows_it(daily: Daily) -> None:
    daily.settings(streaming_instances=2)
    room, instance = daily.room(), str(uuid.uuid4())
    default, own = daily.record(room), daily.record(room, instanceId=instance)
    for body in ({}, {"instanceId": instance}):
        again = daily.api.post(f"/rooms/{room}/recordings/start", json=body)
        assert is_error(again, 400, "invalid-request-error", "has an active stream")
    daily.api.post(f"/rooms/{room}/recordings/stop").raise_for_status()
    assert is_error(daily.api.post(f"/rooms/{room}/recordings/stop"), 400, "invalid-request-error", "")
    eventually(lambda: daily.recording(default)["status"] == "finished")
    assert daily.recording(own)["status"] == "in-progress"


def test_a_recording_ends_by_itself_at_its_longest(daily: Daily) -> None:
    recording = daily.record(daily.room(), maxDuration=1)
    eventually(lambda: daily.recording(recording)["status"] == "finished")
    ended = next(r for r in daily.state()["recordings"] if r["id"] == recording)
    assert ended["end_ts"] - ended["start_ts"] == pytest.approx(1)


def test_a_recording_ends_when_the_call_has_been_empty_for_long(daily: Daily) -> None:
    room = daily.room()
    session = daily.entered(room)
    recording = daily.record(room, minIdleTimeOut=0.1)
    daily.leave(room, session)
    eventually(lambda: daily.recording(recording)["status"] == "finished")


def test_a_recording_can_be_made_to_fail_or_to_end(daily: Daily) -> None:
    failing, ending = daily.record(daily.room()), daily.record(daily.room())
    daily.control.post(f"/recordings/{failing}/fail", json={"error_msg": "disk"}).raise_for_status()
    assert daily.recording(failing)["status"] == "canceled"
    daily.control.post(f"/recordings/{ending}/end").raise_for_status()
    eventually(lambda: daily.recording(ending)["status"] == "finished")
    assert daily.control.post(f"/recordings/{ending}/end").status_code == 400
    assert daily.control.post("/recordings/none/fail").status_code == 404


def test_the_record_button_starts_daily_s_default_instance_and_stops_it(daily: Daily, hook: Receiver) -> None:
    room = daily.room(properties={"enable_recording": "cloud"})
    owner = daily.entered(room, o=True)
    recording = daily.press_record(room, owner)
    assert (recording["instance_id"], recording["status"]) == (DEFAULT_INSTANCE, "in-progress")
    started = hook.events(3)[2]["payload"]
    assert (started["recording_id"], started["started_by"]) == (recording["id"], owner)
    assert daily.press_stop(room)["id"] == recording["id"]
    eventually(lambda: daily.recording(recording["id"])["status"] == "finished")
    again = daily.press_record(room)["id"]
    daily.api.post(f"/rooms/{room}/recordings/stop").raise_for_status()
    eventually(lambda: daily.recording(again)["status"] == "finished")


def test_the_record_button_is_an_owner_s_and_only_where_recording_is_enabled(daily: Daily) -> None:
    room, without = daily.room(properties={"enable_recording": "cloud"}), daily.room()
    student = daily.entered(room)
    for session in (student, "nobody"):
        refused = daily.control.post(f"/rooms/{room}/record", json={"session_id": session})
        assert is_error(refused, 403, "forbidden-error", f"{session} is no owner inside")
    refused = daily.control.post(f"/rooms/{without}/record")
    assert is_error(refused, 403, "forbidden-error", "cannot be recorded")
