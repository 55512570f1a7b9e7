"""The stand-in's events: what is in them, and what faults make of them."""

import json
import uuid

from sandbox.daily.delivery import signature
from sandbox.daily.recordings import DEFAULT_INSTANCE
from tests.clients import eventually
from tests.sandbox_daily.stand_in import SECRET, Daily, Receiver, types


def test_events_are_signed_and_in_order(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    daily.leave(room, daily.entered(room))
    events = []
    for _ in range(4):
        headers, body = hook.got.get(timeout=5)
        assert headers["x-webhook-signature"] == signature(SECRET, headers["x-webhook-timestamp"], body)
        events.append(json.loads(body))
    assert types(events) == ["meeting.started", "participant.joined", "participant.left", "meeting.ended"]
    assert all(set(event) == {"version", "type", "id", "payload", "event_ts"} for event in events)
    assert {event["payload"]["room"] for event in events} == {room}
    sent = [(event["type"], event["id"], 200, room) for event in events]
    said = ("type", "id", "status", "room")
    eventually(lambda: [tuple(one[name] for name in said) for one in daily.state()["deliveries"][-4:]] == sent)


def test_participant_events_carry_who_and_when(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    joined = daily.enter(room, ud="u-1", u="Ada", o=True).json()
    left = daily.leave(room, joined["session_id"])
    events = hook.events(4)
    payload = events[1]["payload"]
    assert payload == {
        "room": room,
        "session_id": joined["session_id"],
        "user_id": "u-1",
        "user_name": "Ada",
        "joined_at": joined["joined_at"],
        "will_eject_at": None,
        "owner": True,
        "permissions": {"hasPresence": True, "canSend": True, "canReceive": {"base": True}, "canAdmin": True},
    }
    duration = round(left["left_at"] - left["joined_at"], 3)
    assert events[2]["payload"] == payload | {"duration": duration}
    assert set(events[0]["payload"]) == {"start_ts", "meeting_id", "room"}
    assert set(events[3]["payload"]) == {"start_ts", "end_ts", "meeting_id", "room"}


def test_recording_events_have_daily_s_fields_and_lack_the_others(daily: Daily, hook: Receiver) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    recording = daily.record(room, instanceId=instance)
    (started,) = hook.events(1)
    assert started["payload"]["instance_id"] == instance
    assert started["payload"]["recording_id"] == recording
    assert started["payload"]["action"] == "start-cloud-recording"
    assert set(started["payload"]) == {
        *("action", "recording_id", "layout", "started_by", "instance_id", "start_ts"),
    }
    daily.api.post(f"/rooms/{room}/recordings/stop", json={"instanceId": instance}).raise_for_status()
    (ready,) = hook.events(1)
    assert ready["type"] == "recording.ready-to-download"
    assert set(ready["payload"]) == {
        *("type", "recording_id", "room_name", "start_ts", "status", "max_participants", "duration"),
        *("share_token", "s3_key"),
    }
    assert daily.recording(recording)["status"] == "finished"


def test_a_failed_recording_is_told_by_its_instance(daily: Daily, hook: Receiver) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    recording = daily.record(room, instanceId=instance)
    daily.control.post(f"/recordings/{recording}/fail", json={"error_msg": "disk"}).raise_for_status()
    error = hook.events(2)[1]
    assert error["type"] == "recording.error"
    assert set(error["payload"]) == {"action", "error_msg", "instance_id", "room_name", "timestamp"}
    assert error["payload"]["action"] == "cloud-recording-error"
    assert (error["payload"]["instance_id"], error["payload"]["error_msg"]) == (instance, "disk")


def test_an_event_can_be_dropped(daily: Daily, hook: Receiver) -> None:
    daily.fault("webhook_drop", type="participant.joined")
    room = daily.room()
    daily.leave(room, daily.entered(room))
    assert types(hook.events(3)) == ["meeting.started", "participant.left", "meeting.ended"]


def test_an_event_can_be_sent_twice_under_another_id(daily: Daily, hook: Receiver) -> None:
    daily.fault("webhook_duplicate", type="participant.joined")
    daily.entered(daily.room())
    _, first, second = hook.events(3)
    assert first["payload"] == second["payload"]
    assert first["id"] != second["id"]


def test_an_event_can_be_overtaken_by_the_next(daily: Daily, hook: Receiver) -> None:
    daily.fault("webhook_reorder", type="participant.joined")
    room = daily.room()
    daily.leave(room, daily.entered(room))
    expected = ["meeting.started", "participant.left", "participant.joined", "meeting.ended"]
    assert types(hook.events(4)) == expected


def test_reordering_until_cleared_swaps_events_in_pairs(daily: Daily, hook: Receiver) -> None:
    daily.fault("webhook_reorder", times=None)
    room = daily.room()
    daily.leave(room, daily.entered(room))
    expected = ["participant.joined", "meeting.started", "meeting.ended", "participant.left"]
    assert types(hook.events(4)) == expected


def test_an_event_held_back_is_sent_though_none_follows(daily: Daily, hook: Receiver) -> None:
    daily.fault("webhook_reorder")
    daily.record(daily.room())
    assert types(hook.events(1)) == ["recording.started"]


def test_events_have_daily_s_ids(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    session = daily.entered(room, ud="u 1")
    recording = daily.record(room)
    daily.leave(room, session)
    daily.control.post(f"/recordings/{recording}/end").raise_for_status()
    started, joined, recorded, left, ended, ready = hook.events(6)
    meeting = started["payload"]["meeting_id"]
    assert started["id"] == f"met-sta-{meeting}-{int(started['payload']['start_ts'])}"
    assert joined["id"] == f"ptcpt-join-u 1-{round(joined['event_ts'] * 1000)}"
    assert recorded["id"] == f"rec-sta-{DEFAULT_INSTANCE}-{int(recorded['event_ts'])}"
    assert left["id"] == f"ptcpt-left-u 1-{round(left['event_ts'] * 1000)}"
    assert ended["id"] == f"met-end-{meeting}-{int(ended['payload']['end_ts'])}"
    assert ready["id"] == f"rec-rtd-{DEFAULT_INSTANCE}-{int(ready['event_ts'])}"


def test_bodies_are_raw_utf_8(daily: Daily, hook: Receiver) -> None:
    daily.entered(daily.room(), u="Jürgen 李")
    hook.got.get(timeout=5)
    assert '"user_name":"Jürgen 李"'.encode() in hook.got.get(timeout=5)[1]


def test_a_meeting_can_be_told_late_that_it_has_ended(daily: Daily, hook: Receiver) -> None:
    daily.settings(meeting_end_lag=1.5)
    room = daily.room()
    left = daily.leave(room, daily.entered(room))
    assert types(hook.events(3)) == ["meeting.started", "participant.joined", "participant.left"]
    assert daily.listed("/meetings", room=room)[0]["ongoing"] is True
    (ended,) = hook.events(1)
    assert (ended["type"], ended["payload"]["end_ts"]) == ("meeting.ended", left["left_at"])
    assert ended["event_ts"] >= left["left_at"] + 1.5
    assert daily.listed("/meetings", room=room)[0]["ongoing"] is False


def test_an_event_can_be_delivered_late(daily: Daily, hook: Receiver) -> None:
    daily.fault("webhook_delay", type="participant.joined", seconds=0.3)
    room = daily.room()
    daily.leave(room, daily.entered(room))
    assert types(hook.events(4)) == ["meeting.started", "participant.left", "meeting.ended", "participant.joined"]


def test_a_fault_of_events_can_be_of_one_room_alone(daily: Daily, hook: Receiver) -> None:
    one, other = daily.room(), daily.room()
    daily.fault("webhook_drop", room=one, times=None)
    daily.entered(one)
    daily.record(one)
    daily.entered(other)
    assert [event["payload"]["room"] for event in hook.events(2)] == [other, other]
    assert [delivery["status"] for delivery in daily.of_room(one)["deliveries"]] == ["dropped"] * 3


def test_many_who_join_at_once_are_all_told_and_several_deliveries_may_be_under_way(
    daily: Daily, hook: Receiver
) -> None:
    daily.settings(deliveries_at_once=8)
    room = daily.room()
    sessions = daily.fill(room, users=300)
    told = hook.events(301)
    assert {event["payload"].get("session_id") for event in told} == {*sessions, None}
    assert {event["payload"].get("user_id") for event in told} == {*(f"user-{i}" for i in range(1, 301)), None}
    assert len(daily.fill(room, users=2, prefix="late", quiet=True)) == 2
    daily.leave(room, sessions[0])
    assert types(hook.events(1)) == ["participant.left"]
