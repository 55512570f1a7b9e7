"""Attendance is what happened in the room, whatever events were lost, late or odd."""

from uuid import uuid4

import psycopg
import pytest

from sandbox.daily.model import iso
from tests.clients import DailyControl, Rest, eventually
from tests.faults.steps import OF_ROOM, call, enter, make_chore_due, make_due, stays

LOST = ("participant.left", "meeting.ended")


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create()["roomName"])


def drop(daily: DailyControl, room: str, *types: str) -> None:
    for type in types:
        daily.fault("webhook_drop", type=type, room=room, times=None)


def look_at_meetings(database: psycopg.Connection, room: str) -> None:
    """As when it has become likely that an event was lost."""
    database.execute(f"UPDATE meetings SET due_at = clock_timestamp() WHERE {OF_ROOM}", [room])


def test_visits_that_no_event_told_of_are_found_beside_many_live_rooms(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    busy = [f"busy-{uuid4()}" for _ in range(120)]
    database.execute(
        "INSERT INTO sessions (course_id, room_name, status, starts_at, created_by, room_created_at)"
        " SELECT 'c', name, 'live', now(), 'bob', now() FROM unnest(%s::text[]) AS name",
        [busy],
    )
    daily.fault("webhook_drop", times=None)
    for room in busy:
        daily.others(room=room, users=[room[:30]], recording=False)
    daily.clear_faults()
    visited = [rest.create()["roomName"] for _ in range(6)]
    wanted = {}
    for number, room in enumerate(visited):
        eve = enter(rest, daily, room, "eve") if number % 2 else None
        eventually(lambda room=room, eve=eve: eve is None or stays(rest, room)["eve"][0])
        daily.fault("webhook_drop", room=room, times=None)
        sam = enter(rest, daily, room, "sam")
        left = daily.leave(room, sam["session_id"])
        wanted[room] = iso(int(sam["joined_at"])), iso(int(left["left_at"]))
        if eve is not None:
            daily.leave(room, eve["session_id"])
    make_chore_due(database, "meetings")
    for room in visited:
        eventually(lambda room=room: stays(rest, room)["sam"] == wanted[room])
    inside = "SELECT count(*) FROM connections JOIN sessions ON sessions.id = session_id WHERE room_name = ANY(%s)"
    eventually(lambda: database.execute(inside, [busy]).fetchone() == (120,))


def test_more_visits_than_one_page_of_daily_s_records_are_found(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    daily.fault("webhook_drop", times=None)
    sam = enter(rest, daily, room, "sam")
    daily.leave(room, sam["session_id"])
    daily.clear_faults()
    for _ in range(105):
        daily.others(users=["somebody"], recording=False)
    make_chore_due(database, "meetings")
    eventually(lambda: stays(rest, room)["sam"][1])


@pytest.mark.parametrize("lost", [("participant.left",), LOST], ids=" and ".join)
def test_a_stay_too_short_for_daily_s_records_that_lost_its_leave_is_closed_with_its_meeting(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str, lost: tuple[str, ...]
) -> None:
    daily.settings(min_stay=10)
    drop(daily, room, *lost)
    sam = enter(rest, daily, room, "sam")
    eventually(lambda: stays(rest, room)["sam"][0])
    daily.leave(room, sam["session_id"])
    look_at_meetings(database, room)
    joined, left = eventually(lambda: stays(rest, room)["sam"][1] and stays(rest, room)["sam"])
    assert (joined, left >= joined) == (iso(sam["joined_at"]), True)


def test_who_comes_back_in_the_second_in_which_the_meeting_before_ended_stays_inside(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    daily.settings(meeting_end_lag=1)
    token = call(rest, "token", room, "sam", "student").json()["token"]
    for _ in range(3):
        sam = daily.join(room, token)
        daily.leave(room, sam["session_id"])
    daily.join(room, token)
    eventually(lambda: ended_meetings(database, room) == 3)
    look_at_meetings(database, room)
    eventually(lambda: compared_meetings(database, room) == 3)
    assert stays(rest, room)["sam"][1] is None


def ended_meetings(database: psycopg.Connection, room: str) -> int:
    return count(database, room, "ended_at")


def compared_meetings(database: psycopg.Connection, room: str) -> int:
    return count(database, room, "compared_at")


def count(database: psycopg.Connection, room: str, column: str) -> int:
    row = database.execute(f"SELECT count({column}) FROM meetings WHERE {OF_ROOM}", [room]).fetchone()
    assert row is not None
    return int(row[0])


def test_a_stay_that_daily_s_record_ends_before_it_began_ends_when_it_began(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    drop(daily, room, *LOST)
    sam = enter(rest, daily, room, "sam")
    eventually(lambda: stays(rest, room)["sam"][0])
    daily.odd("participant", room=room, set={"join_time": int(sam["joined_at"]) - 1, "duration": 0}, where="answers")
    daily.leave(room, sam["session_id"])
    look_at_meetings(database, room)
    eventually(lambda: stays(rest, room)["sam"] == (iso(sam["joined_at"]), iso(sam["joined_at"])))


def test_a_meeting_that_ends_twenty_seconds_late_is_compared_once_it_has_ended(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    daily.settings(meeting_end_lag=3)
    drop(daily, room, "participant.joined", "participant.left")
    sam = enter(rest, daily, room, "sam")
    left = daily.leave(room, sam["session_id"])
    wanted = iso(int(sam["joined_at"])), iso(int(left["left_at"]))

    def is_told() -> bool:
        make_due(database, room)
        return stays(rest, room)["sam"] == wanted

    eventually(is_told)


def test_a_meeting_that_goes_on_by_daily_s_record_though_nobody_is_left_is_looked_at_again(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    drop(daily, room, "meeting.ended")
    daily.odd("meeting", room=room, set={"ongoing": True}, where="answers")
    sam = enter(rest, daily, room, "sam")
    daily.leave(room, sam["session_id"])
    eventually(lambda: stays(rest, room)["sam"][1])
    looked = daily.calls("GET /meetings/:id")
    look_at_meetings(database, room)
    eventually(lambda: daily.calls("GET /meetings/:id") > looked)
    again = "due_at > clock_timestamp() + interval '40 s' AND due_at <= clock_timestamp() + interval '60 s'"
    eventually(lambda: database.execute(f"SELECT FROM meetings WHERE {again} AND {OF_ROOM}", [room]).rowcount == 1)
    daily.reset()
    look_at_meetings(database, room)
    eventually(lambda: compared_meetings(database, room) == 1)


def test_what_events_told_outweighs_daily_s_whole_seconds(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    sam = enter(rest, daily, room, "sam")
    left = daily.leave(room, sam["session_id"])
    wanted = iso(sam["joined_at"]), iso(left["left_at"])
    eventually(lambda: stays(rest, room)["sam"] == wanted)
    look_at_meetings(database, room)
    eventually(lambda: compared_meetings(database, room) == 1)
    assert stays(rest, room)["sam"] == wanted


def test_a_user_on_two_devices_is_inside_until_both_have_left_though_one_leave_is_lost(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    phone, laptop = (enter(rest, daily, room, "sam") for _ in range(2))
    daily.fault("webhook_drop", type="participant.left", room=room)
    daily.leave(room, phone["session_id"])
    eventually(lambda: stays(rest, room)["sam"][0])
    assert stays(rest, room)["sam"][1] is None
    left = daily.leave(room, laptop["session_id"])
    make_due(database, room)
    eventually(lambda: stays(rest, room)["sam"] == (iso(phone["joined_at"]), iso(left["left_at"])))


def test_all_meetings_that_were_under_way_when_events_were_missing_are_compared_again(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    rooms = [rest.create()["roomName"] for _ in range(15)]
    inside = {room: enter(rest, daily, room, "sam") for room in rooms}
    for room in rooms:
        eventually(lambda room=room: stays(rest, room)["sam"][0])
    [webhook] = daily.state()["webhooks"]
    daily.put_webhook(webhook["uuid"], state="FAILED")
    left = {room: daily.leave(room, inside[room]["session_id"])["left_at"] for room in rooms}
    make_chore_due(database, "webhook")
    for room in rooms:
        eventually(lambda room=room: stays(rest, room)["sam"][1])
        joined = inside[room]["joined_at"]
        assert stays(rest, room)["sam"] == (iso(joined), iso(max(joined, int(left[room]))))


def test_what_was_to_be_looked_back_at_while_a_sweep_was_under_way_is_found(
    rest: Rest, daily: DailyControl, database: psycopg.Connection, room: str
) -> None:
    daily.fault("webhook_drop", times=None)
    sam = enter(rest, daily, room, "sam")
    daily.leave(room, sam["session_id"])
    daily.clear_faults()
    database.execute("UPDATE chores SET done_until = now() + interval '1 h' WHERE id = 'meetings'")  # all seen to
    daily.fault("delay", "GET", "/meetings", seconds=1)
    before = daily.calls("GET /meetings")
    make_chore_due(database, "meetings")
    eventually(lambda: daily.calls("GET /meetings") > before)
    database.execute(
        "UPDATE chores SET done_until = now() - interval '1 h', due_at = clock_timestamp() WHERE id = 'meetings'"
    )
    eventually(lambda: stays(rest, room)["sam"][1])
