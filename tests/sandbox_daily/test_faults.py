"""The stand-in fails as it is told to."""

import threading
import uuid

import httpx
import pytest

from tests.clients import eventually
from tests.sandbox_daily.stand_in import JSON, Daily, is_error


def test_a_status_fault_acts_as_often_as_told_and_has_no_effect(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("status", "POST", "/rooms", status=503, times=2)
    for _ in range(2):
        answer = daily.api.post("/rooms", json={"name": name})
        assert is_error(answer, 503, "server-error", "")
    assert daily.api.get(f"/rooms/{name}").status_code == 404
    assert daily.api.post("/rooms", json={"name": name}).status_code == 200


@pytest.mark.parametrize("path", ["/rooms/*", "/rooms/:name", "/rooms/one"])
def test_a_fault_path_matches_any_one_segment(daily: Daily, path: str) -> None:
    daily.fault("rate_limit", "GET", path, times=None)
    assert is_error(daily.api.get("/rooms/one"), 429, "rate-limit-error", "")
    assert daily.api.get("/rooms").status_code == 200
    assert daily.api.get("/rooms/one/presence").status_code == 404
    assert daily.api.delete("/rooms/one").status_code == 404


def test_faults_are_listed_and_cleared(daily: Daily) -> None:
    daily.fault("status", "GET", "/", status=500, times=None)
    daily.fault("rate_limit", "GET", "/")
    assert [f["fault"] for f in daily.control.get("/faults").json()["faults"]] == ["status", "rate_limit"]
    assert daily.api.get("/").status_code == 500
    daily.control.delete("/faults")
    assert daily.api.get("/").status_code == 200


def test_nobody_in_call_refuses_a_recording_as_daily_does(daily: Daily) -> None:
    room = daily.room()
    daily.fault("nobody_in_call", "POST", "/rooms/*/recordings/start")
    answer = daily.api.post(f"/rooms/{room}/recordings/start")
    info = f"room {room} does not seem to be hosting a call currently"
    assert (answer.status_code, answer.json()) == (404, {"error": "not-found", "info": info})
    assert daily.record(room)


def test_a_delayed_call_takes_effect_though_the_client_has_gone(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("delay", "POST", "/rooms", seconds=0.4)
    with pytest.raises(httpx.ReadTimeout):
        daily.api.post("/rooms", json={"name": name}, timeout=0.1)
    assert daily.api.get(f"/rooms/{name}").status_code == 404
    eventually(lambda: daily.api.get(f"/rooms/{name}").status_code == 200)


def test_a_hanging_call_never_answers_and_has_no_effect(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("hang", "POST", "/rooms")
    with pytest.raises(httpx.ReadTimeout):
        daily.api.post("/rooms", json={"name": name}, timeout=0.2)
    assert daily.api.get(f"/rooms/{name}").status_code == 404


def test_clearing_the_faults_releases_a_hanging_call(daily: Daily) -> None:
    daily.fault("hang", "GET", "/meetings")
    before = daily.state()["calls"].get("GET /meetings", 0)

    def clear() -> None:
        eventually(lambda: daily.state()["calls"].get("GET /meetings", 0) > before)
        daily.control.delete("/faults")

    threading.Thread(target=clear).start()
    with pytest.raises(httpx.RemoteProtocolError):
        daily.api.get("/meetings")


def test_a_lost_answer_has_its_effect_and_drops_the_connection(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("lost_answer", "POST", "/rooms")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        daily.api.post("/rooms", json={"name": name})
    assert daily.api.get(f"/rooms/{name}").status_code == 200


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"fault": "earthquake"}, "fault must be one of"),
        ({"method": "GET", "path": "/"}, "fault is required"),
        ({"fault": "hang", "path": "/"}, "method is required"),
        ({"fault": "status", "method": "GET", "path": "/"}, "status is required"),
        ({"fault": "delay", "method": "GET", "path": "/", "seconds": "1"}, "seconds must be"),
        ({"fault": "hang", "method": "GET", "path": "/", "times": 0}, "times must be"),
        ({"fault": "webhook_drop", "event": "x"}, "unknown field event"),
        ({"fault": "webhook_drop", "type": "x"}, "type must be one of"),
    ],
)
def test_a_malformed_fault_is_refused_with_a_reason(daily: Daily, body: JSON, info: str) -> None:
    assert is_error(daily.control.post("/faults", json=body), 400, "invalid-request-error", info)


def test_calls_are_counted_by_method_and_path_template(daily: Daily) -> None:
    before = daily.state()["calls"].get("POST /rooms/:name/recordings/stop", 0)
    for room in ("one", "two"):
        daily.api.post(f"/rooms/{room}/recordings/stop")
    assert daily.state()["calls"]["POST /rooms/:name/recordings/stop"] == before + 2
