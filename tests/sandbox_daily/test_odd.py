"""Records that the stand-in shows otherwise than they are."""

import pytest

from tests.sandbox_daily.stand_in import JSON, Daily, Receiver, is_error


def test_a_recording_can_be_shown_with_a_null_and_without_a_field(daily: Daily, hook: Receiver) -> None:
    room, other = daily.room(), daily.room()
    recording = daily.record(room)
    daily.record(other)
    daily.odd("recording", id=recording, set={"start_ts": None}, remove=["max_participants"], where="answers")
    for shown in (daily.recording(recording), *daily.listed("/recordings", room_name=room)):
        assert shown["start_ts"] is None
        assert "max_participants" not in shown
    assert daily.listed("/recordings", room_name=other)[0]["start_ts"]
    daily.control.post(f"/recordings/{recording}/end").raise_for_status()
    assert hook.events(3)[2]["payload"]["start_ts"]


def test_all_records_of_a_room_can_be_odd_from_their_first_event_on(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    daily.odd("participant", room=room, set={"user_id": "nul\0inside"}, remove=["join_time", "joined_at"])
    daily.entered(room, ud="u-1")
    joined = hook.events(2)[1]["payload"]
    (participant,) = daily.listed("/meetings", room=room)[0]["participants"]
    assert (joined["user_id"], participant["user_id"]) == ("nul\0inside", "nul\0inside")
    assert "joined_at" not in joined
    assert "join_time" not in participant
    assert [stay["user_id"] for stay in daily.of_room(room)["connections"]] == ["u-1"]


def test_meetings_rooms_and_webhooks_can_be_odd_too(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    daily.odd("room", id=room, remove=["config"])
    daily.entered(room)
    meeting = hook.events(2)[0]["payload"]["meeting_id"]
    daily.odd("meeting", id=meeting, set={"participants": None})
    daily.odd("webhook", set={"state": "SLEEPING"}, remove=["eventTypes"])
    assert "config" not in daily.api.get(f"/rooms/{room}").json()
    assert daily.api.get(f"/meetings/{meeting}").json()["participants"] is None
    (webhook,) = daily.api.get("/webhooks").json()
    assert webhook["state"] == "SLEEPING"
    assert "eventTypes" not in webhook
    assert [one["kind"] for one in daily.control.get("/odd").json()["odd"]] == ["room", "meeting", "webhook"]
    daily.control.delete("/odd").raise_for_status()
    assert "config" in daily.api.get(f"/rooms/{room}").json()


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"id": "x"}, "kind is required"),
        ({"kind": "planet"}, "kind must be one of room"),
        ({"kind": "room", "name": "x"}, "unknown field name"),
        ({"kind": "room", "remove": "config"}, "remove must be a list of strings"),
    ],
)
def test_a_malformed_oddity_is_refused_with_a_reason(daily: Daily, body: JSON, info: str) -> None:
    assert is_error(daily.control.post("/odd", json=body), 400, "invalid-request-error", info)
