"""One class, from its creation to the download of its recording, as a browser sees it."""

from tests.clients import DailyControl, Rest, eventually


def test_a_class_is_created_held_recorded_and_watched(rest: Rest, daily: DailyControl) -> None:
    name = rest.create()["roomName"]
    token = rest.call("POST", f"/sessions/{name}/token", "sam", "student").json()["token"]
    stay = daily.join(name, token)
    eventually(lambda: rest.get(name)["status"] == "live")

    started = rest.call("POST", f"/sessions/{name}/start-recording", "ada").json()
    stopped = rest.call("POST", f"/sessions/{name}/stop-recording", "ada").json()
    assert stopped["recordingId"] == started["recordingId"]
    assert rest.get(name)["status"] == "ended"

    daily.leave(name, stay["session_id"])
    recording = eventually(
        lambda: (
            answer := rest.call("GET", f"/sessions/{name}/recording", "sam", "student").json(),
            answer if answer["status"] == "finished" else None,
        )[1]
    )
    assert recording["recordingId"] == started["recordingId"]
    assert recording["downloadLink"] == recording["accessLink"]["url"]

    [participant] = rest.call("GET", f"/sessions/{name}/participants", "ada").json()
    assert (participant["userId"], participant["role"]) == ("sam", "student")
    assert participant["joinedAt"] <= participant["leftAt"]
