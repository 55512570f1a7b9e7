"""One odd record or one failing look is that one's problem: all others are seen to."""

import psycopg
import pytest

from sandbox.daily.model import iso
from tests.clients import DailyControl, Rest, eventually
from tests.faults.steps import (
    FAILED_STOP,
    STOP,
    call,
    enter,
    entries,
    eventually_ended,
    make_chore_due,
    running,
    said_to,
    stays,
)


@pytest.fixture
def unfinished(rest: Rest, daily: DailyControl) -> str:
    """A room whose stop was asked for and is not finished."""
    room = str(rest.recording()["roomName"])
    daily.fault("status", "POST", STOP.format(room), status=503, times=4)
    assert said_to(rest, "stop", room) == FAILED_STOP
    return room


def test_a_stop_is_finished_while_nobody_can_look_at_daily_s_webhooks(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, unfinished: str
) -> None:
    daily.fault("status", "GET", "/webhooks", status=500, times=None)
    make_chore_due(database, "webhook")
    eventually_ended(rest, database, unfinished)
    assert running(daily, unfinished) == []


def test_a_stop_is_finished_while_daily_refuses_to_activate_our_webhook(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, unfinished: str
) -> None:
    webhook = daily.state()["webhook"]["uuid"]
    daily.fault("status", "POST", "/webhooks/*", status=400, times=None)
    daily.put_webhook(webhook, state="FAILED")
    make_chore_due(database, "webhook")
    eventually_ended(rest, database, unfinished)
    daily.clear_faults()
    make_chore_due(database, "webhook")
    eventually(lambda: daily.state()["webhook"]["state"] == "ACTIVE")


@pytest.mark.parametrize("look", ["/meetings", "/meetings/*", "/rooms/*/presence", "/recordings", "/recordings/*"])
def test_a_stop_is_finished_while_another_look_at_daily_fails(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, unfinished: str, look: str
) -> None:
    daily.fault("status", "GET", look, status=500, times=None)
    make_chore_due(database, "meetings")
    eventually_ended(rest, database, unfinished)


ODD_MEETINGS = [
    {"kind": "meeting", "set": {"start_time": None}},
    {"kind": "meeting", "remove": ["room"]},
    {"kind": "participant", "set": {"join_time": None}},
    {"kind": "participant", "remove": ["duration", "user_name"], "set": {"join_time": "soon"}},
    {"kind": "participant", "set": {"user_id": "a\u0000b"}},
    {"kind": "participant", "remove": ["participant_id"]},
]


@pytest.mark.parametrize("odd", ODD_MEETINGS, ids=str)
def test_attendance_is_found_beside_an_odd_record_of_another_room(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, odd: dict[str, object]
) -> None:
    other = daily.others(recording=False)["room"]
    odd_one, room = rest.create()["roomName"], rest.create()["roomName"]
    for each in (other, odd_one):
        daily.odd(**odd, room=each, where="answers")
    daily.fault("webhook_drop", times=None)
    enter(rest, daily, odd_one, "eve")
    sam = enter(rest, daily, room, "sam")
    left = daily.leave(room, sam["session_id"])
    daily.clear_faults()
    make_chore_due(database, "meetings")
    wanted = (iso(int(sam["joined_at"])), iso(int(left["left_at"])))
    eventually(lambda: stays(rest, room)["sam"] == wanted)


def test_the_stays_beside_an_odd_one_of_the_same_meeting_are_found(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    room = rest.create()["roomName"]
    daily.fault("webhook_drop", times=None)
    eve, sam = (enter(rest, daily, room, user) for user in ("eve", "sam"))
    daily.odd("participant", id=eve["session_id"], set={"user_id": "a\u0000b"}, where="answers")
    for one in (eve, sam):
        daily.leave(room, one["session_id"])
    daily.clear_faults()
    make_chore_due(database, "meetings")
    eventually(lambda: stays(rest, room)["sam"][1])
    assert stays(rest, room)["eve"] == (None, None)


@pytest.mark.parametrize("odd", [{"set": {"start_ts": None}}, {"remove": ["start_ts", "status"]}], ids=str)
def test_a_start_is_answered_beside_an_odd_recording_of_its_room(
    rest: Rest, daily: DailyControl, odd: dict[str, object]
) -> None:
    daily.settings(streaming_instances=2)
    daily.fault("webhook_drop", type="recording.started", times=None)
    room = rest.create()["roomName"]
    theirs = daily.press_record(room)
    daily.odd("recording", id=theirs["id"], **odd)
    started = call(rest, "start", room)
    assert started.status_code == 200
    assert [one["id"] for one in daily.recordings(room) if one["id"] != theirs["id"]] == [started.json()["recordingId"]]


@pytest.mark.parametrize(
    "odd",
    [{"set": {"start_ts": None}}, {"remove": ["start_ts", "status", "duration", "s3key"]}, {"set": {"id": None}}],
    ids=str,
)
def test_a_settled_recording_that_has_become_odd_at_daily_is_shown(
    rest: Rest, daily: DailyControl, odd: dict[str, object]
) -> None:
    session = rest.recording()
    room = session["roomName"]
    assert call(rest, "stop", room).status_code == 200
    eventually(lambda: said_to(rest, "recording", room)[1]["status"] == "finished")
    told = said_to(rest, "recording", room)[1]
    daily.odd("recording", room=room, **odd)
    assert said_to(rest, "recording", room) == (200, told)


@pytest.mark.parametrize("odd", [{"set": {"start_ts": None}}, {"remove": ["status"]}], ids=str)
def test_a_recording_that_is_odd_at_daily_before_it_is_settled_is_shown_as_our_row_knows_it(
    rest: Rest, daily: DailyControl, odd: dict[str, object]
) -> None:
    session = rest.recording()
    room = session["roomName"]
    daily.odd("recording", room=room, where="answers", **odd)
    status, told = said_to(rest, "recording", room)
    assert (status, told["recordingId"], told["status"]) == (200, session["recordingId"], "in-progress")


def test_a_session_whose_recording_is_odd_at_daily_ends(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, unfinished: str
) -> None:
    daily.fault("webhook_drop", type="recording.ready-to-download")
    daily.odd("recording", room=unfinished, set={"start_ts": None}, where="answers")
    daily.end_recording(entries(rest, unfinished)[0]["recordingId"])
    eventually_ended(rest, database, unfinished)


@pytest.mark.parametrize(
    "odd",
    [{"set": {"user_id": "a\u0000b"}}, {"set": {"joined_at": None}}, {"remove": ["session_id"]}, {"set": {"room": 5}}],
    ids=str,
)
def test_events_are_applied_beside_an_odd_one_of_the_same_room(
    rest: Rest, daily: DailyControl, odd: dict[str, object]
) -> None:
    room = rest.create()["roomName"]
    tokens = [call(rest, "token", room, user, "student").json()["token"] for user in ("eve", "sam")]
    daily.odd("participant", room=room, where="events", **odd)
    daily.join(room, tokens[0])
    daily.reset()
    sam = daily.join(room, tokens[1])
    eventually(lambda: stays(rest, room)["sam"] == (iso(sam["joined_at"]), None))
    assert daily.state()["webhook"]["state"] == "ACTIVE"
