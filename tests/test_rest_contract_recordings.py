"""Recording a session over REST, word for word as documented."""

import re
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.clients import DailyControl, Rest, eventually, said

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ME = "contract-recorder"


def finished(rest: Rest, name: str) -> dict[str, Any]:
    """The recording, once Daily has its file."""
    return eventually(
        lambda: (
            body if (body := rest.call("GET", f"/sessions/{name}/recording", ME).json())["status"] == "finished" else {}
        )
    )


def test_starting_answers_dailys_recording_id_and_the_start(rest: Rest, daily: DailyControl) -> None:
    name = rest.create(ME)["roomName"]
    status, started = said(rest.call("POST", f"/sessions/{name}/start-recording", ME))

    assert status == 200
    assert list(started) == ["recordingId", "startedAt"]
    assert UUID.fullmatch(started["recordingId"])
    assert TIME.fullmatch(started["startedAt"])
    assert [one["id"] for one in daily.recordings(name)] == [started["recordingId"]]


def test_starting_makes_a_recording_entry_that_is_processing(rest: Rest) -> None:
    session = rest.recording(ME)
    status, [entry] = said(rest.call("GET", f"/sessions/{session['roomName']}/recordings", ME))

    assert status == 200
    assert list(entry) == ["_id", "sessionId", "recordingId", "status", "createdAt", "updatedAt"]
    assert (entry["sessionId"], entry["recordingId"]) == (session["_id"], session["recordingId"])
    assert entry["status"] == "processing"


def test_starting_twice_answers_the_same_recording(rest: Rest, daily: DailyControl) -> None:
    name = rest.create(ME)["roomName"]
    first, second = (rest.call("POST", f"/sessions/{name}/start-recording", ME) for _ in range(2))
    assert said(first) == said(second)
    assert len(daily.recordings(name)) == 1


def test_a_session_without_recording_enabled_cannot_be_recorded(rest: Rest) -> None:
    name = rest.create(ME, recordingEnabled=False)["roomName"]
    answer = rest.call("POST", f"/sessions/{name}/start-recording", ME)
    assert said(answer) == (400, {"message": "Recording is not enabled for this session"})
    assert rest.get(name)["status"] == "scheduled"


def test_an_ended_session_cannot_be_recorded(rest: Rest) -> None:
    name = rest.create(ME)["roomName"]
    rest.call("DELETE", f"/sessions/{name}", ME)
    answer = rest.call("POST", f"/sessions/{name}/start-recording", ME)
    assert said(answer) == (400, {"message": "Session has ended"})


def test_a_start_that_daily_refuses_leaves_the_session_scheduled(rest: Rest, daily: DailyControl) -> None:
    name = rest.create(ME)["roomName"]
    daily.fault("status", "POST", f"/rooms/{name}/recordings/start", status=403)
    answer = rest.call("POST", f"/sessions/{name}/start-recording", ME)
    assert said(answer) == (500, {"error": "Failed to start session recording"})
    assert rest.get(name)["status"] == "scheduled"


def test_stopping_answers_the_length_and_ends_the_session(rest: Rest) -> None:
    session = rest.recording(ME)
    status, stopped = said(rest.call("POST", f"/sessions/{session['roomName']}/stop-recording", ME))

    assert status == 200
    assert list(stopped) == ["recordingId", "stoppedAt", "duration"]
    assert stopped["recordingId"] == session["recordingId"]
    assert TIME.fullmatch(stopped["stoppedAt"])
    lasted = datetime.fromisoformat(stopped["stoppedAt"]) - datetime.fromisoformat(session["startedAt"])
    assert stopped["duration"] == int(lasted.total_seconds())

    ended = rest.get(session["roomName"])
    assert (ended["status"], ended["endsAt"]) == ("ended", stopped["stoppedAt"])


def test_stopping_completes_the_recording_entry(rest: Rest) -> None:
    name = rest.recording(ME)["roomName"]
    rest.call("POST", f"/sessions/{name}/stop-recording", ME)
    [entry] = rest.call("GET", f"/sessions/{name}/recordings", ME).json()
    assert entry["status"] == "completed"
    assert entry["duration"] >= 0


def test_stopping_twice_answers_the_same_even_after_daily_told_its_own_length(rest: Rest) -> None:
    name = rest.recording(ME)["roomName"]
    first = rest.call("POST", f"/sessions/{name}/stop-recording", ME)
    finished(rest, name)
    assert said(rest.call("POST", f"/sessions/{name}/stop-recording", ME)) == said(first)


