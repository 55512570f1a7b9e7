"""Moderation: who was removed is out and stays out, and permissions reach those inside and whoever comes."""

from typing import Any

import psycopg
import pytest

from tests.clients import DailyControl, Rest, at_once, eventually, said

ME = "moderating-instructor"
ALL, NOTHING = True, False
SOUND, PICTURE = ["audio", "screenAudio"], ["video", "screenVideo"]


class Room:
    """A session's room, as its instructor and the people in it meet it."""

    def __init__(self, rest: Rest, daily: DailyControl, **session: Any) -> None:
        self.rest, self.daily = rest, daily
        self.name = str(rest.create(ME, **session)["roomName"])

    def token(self, user: str, role: str = "student") -> str:
        answer = self.rest.call("POST", f"/sessions/{self.name}/token", user, role)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def join(self, user: str, role: str = "student") -> str:
        """Their connection's id."""
        return self.join_with(self.token(user, role))

    def join_with(self, token: str) -> str:
        return str(self.daily.join(self.name, token)["session_id"])

    def remove(self, user: str) -> tuple[int, Any]:
        return said(self.rest.call("POST", f"/sessions/{self.name}/participants/{user}/remove", ME))

    def readmit(self, user: str) -> tuple[int, Any]:
        return said(self.rest.call("POST", f"/sessions/{self.name}/participants/{user}/readmit", ME))

    def permit(self, user: str, **permissions: object) -> tuple[int, Any]:
        return said(self.rest.call("PATCH", f"/sessions/{self.name}/participants/{user}", ME, json=permissions))

    def mute(self) -> tuple[int, Any]:
        return said(self.rest.call("POST", f"/sessions/{self.name}/mute", ME))

    def people(self) -> dict[str, dict[str, Any]]:
        answer = self.rest.call("GET", f"/sessions/{self.name}/participants", ME)
        return {one["userId"]: one for one in answer.json()}

    def inside(self) -> dict[str, Any]:
        """What each connection that is inside may send, as Daily has it."""
        stays = self.daily.of_room(self.name)["connections"]
        return {one["session_id"]: one["permissions"]["canSend"] for one in stays if one["left_at"] is None}


@pytest.fixture
def room(rest: Rest, daily: DailyControl) -> Room:
    return Room(rest, daily)


# Removing


def test_who_is_removed_is_out_with_all_devices_when_the_call_answers(room: Room) -> None:
    room.join("sam")
    room.join("sam")
    eve = room.join("eve")
    status, removed = room.remove("sam")
    assert (status, removed["userId"], removed["wasKicked"]) == (200, "sam", True)
    assert list(room.inside()) == [eve]


def test_who_is_removed_gets_no_token_and_no_recording(room: Room) -> None:
    room.join("sam")
    room.remove("sam")
    for path, verb in (("token", "POST"), ("recording", "GET")):
        assert room.rest.call(verb, f"/sessions/{room.name}/{path}", "sam", "student").status_code in (403, 404)
    answer = said(room.rest.call("POST", f"/sessions/{room.name}/token", "sam", "student"))
    assert answer == (403, {"message": f"Not authorized to join session:{room.name}"})


def test_who_comes_back_with_an_older_token_is_out_within_three_seconds(room: Room) -> None:
    eve, token = room.join("eve"), room.token("sam")
    room.remove("sam")
    for _ in range(3):
        room.join_with(token)
        eventually(lambda: list(room.inside()) == [eve], 3)


def test_who_comes_back_untold_is_out_within_fifteen_seconds(room: Room) -> None:
    room.join("eve")
    token = room.token("sam")
    room.remove("sam")
    room.daily.fault("webhook_drop", times=None)
    stay = room.join_with(token)
    eventually(lambda: stay not in room.inside(), 15)


def test_somebody_who_has_not_come_yet_can_be_removed(room: Room) -> None:
    status, removed = room.remove("sam")
    assert (status, removed["wasKicked"], removed["role"]) == (200, True, "student")
    assert "joinedAt" not in removed
    assert room.rest.call("POST", f"/sessions/{room.name}/token", "sam", "student").status_code == 403


def test_a_removal_that_is_repeated_changes_nothing(room: Room) -> None:
    room.join("sam")
    first = room.remove("sam")[1]
    again = room.remove("sam")[1]
    assert again["updatedAt"] == first["updatedAt"]
    assert again["wasKicked"]


def test_the_sessions_instructor_cannot_be_removed(room: Room) -> None:
    message = {"message": "The session's instructor cannot be removed"}
    assert room.remove(ME) == (400, message)
    assert ME not in room.people()


