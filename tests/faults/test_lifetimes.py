"""A class ends by itself, its room is closed, and whoever is inside is put out: the rules of a class's life."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.daily.model import iso
from server.usecases.rules import LOST_LEAVE
from tests.clients import EXAMPLE, eventually
from tests.faults.steps import (
    FAILED_STOP,
    OF_ROOM,
    STOP,
    Own,
    call,
    enter,
    eventually_ended,
    has_ended,
    inside,
    make_due,
    own_stack,
    running,
    said_to,
    stays,
)

EMPTY, NO_SHOW, LONGEST, CLOSING = 2, 600, 60, 2


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """One whose rules are short."""
    rules = {
        "EMPTY_TIMEOUT": EMPTY,
        "NO_SHOW_TIMEOUT": NO_SHOW,
        "MAX_DURATION": LONGEST,
        "CLOSING_TIME": CLOSING,
        "DAILY_MAX_PARTICIPANTS": 60,
    }
    with own_stack(settings=rules) as running:
        yield running


@pytest.fixture(autouse=True)
def as_usual(own: Own) -> Iterator[None]:
    yield
    own.daily.reset()


def ends_at(own: Own, room: str) -> Any:
    """When it ended, once it has."""
    eventually(lambda: has_ended(own.rest, room))
    return own.rest.get(room)["endsAt"]


def age(own: Own, room: str, column: str, seconds: int) -> None:
    """As if that had been so much longer ago."""
    own.database.execute(
        f"UPDATE sessions SET {column} = {column} - make_interval(secs => %s) WHERE room_name = %s", [seconds, room]
    )


def test_delete_puts_everybody_out_though_daily_lets_a_call_outlive_its_room(own: Own) -> None:
    room = own.rest.create()["roomName"]
    for user in ("sam", "eve"):
        enter(own.rest, own.daily, room, user)
    assert call(own.rest, "delete", room).status_code == 200
    eventually(lambda: inside(own.daily, room) == [])
    assert room not in own.daily.rooms()


def test_delete_puts_out_more_people_than_daily_takes_in_a_request(own: Own) -> None:
    room = own.rest.create()["roomName"]
    enter(own.rest, own.daily, room, "sam")
    own.daily.fill(room, 250, quiet=True)
    before = own.daily.calls("POST /rooms/:name/eject")
    assert call(own.rest, "delete", room).status_code == 200
    assert inside(own.daily, room) == []
    assert own.daily.calls("POST /rooms/:name/eject") - before >= 3


def test_delete_puts_out_who_is_inside_while_presence_shows_nobody_yet(own: Own) -> None:
    room = own.rest.create()["roomName"]
    own.daily.settings(presence_lag=30)
    enter(own.rest, own.daily, room, "sam")
    eventually(lambda: stays(own.rest, room)["sam"][0])
    assert call(own.rest, "delete", room).status_code == 200
    assert inside(own.daily, room) == []


def test_nobody_is_put_out_by_a_room_s_removal_that_fails_and_all_are_once_it_does_not(own: Own) -> None:
    room = own.rest.create()["roomName"]
    enter(own.rest, own.daily, room, "sam")
    own.daily.fault("status", "POST", f"/rooms/{room}/eject", status=503, times=None)
    assert said_to(own.rest, "delete", room) == (500, {"error": "Failed to delete session"})
    assert (inside(own.daily, room), room in own.daily.rooms()) == (["sam"], True)
    own.daily.clear_faults()
    make_due(own.database, room)
    eventually(lambda: (inside(own.daily, room), room in own.daily.rooms()) == ([], False))


def test_a_session_that_was_stopped_is_closed_after_the_closing_time_and_nobody_comes_back(own: Own) -> None:
    room = own.rest.recording()["roomName"]
    token = call(own.rest, "token", room, "sam", "student").json()["token"]
    own.daily.join(room, token)
    assert call(own.rest, "stop", room).status_code == 200
    assert inside(own.daily, room) == ["sam"]
    eventually(lambda: inside(own.daily, room) == [] and room not in own.daily.rooms())
    with pytest.raises(AssertionError, match="not found"):
        own.daily.join(room, token)


def test_a_class_that_everybody_has_left_ends_as_of_the_last_leave_and_is_closed(own: Own) -> None:
    room = own.rest.create()["roomName"]
    sam, eve = (enter(own.rest, own.daily, room, user) for user in ("sam", "eve"))
    own.daily.leave(room, sam["session_id"])
    left = own.daily.leave(room, eve["session_id"])["left_at"]
    assert ends_at(own, room) == iso(left)
    eventually(lambda: room not in own.daily.rooms())


def test_a_recording_of_a_class_that_everybody_has_left_is_stopped_before_the_class_ends(own: Own) -> None:
    room = own.rest.recording()["roomName"]
    sam = enter(own.rest, own.daily, room, "sam")
    own.daily.leave(room, sam["session_id"])
    own.daily.fault("status", "POST", STOP.format(room), status=503, times=6)
    eventually(lambda: has_ended(own.rest, room), 30)
    assert running(own.daily, room) == []


def test_a_recorded_class_to_which_nobody_ever_came_ends_as_of_its_start(own: Own) -> None:
    room = own.rest.recording()["roomName"]
    live_at = own.database.execute("SELECT live_at FROM sessions WHERE room_name = %s", [room]).fetchone()
    assert live_at is not None
    assert ends_at(own, room) == live_at[0].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert running(own.daily, room) == []


def test_a_lost_leave_keeps_no_class_open(own: Own) -> None:
    room = own.rest.create()["roomName"]
    for type in ("participant.left", "meeting.ended"):
        own.daily.fault("webhook_drop", type=type, room=room)
    sam = enter(own.rest, own.daily, room, "sam")
    eventually(lambda: stays(own.rest, room)["sam"][0])
    own.daily.leave(room, sam["session_id"])
    ends_at(own, room)
    assert stays(own.rest, room)["sam"][1] is not None


def enter_a_minute_ago(own: Own, room: str, user: str) -> dict[str, Any]:
    """As if they had come then; their connection."""
    stay = enter(own.rest, own.daily, room, user)
    eventually(lambda: stays(own.rest, room).get(user, (None,))[0])
    own.database.execute(f"UPDATE connections SET joined_at = joined_at - interval '61 s' WHERE {OF_ROOM}", [room])
    return stay


def look_thrice(own: Own, room: str) -> None:
    """Upkeep asks Daily who is in the room."""
    for _ in range(3):
        looked = own.daily.calls("GET /rooms/:name/presence")

        def is_looked_at(looked: int = looked) -> bool:
            make_due(own.database, room)
            return own.daily.calls("GET /rooms/:name/presence") > looked

        eventually(is_looked_at)


def test_presence_that_says_nobody_while_the_meeting_goes_on_closes_no_stay(own: Own) -> None:
    room = own.rest.create()["roomName"]
    own.daily.settings(presence_lag=3600)
    enter_a_minute_ago(own, room, "sam")
    look_thrice(own, room)
    assert (stays(own.rest, room)["sam"][1], own.rest.get(room)["status"]) == (None, "live")


@pytest.mark.parametrize("odd", [{"remove": ["id"]}, {"set": {"userId": ["sam"]}}], ids=str)
def test_presence_of_which_nothing_can_be_read_closes_no_stay(own: Own, odd: dict[str, Any]) -> None:
    room = own.rest.create()["roomName"]
    own.daily.settings(min_stay=3600)
    own.daily.odd("participant", room=room, where="answers", **odd)
    enter_a_minute_ago(own, room, "sam")
    look_thrice(own, room)
    assert (stays(own.rest, room)["sam"][1], own.rest.get(room)["status"]) == (None, "live")


def test_a_room_is_closed_though_nothing_can_be_read_of_who_is_there(own: Own) -> None:
    room = own.rest.create()["roomName"]
    sam = enter(own.rest, own.daily, room, "sam")
    own.daily.odd("participant", id=sam["session_id"], where="answers", remove=["id"])
    assert call(own.rest, "delete", room).status_code == 200
    assert (inside(own.daily, room), room in own.daily.rooms()) == ([], False)


def test_a_lost_join_ends_no_class(own: Own) -> None:
    room = own.rest.create()["roomName"]
    own.daily.fault("webhook_drop", type="participant.joined", room=room)
    eve = enter(own.rest, own.daily, room, "eve")  # whose own leave is told
    enter(own.rest, own.daily, room, "sam")
    own.daily.fault("webhook_drop", type="participant.joined", room=room)
    own.daily.leave(room, eve["session_id"])
    looked = own.daily.calls("GET /rooms/:name/presence")
    make_due(own.database, room)
    eventually(lambda: own.daily.calls("GET /rooms/:name/presence") > looked)
    eventually(lambda: "sam" in stays(own.rest, room) and stays(own.rest, room)["sam"][0])
    assert (own.rest.get(room)["status"], inside(own.daily, room)) == ("live", ["sam"])


def test_a_class_with_somebody_inside_goes_on_and_is_not_asked_about_again_and_again(own: Own) -> None:
    room = own.rest.create()["roomName"]
    enter(own.rest, own.daily, room, "sam")
    eventually(lambda: own.rest.get(room)["status"] == "live")
    age(own, room, "live_at", EMPTY)
    looked = own.daily.calls("GET /rooms/:name/presence")
    make_due(own.database, room)
    eventually(lambda: own.daily.calls("GET /rooms/:name/presence") > looked)
    due = "SELECT due_at > clock_timestamp() + interval '1 s' FROM sessions WHERE room_name = %s"
    eventually(lambda: own.database.execute(due, [room]).fetchone() == (True,))
    assert own.rest.get(room)["status"] == "live"


def test_a_session_to_which_nobody_came_ends_when_its_start_is_long_behind(own: Own) -> None:
    starts_at = datetime.now(UTC) + timedelta(hours=1)
    room = own.rest.create(startsAt=starts_at.isoformat())["roomName"]
    make_due(own.database, room)
    pending = "SELECT due_at > clock_timestamp() + interval '1 h' FROM sessions WHERE room_name = %s"
    eventually(lambda: own.database.execute(pending, [room]).fetchone() == (True,))
    assert own.rest.get(room)["status"] == "scheduled"

    for column in ("starts_at", "created_at"):
        age(own, room, column, 3600 + NO_SHOW)
    make_due(own.database, room)
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert datetime.fromisoformat(ends_at(own, room)) > before
    eventually(lambda: room not in own.daily.rooms())


def test_a_session_that_was_created_late_is_not_a_no_show_at_once(own: Own) -> None:
    room = own.rest.create(startsAt="2020-01-01T00:00:00Z")["roomName"]
    make_due(own.database, room)
    pending = "SELECT due_at > clock_timestamp() + interval '1 min' FROM sessions WHERE room_name = %s"
    eventually(lambda: own.database.execute(pending, [room]).fetchone() == (True,))
    assert own.rest.get(room)["status"] == "scheduled"


def test_a_class_that_is_live_for_too_long_ends_with_people_inside_and_they_are_put_out(own: Own) -> None:
    room = own.rest.recording()["roomName"]
    enter(own.rest, own.daily, room, "sam")
    age(own, room, "live_at", LONGEST)
    eventually_ended(own.rest, own.database, room)
    assert running(own.daily, room) == []
    eventually(lambda: inside(own.daily, room) == [] and room not in own.daily.rooms())


def test_an_occupied_class_ends_at_its_longest_duration_by_itself() -> None:
    """It is not looked at again only when the next leave may have been lost, which is seven seconds later."""
    empty, longest = 3, 5
    with own_stack(settings={"EMPTY_TIMEOUT": empty, "MAX_DURATION": longest}) as own:
        room = own.rest.create()["roomName"]
        enter(own.rest, own.daily, room, "sam")
        ended_at = datetime.fromisoformat(ends_at(own, room))
        row = own.database.execute("SELECT live_at FROM sessions WHERE room_name = %s", [room]).fetchone()
        assert row is not None
        assert timedelta(seconds=longest) <= ended_at - row[0] < timedelta(seconds=empty * (1 + LOST_LEAVE))


def test_a_class_whose_end_by_a_rule_daily_does_not_take_at_once_ends_all_the_same(own: Own) -> None:
    """The intent stands on the session, as where somebody asked."""
    room = own.rest.recording()["roomName"]
    own.daily.fault("status", "POST", STOP.format(room), status=503, times=None)
    asked = "SELECT end_requested_at IS NOT NULL FROM sessions WHERE room_name = %s"
    eventually(lambda: own.database.execute(asked, [room]).fetchone() == (True,))
    assert said_to(own.rest, "stop", room) == FAILED_STOP
    assert own.rest.get(room)["status"] == "live"
    own.daily.clear_faults()
    eventually_ended(own.rest, own.database, room)


def test_a_room_s_own_expiry_is_far_behind_every_end_that_the_rules_allow(own: Own) -> None:
    starts_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    room = own.rest.create(startsAt=starts_at.isoformat())["roomName"]
    [at_daily] = own.daily.of_room(room)["rooms"]
    last = starts_at + timedelta(seconds=NO_SHOW + LONGEST + CLOSING)
    assert at_daily["config"]["exp"] == int((last + timedelta(days=1)).timestamp())


def test_a_class_for_more_people_than_the_setting_allows_is_refused_in_words(own: Own) -> None:
    assert own.rest.create(maxParticipants=60)["maxParticipants"] == 60
    answer = own.rest.call("POST", "/sessions", "ada", json=EXAMPLE | {"maxParticipants": 61})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert "60" in answer.json()["error"]