@pytest.mark.parametrize(("method", "verb"), [("POST", "/stop-recording"), ("GET", "/recording")])
def test_a_session_that_was_never_recorded_has_no_recording(rest: Rest, method: str, verb: str) -> None:
    name = rest.create(ME)["roomName"]
    answer = rest.call(method, f"/sessions/{name}{verb}", ME)
    assert said(answer) == (404, {"message": "This session has not been recorded"})
    assert rest.get(name)["status"] == "scheduled"


def test_a_stop_that_daily_refuses_says_so_and_can_be_repeated(rest: Rest, daily: DailyControl) -> None:
    session = rest.recording(ME)
    path = f"/sessions/{session['roomName']}/stop-recording"
    daily.fault("status", "POST", f"/rooms/{session['roomName']}/recordings/stop", status=403)
    assert said(rest.call("POST", path, ME)) == (500, {"error": "Failed to stop session recording"})
    assert rest.call("POST", path, ME).json()["recordingId"] == session["recordingId"]


def test_a_running_recording_is_in_progress_and_has_no_link(rest: Rest) -> None:
    session = rest.recording(ME)
    assert said(rest.call("GET", f"/sessions/{session['roomName']}/recording", ME)) == (
        200,
        {"recordingId": session["recordingId"], "startedAt": session["startedAt"], "status": "in-progress"},
    )


def test_a_finished_recording_has_exactly_the_documented_body(rest: Rest) -> None:
    session = rest.recording(ME)
    stopped = rest.call("POST", f"/sessions/{session['roomName']}/stop-recording", ME).json()
    body = finished(rest, session["roomName"])

    documented = ["recordingId", "startedAt", "stoppedAt", "duration", "status", "downloadLink", "accessLink"]
    assert list(body) == documented
    assert list(body["accessLink"]) == ["url", "expiresAt"]
    assert body["recordingId"] == session["recordingId"]
    assert body["startedAt"] == session["startedAt"]
    assert body["stoppedAt"] == stopped["stoppedAt"]
    assert type(body["duration"]) is int
    assert body["downloadLink"] == body["accessLink"]["url"]
    assert TIME.fullmatch(body["accessLink"]["expiresAt"])
    assert body["accessLink"]["expiresAt"] > body["stoppedAt"]


def test_the_access_link_downloads_the_file(rest: Rest) -> None:
    name = rest.recording(ME)["roomName"]
    rest.call("POST", f"/sessions/{name}/stop-recording", ME)
    file = httpx.get(finished(rest, name)["accessLink"]["url"], trust_env=False)
    assert (file.status_code, file.headers["content-type"]) == (200, "video/mp4")
    assert len(file.content) > 0


def test_a_link_that_daily_refuses_says_so(rest: Rest, daily: DailyControl) -> None:
    session = rest.recording(ME)
    rest.call("POST", f"/sessions/{session['roomName']}/stop-recording", ME)
    daily.fault("status", "GET", f"/recordings/{session['recordingId']}/access-link", status=403, times=None)
    path = f"/sessions/{session['roomName']}/recording"
    refused = (500, {"error": "Failed to get session recording"})
    eventually(lambda: said(rest.call("GET", path, ME)) == refused)  # when its file is there


def test_a_recording_that_daily_will_not_speak_of_is_told_of_all_the_same(rest: Rest, daily: DailyControl) -> None:
    session = rest.recording(ME)
    daily.fault("status", "GET", f"/recordings/{session['recordingId']}", status=403, times=None)
    told = rest.call("GET", f"/sessions/{session['roomName']}/recording", ME).json()
    assert (told["recordingId"], told["status"]) == (session["recordingId"], "in-progress")


def test_only_who_was_in_the_room_may_watch_besides_the_instructor(rest: Rest, daily: DailyControl) -> None:
    name = rest.create(ME)["roomName"]
    tokens = {
        who: rest.call("POST", f"/sessions/{name}/token", who, "student").json() for who in ("was-in", "stayed-out")
    }
    daily.join(name, tokens["was-in"]["token"])
    rest.call("POST", f"/sessions/{name}/start-recording", ME)

    watched = eventually(
        lambda: (
            answer := rest.call("GET", f"/sessions/{name}/recording", "was-in", "student"),
            answer if answer.status_code == 200 else None,
        )[1]
    )
    assert watched.json()["status"] == "in-progress"
    refused = rest.call("GET", f"/sessions/{name}/recording", "stayed-out", "student")
    assert said(refused) == (403, {"message": f"Not authorized to access recording for session:{name}"})