def test_who_was_removed_left_when_they_were_put_out_though_daily_does_not_tell(room: Room) -> None:
    stay = room.join("sam")
    eventually(lambda: room.people().get("sam", {}).get("joinedAt"))
    room.daily.fault("webhook_drop", times=None, type="participant.left")
    removed = room.remove("sam")[1]
    assert stay not in room.inside()
    assert "leftAt" not in removed  # as of the removal
    assert room.people()["sam"]["leftAt"]


BURSTS, BURST = 5, 20


@pytest.mark.parametrize(("told", "most"), [(True, 3), (False, 15)], ids=["told", "untold"])
def test_who_comes_back_a_hundred_times_with_an_older_token_is_never_inside_for_long(
    room: Room, told: bool, most: int
) -> None:
    """How long, in seconds, is what Daily itself says; whether Daily tells us that they came back or not."""
    eve, token = room.join("eve"), room.token("sam")
    eventually(lambda: room.people()["eve"].get("joinedAt"))
    room.remove("sam")
    if not told:
        room.daily.fault("webhook_drop", room=room.name, times=None)
    for _ in range(BURSTS):
        for _ in range(BURST):
            room.join_with(token)
        eventually(lambda: list(room.inside()) == [eve], 30)
    stays = [stay for stay in room.daily.of_room(room.name)["connections"] if stay["user_id"] == "sam"]
    assert len(stays) == BURSTS * BURST
    assert [stay for stay in stays if stay["left_at"] - stay["joined_at"] > most] == []


# Readmitting


def test_who_is_readmitted_may_come_again(room: Room) -> None:
    eve, token = room.join("eve"), room.token("sam")
    room.remove("sam")
    status, readmitted = room.readmit("sam")
    assert (status, readmitted["wasKicked"]) == (200, False)
    stays = {eve, room.join("sam"), room.join_with(token)}
    eventually(lambda: room.people()["sam"].get("joinedAt"))
    assert set(room.inside()) == stays


def test_who_was_not_removed_is_readmitted_as_they_are(room: Room) -> None:
    room.token("sam")
    assert room.readmit("sam") == (200, room.people()["sam"])


def test_a_session_that_has_ended_takes_a_readmission_and_nothing_else(room: Room) -> None:
    room.token("sam")
    room.remove("sam")
    room.rest.call("DELETE", f"/sessions/{room.name}", ME)
    ended = (400, {"message": "Session has ended"})
    assert room.remove("sam") == ended
    assert room.permit("sam", micAllowed=False) == ended
    assert room.mute() == ended
    status, readmitted = room.readmit("sam")
    assert (status, readmitted["wasKicked"]) == (200, False)


# Permissions


@pytest.mark.parametrize(
    ("changes", "may_send"),
    [
        ({"micAllowed": False}, PICTURE),
        ({"cameraAllowed": False}, SOUND),
        ({"micAllowed": False, "cameraAllowed": False}, NOTHING),
        ({"micAllowed": True, "cameraAllowed": True}, ALL),
    ],
)
def test_a_permission_reaches_all_devices_inside_and_the_next_token(
    room: Room, changes: dict[str, bool], may_send: object
) -> None:
    phone, laptop, eve = room.join("sam"), room.join("sam"), room.join("eve")
    status, changed = room.permit("sam", **changes)
    expected = {"micAllowed": True, "cameraAllowed": True} | changes
    assert (status, {name: changed[name] for name in expected}) == (200, expected)
    assert room.inside() == {phone: may_send, laptop: may_send, eve: ALL}
    later = room.join("sam")
    assert room.inside()[later] == may_send


def test_what_is_not_given_stays_as_it_is(room: Room) -> None:
    room.token("sam")
    room.permit("sam", micAllowed=False)
    changed = room.permit("sam", cameraAllowed=False)[1]
    assert (changed["micAllowed"], changed["cameraAllowed"]) == (False, False)


def test_a_permission_given_back_reaches_those_inside(room: Room) -> None:
    stay = room.join("sam")
    room.permit("sam", micAllowed=False, cameraAllowed=False)
    room.permit("sam", micAllowed=True)
    assert room.inside() == {stay: SOUND}
    room.permit("sam", cameraAllowed=True)
    assert room.inside() == {stay: ALL}


@pytest.mark.parametrize("older", [{"micAllowed": True}, {"micAllowed": False}])
def test_who_joins_with_an_older_tokens_permissions_is_put_right(room: Room, older: dict[str, bool]) -> None:
    room.token("sam")
    room.permit("sam", **older)
    token = room.token("sam")
    newer = not older["micAllowed"]
    room.permit("sam", micAllowed=newer)
    stay = room.join_with(token)
    eventually(lambda: room.inside()[stay] == (ALL if newer else PICTURE), 3)


