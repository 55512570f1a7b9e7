"""What was asked for is done though every server is killed in the midst of it, whatever Daily had done by then."""

import pytest

from tests.clients import eventually
from tests.faults.steps import (
    ENDED,
    FAILED_STOP,
    STOP,
    Own,
    enter,
    entries,
    eventually_ended,
    inside,
    is_completed,
    leave_hanging,
    make_due,
    refuse_after_a_lost_answer,
    running,
    said_to,
)


@pytest.mark.parametrize(
    ("reaches_daily", "event"),
    [(True, "before the crash"), (True, "after the crash"), (True, "never"), (False, "after the crash")],
    ids=["told-before", "told-after", "never-told", "not-stopped"],
)
def test_a_stop_is_not_forgotten_when_the_servers_are_killed_in_the_midst_of_it(
    own: Own, reaches_daily: bool, event: str
) -> None:
    rest, daily = own.rest, own.daily
    session = rest.recording()
    room = session["roomName"]
    if event == "never":
        daily.fault("webhook_drop", type="recording.ready-to-download", room=room)
    if event == "after the crash":
        daily.fault("webhook_delay", type="recording.ready-to-download", room=room, seconds=4)
    if reaches_daily:
        refuse_after_a_lost_answer(daily, room)
    else:
        daily.fault("status", "POST", STOP.format(room), status=503, times=None)
    assert said_to(rest, "stop", room) == FAILED_STOP
    if event == "before the crash":
        eventually(lambda: is_completed(rest, room))
    own.crash()
    daily.clear_faults()
    eventually_ended(rest, own.database, room)
    assert running(daily, room) == []
    make_due(own.database, room)
    eventually(lambda: is_completed(rest, room))
    assert said_to(rest, "start", room) == ENDED
    assert inside(daily, room) == []
    assert len(daily.recordings(room)) == 1
    daily.reset()


def test_a_stop_of_which_nobody_lived_to_see_the_answer_is_finished(own: Own) -> None:
    rest, daily = own.rest, own.daily
    room = rest.recording()["roomName"]
    daily.fault("hang", "POST", STOP.format(room), times=None)
    leave_hanging(own.rest, own.daily, "stop", room, "POST /rooms/:name/recordings/stop")
    own.crash()
    daily.clear_faults()
    eventually_ended(rest, own.database, room)
    assert running(daily, room) == []


def test_a_start_of_which_nobody_lived_to_see_the_answer_is_recorded_once(own: Own) -> None:
    rest, daily = own.rest, own.daily
    room = rest.create()["roomName"]
    daily.fault("delay", "POST", f"/rooms/{room}/recordings/start", seconds=1)
    leave_hanging(own.rest, own.daily, "start", room, "POST /rooms/:name/recordings/start")
    own.crash()
    make_due(own.database, room)
    [started] = eventually(lambda: daily.recordings(room))
    eventually(lambda: [one["recordingId"] for one in entries(rest, room)] == [started["id"]])
    assert (rest.get(room)["status"], said_to(rest, "start", room)[1]["recordingId"]) == ("live", started["id"])


def test_a_delete_of_which_nobody_lived_to_see_the_answer_is_finished(own: Own) -> None:
    rest, daily = own.rest, own.daily
    room = rest.create()["roomName"]
    enter(rest, daily, room, "sam")
    daily.fault("hang", "DELETE", f"/rooms/{room}", times=None)
    leave_hanging(own.rest, own.daily, "delete", room, "DELETE /rooms/:name")
    own.crash()
    daily.clear_faults()
    eventually_ended(rest, own.database, room)
    make_due(own.database, room)
    eventually(lambda: room not in daily.rooms())
    assert inside(daily, room) == []
