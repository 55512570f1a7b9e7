"""What the stand-in says of calls: meetings, their participants, and presence."""

from tests.clients import eventually
from tests.sandbox_daily.stand_in import Daily, is_error


def test_a_meeting_lists_every_connection_in_whole_seconds(daily: Daily) -> None:
    room = daily.room()
    first, second = daily.entered(room, ud="u-1", u="Ada"), daily.entered(room, ud="u-1", u="Ada")
    (meeting,) = daily.listed("/meetings", room=room, ongoing="true")
    left = [daily.leave(room, session) for session in (first, second)]
    assert daily.control.post(f"/rooms/{room}/leave", json={"session_id": second}).status_code == 404
    (ended,) = daily.listed("/meetings", room=room)
    assert ended == {
        "id": meeting["id"],
        "room": room,
        "start_time": int(left[0]["joined_at"]),
        "duration": int(left[1]["left_at"]) - int(left[0]["joined_at"]),
        "ongoing": False,
        "max_participants": 2,
        "participants": [
            {
                "user_id": "u-1",
                "user_name": "Ada",
                "participant_id": stay["session_id"],
                "join_time": int(stay["joined_at"]),
                "duration": int(stay["left_at"]) - int(stay["joined_at"]),
            }
            for stay in left
        ],
    }
    assert daily.api.get(f"/meetings/{meeting['id']}").json() == ended
    assert daily.api.get("/meetings/none").status_code == 404


def test_meetings_are_narrowed_by_room_time_and_whether_they_go_on(daily: Daily) -> None:
    room = daily.room()
    daily.leave(room, daily.entered(room))
    daily.entered(room)
    running, ended = daily.listed("/meetings", room=room)
    start = running["start_time"]
    assert daily.listed("/meetings", room=room, timeframe_start=start, timeframe_end=start)[0] == running
    assert daily.listed("/meetings", room=room, timeframe_end=ended["start_time"] - 1) == []
    assert daily.listed("/meetings", room=room, ongoing="false") == [ended]
    assert daily.listed("/meetings", room=room, starting_after=running["id"], limit=1) == [ended]
    assert "participants" not in daily.listed("/meetings", room=room, no_participants="true")[0]
    wrong = daily.api.get("/meetings", params={"timeframe_start": "today"})
    assert is_error(wrong, 400, "invalid-request-error", "timeframe_start must be a number")


def test_the_participants_of_a_meeting_are_paged_by_participant_id(daily: Daily) -> None:
    room = daily.room()
    sessions = daily.fill(room, users=5)
    path = f"/meetings/{daily.listed('/meetings', room=room)[0]['id']}/participants"

    def page(**query: object) -> list[str]:
        return [one["participant_id"] for one in daily.listed(path, **query)]

    assert page() == sessions
    assert page(limit=2) == sessions[:2]
    assert page(joined_after=sessions[1], limit=2) == sessions[2:4]
    assert page(joined_before=sessions[2]) == sessions[:2]
    wrong = daily.api.get(path, params={"joined_after": "x"})
    assert is_error(wrong, 400, "invalid-request-error", "joined_after and joined_before must be ids")


def test_stays_that_were_too_short_are_not_recorded_and_are_true_in_the_state(daily: Daily) -> None:
    daily.settings(min_stay=1)
    room = daily.room()
    long = daily.entered(room, ud="long")
    short = daily.leave(room, daily.entered(room, ud="short"))
    eventually(lambda: daily.listed("/meetings", room=room)[0]["participants"])
    assert [one["user_id"] for one in daily.listed("/meetings", room=room)[0]["participants"]] == ["long"]
    stays = {one["session_id"]: one for one in daily.of_room(room)["connections"]}
    assert stays.keys() == {long, short["session_id"]}
    assert stays[short["session_id"]]["left_at"] == short["left_at"]


def test_presence_of_the_domain_is_by_room(daily: Daily) -> None:
    one, other = daily.room(), daily.room()
    first, second = daily.entered(one, ud="u-1", u="Ada"), daily.entered(other, ud="u-2")
    present = daily.api.get("/presence").json()
    assert [stay["id"] for stay in present[one]] == [first]
    assert [stay["id"] for stay in present[other]] == [second]
    assert present[one] == daily.listed(f"/rooms/{one}/presence")
    assert set(present[one][0]) == {"room", "id", "userId", "userName", "joinTime", "duration"}
    assert present[one][0]["joinTime"].endswith(".000Z")


def test_presence_can_lag_and_show_ghosts(daily: Daily) -> None:
    daily.settings(presence_lag=1.5)
    room = daily.room()
    session = daily.entered(room)
    assert daily.listed(f"/rooms/{room}/presence") == []
    eventually(lambda: daily.listed(f"/rooms/{room}/presence"))
    daily.leave(room, session)
    assert [stay["id"] for stay in daily.listed(f"/rooms/{room}/presence")] == [session]
    assert [stay["id"] for stay in daily.api.get("/presence").json()[room]] == [session]
    eventually(lambda: not daily.listed(f"/rooms/{room}/presence"))