def test_who_joins_and_of_whose_permissions_daily_says_nothing_is_put_right_where_somebody_was_moderated(
    room: Room,
) -> None:
    room.daily.odd("participant", room=room.name, where="events", remove=["permissions"])
    room.token("sam")
    room.permit("sam", micAllowed=False)
    older = room.token("sam")
    room.permit("sam", micAllowed=True)
    stay = room.join_with(older)
    eventually(lambda: room.inside()[stay] == ALL, 3)


def test_where_nobody_was_moderated_daily_is_asked_nothing_of_who_joins(
    room: Room, database: psycopg.Connection
) -> None:
    room.daily.odd("participant", room=room.name, where="events", remove=["permissions"])
    room.join("sam")
    eventually(lambda: room.people()["sam"].get("joinedAt"))
    id = room.rest.get(room.name)["_id"]
    assert database.execute("SELECT FROM moderations WHERE id = %s", [id]).rowcount == 0
    unsettled = "SELECT unsettled_at FROM participants WHERE session_id = %s"
    assert database.execute(unsettled, [id]).fetchall() == [(None,)]


def test_a_change_that_changes_nothing_keeps_the_time_of_the_last_one(room: Room) -> None:
    room.token("sam")
    first = room.permit("sam", micAllowed=False)[1]
    assert room.permit("sam", micAllowed=False) == (200, first)


def test_a_user_whom_the_session_does_not_know_is_not_found(room: Room) -> None:
    not_found = (404, {"message": "Participant not found"})
    assert room.permit("nobody", micAllowed=False) == not_found
    assert room.readmit("nobody") == not_found


# Muting


def test_muting_takes_the_microphone_from_every_student_and_from_nobody_else(room: Room) -> None:
    sam, eve, co = room.join("sam"), room.join("eve"), room.join("co-instructor", "instructor")
    room.token("kim")
    room.permit("eve", micAllowed=False)
    status, muted = room.mute()
    assert (status, [one["userId"] for one in muted]) == (200, ["sam", "kim"])
    assert {one["micAllowed"] for one in muted} == {False}
    assert room.inside() == {sam: PICTURE, eve: PICTURE, co: ALL}
    assert room.mute() == (200, [])
    assert {user: one["micAllowed"] for user, one in room.people().items()} == {
        "sam": False,
        "eve": False,
        "co-instructor": True,
        "kim": False,
    }


# Two at once


def test_of_two_changes_at_once_both_are_made(room: Room) -> None:
    stay = room.join("sam")
    answers = at_once(lambda: room.permit("sam", micAllowed=False), lambda: room.permit("sam", cameraAllowed=False))
    assert [status for status, _ in answers] == [200, 200]
    person = room.people()["sam"]
    assert (person["micAllowed"], person["cameraAllowed"]) == (False, False)
    eventually(lambda: room.inside() == {stay: NOTHING}, 30)


def test_of_two_opposite_changes_at_once_daily_has_what_the_row_has(room: Room) -> None:
    stay = room.join("sam")
    for _ in range(5):
        at_once(*(lambda allowed=allowed: room.permit("sam", micAllowed=allowed) for allowed in (True, False) * 3))
    allowed = room.people()["sam"]["micAllowed"]
    eventually(lambda: room.inside() == {stay: ALL if allowed else PICTURE}, 60)


def test_a_removal_and_a_change_at_once_are_both_made(room: Room) -> None:
    room.join("eve")
    room.join("sam")
    at_once(lambda: room.remove("sam"), lambda: room.permit("sam", micAllowed=False))
    person = room.people()["sam"]
    assert (person["wasKicked"], person["micAllowed"]) == (True, False)
    assert len(room.inside()) == 1


@pytest.mark.parametrize(("ended", "is_due"), [("6 hours", True), ("6 hours 2 minutes", False)])
def test_a_class_whose_room_is_kept_is_looked_at_as_long_as_a_token_lets_anybody_in(
    room: Room, database: psycopg.Connection, ended: str, is_due: bool
) -> None:
    room.token("sam")
    room.mute()
    id = room.rest.get(room.name)["_id"]
    database.execute("UPDATE participants SET unsettled_at = NULL WHERE session_id = %s", [id])
    kept = "status = 'ended', ends_at = now() - %s::interval, end_requested_at = now(), due_at = NULL"
    database.execute(f"UPDATE sessions SET {kept} WHERE id = %s", [ended, id])
    database.execute("UPDATE moderations SET due_at = clock_timestamp() WHERE id = %s", [id])
    # Whoever looks at it has it for the time of a lease, which is shorter.
    seen = "SELECT due_at > clock_timestamp() + interval '1 min' FROM moderations WHERE id = %s"
    due = eventually(lambda: row if (row := database.execute(seen, [id]).fetchone()) != (False,) else None)
    assert due == ((True,) if is_due else (None,))
