"""What the stand-in keeps, and for how long."""

import time
from pathlib import Path

from tests.clients import eventually
from tests.sandbox_daily.stand_in import Receiver, running, types


def test_a_restart_keeps_everything(tmp_path: Path, receiver: Receiver) -> None:
    with running(f"--state={tmp_path}/new/state.json") as daily:
        room = daily.room(properties={"max_participants": 5})
        session = daily.entered(room, ud="u-1")
        recording = daily.record(room)
        daily.api.post("/webhooks", json={"url": receiver.url}).raise_for_status()
        domain, before = daily.api.get("/").json(), daily.state()
    receiver.got.get(timeout=5)
    with running(f"--state={tmp_path}/new/state.json") as daily:
        after = daily.state()
        assert daily.api.get("/").json() == domain
        for part in ("rooms", "recordings", "connections", "webhooks"):
            assert after[part] == before[part]
        daily.leave(room, session)
        daily.api.post(f"/rooms/{room}/recordings/stop").raise_for_status()
        events = receiver.events(3)
        assert types(events) == ["participant.left", "meeting.ended", "recording.ready-to-download"]
        assert events[2]["payload"]["recording_id"] == recording


def test_what_changed_is_on_disk_within_a_second_or_so(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with running(f"--state={state}") as daily:
        room = daily.room()
        eventually(lambda: state.exists() and room in state.read_text())


def test_without_a_file_nothing_is_kept() -> None:
    with running() as daily:
        daily.room()
    with running() as daily:
        assert daily.state()["rooms"] == []


def test_what_was_to_happen_still_happens_after_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    option = f"--state={tmp_path}/state.json"
    with running(option) as daily:
        daily.api.post("/webhooks", json={"url": receiver.url}).raise_for_status()
        room = daily.room()
        daily.entered(room, exp=time.time() + 4, ejt=True)
        recording = daily.record(room, maxDuration=4)
    with running(option) as daily:
        eventually(lambda: daily.recording(recording)["status"] == "finished")
        assert [one["ongoing"] for one in daily.listed("/meetings", room=room)] == [False]
