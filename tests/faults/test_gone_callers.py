"""What somebody asked for is done though they went away, and whoever asks again meanwhile waits for it."""

import pytest

from tests.clients import DailyControl, Rest, eventually
from tests.faults.steps import call, enter, entries, has_ended, inside, leave_hanging, running

DAILY = {
    "start": ("POST", "/rooms/{}/recordings/start", "POST /rooms/:name/recordings/start"),
    "stop": ("POST", "/rooms/{}/recordings/stop", "POST /rooms/:name/recordings/stop"),
    "delete": ("DELETE", "/rooms/{}", "DELETE /rooms/:name"),
}


def room_for(rest: Rest, daily: DailyControl, verb: str) -> str:
    room = str((rest.recording() if verb == "stop" else rest.create())["roomName"])
    if verb == "delete":
        enter(rest, daily, room, "sam")
    return room


def is_done(rest: Rest, daily: DailyControl, verb: str, room: str) -> bool:
    if verb == "start":
        return [one["recordingId"] for one in entries(rest, room)] == running(daily, room) != []
    return has_ended(rest, room) and running(daily, room) == [] and (verb == "stop" or room not in daily.rooms())


@pytest.mark.parametrize("verb", DAILY)
def test_what_a_caller_who_went_away_asked_for_is_done_before_any_lease_ends(
    rest: Rest, daily: DailyControl, verb: str
) -> None:
    room = room_for(rest, daily, verb)
    method, path, request = DAILY[verb]
    daily.fault("delay", method, path.format(room), seconds=1.5)
    leave_hanging(rest, daily, verb, room, request, timeout=0.5)
    assert not is_done(rest, daily, verb, room)
    eventually(lambda: is_done(rest, daily, verb, room))
    assert verb != "delete" or inside(daily, room) == []


@pytest.mark.parametrize("verb", DAILY)
def test_a_caller_who_comes_back_meanwhile_waits_for_what_is_under_way(
    rest: Rest, daily: DailyControl, verb: str
) -> None:
    room = room_for(rest, daily, verb)
    method, path, request = DAILY[verb]
    daily.fault("delay", method, path.format(room), seconds=1.5)
    leave_hanging(rest, daily, verb, room, request, timeout=0.5)
    before = daily.calls(request)
    answer = call(rest, verb, room)
    assert answer.status_code == 200
    assert daily.calls(request) == before
    assert is_done(rest, daily, verb, room)
    if verb != "delete":
        [recording] = entries(rest, room)
        assert answer.json()["recordingId"] == recording["recordingId"]
