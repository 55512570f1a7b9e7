"""Who was in the room, and when: told by Daily's events, whatever becomes of them on the way."""

import uuid
from typing import Any

import httpx
import psycopg
import pytest

from live_sessions.v1.resources_pb2 import SessionParticipant
from live_sessions.v1.service_pb2 import ListSessionParticipantsRequest
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, bearer, eventually, said

ME = "participants-instructor"


class Room:
    """A session's room, as the people in it and its instructor meet it."""

    def __init__(self, rest: Rest, daily: DailyControl, database: psycopg.Connection) -> None:
        self._rest, self._daily, self._database = rest, daily, database
        self.name = str(rest.create(ME)["roomName"])

    def token(self, user: str, role: str = "student") -> str:
        return str(self._rest.call("POST", f"/sessions/{self.name}/token", user, role).json()["token"])

    def join(self, user: str, role: str = "student") -> dict[str, Any]:
        return self._daily.join(self.name, self.token(user, role))

    def leave(self, stay: dict[str, Any]) -> dict[str, Any]:
        return self._daily.leave(self.name, stay["session_id"])

    def people(self) -> list[dict[str, Any]]:
        return list(self._rest.call("GET", f"/sessions/{self.name}/participants", ME).json())

    def times(self, user: str) -> tuple[str | None, str | None]:
        """When the user joined and left."""
        [person] = [one for one in self.people() if one["userId"] == user]
        return person.get("joinedAt"), person.get("leftAt")

    def settled(self) -> None:
        """Waits until all that happened in the room so far was told to us and is applied."""
        eventually(lambda: self._owed() <= self._applied())

    def told(self) -> list[str]:
        """The type of each event about the room that Daily has delivered."""
        return [one["type"] for one in self._daily.state()["deliveries"] if one["room"] == self.name]

    def _owed(self) -> set[tuple[str, str]]:
        """Type and stay of each event that Daily owes us."""
        stays = [one for one in self._daily.state()["connections"] if one["room"] == self.name]
        left = {("participant.left", one["session_id"]) for one in stays if one["left_at"] is not None}
        return left | {("participant.joined", one["session_id"]) for one in stays}

    def _applied(self) -> set[tuple[str, str]]:
        told = "SELECT type, convert_from(body, 'UTF8')::json #>> '{payload,session_id}' FROM daily_events"
        return set(self._database.execute(f"{told} WHERE room_name = %s AND due_at IS NULL", [self.name]).fetchall())


def dailys_token(stack: Stack, **properties: object) -> str:
    """A meeting token that Daily made itself, for somebody whom we have never seen."""
    key = stack.environment["LIVE_SESSIONS_DAILY_API_KEY"]
    url, headers = f"{stack.daily_url}/v1/meeting-tokens", {"Authorization": f"Bearer {key}"}
    return str(httpx.post(url, json={"properties": properties}, headers=headers, trust_env=False).json()["token"])


@pytest.fixture
def room(rest: Rest, daily: DailyControl, database: psycopg.Connection) -> Room:
    return Room(rest, daily, database)


def test_somebody_with_a_token_is_a_participant_who_has_not_joined(room: Room) -> None:
    room.token("sam")
    [person] = room.people()
    assert (person["userId"], person["role"], person["wasKicked"]) == ("sam", "student", False)
    assert (person["micAllowed"], person["cameraAllowed"]) == (True, True)
    assert person.keys().isdisjoint({"joinedAt", "leftAt"})


def test_who_is_in_the_room_has_joined_and_not_left(room: Room) -> None:
    stay = room.join("sam")
    room.settled()
    assert room.times("sam") == (iso(stay["joined_at"]), None)


def test_who_leaves_left_when_daily_says(room: Room) -> None:
    stay = room.leave(room.join("sam"))
    room.settled()
    assert room.times("sam") == (iso(stay["joined_at"]), iso(stay["left_at"]))


def test_who_comes_back_joined_first_and_has_not_left(room: Room) -> None:
    first = room.leave(room.join("sam"))
    room.join("sam")
    room.settled()
    assert room.times("sam") == (iso(first["joined_at"]), None)


def test_who_comes_and_goes_joined_first_and_left_last(room: Room) -> None:
    first = room.leave(room.join("sam"))
    last = room.leave(room.join("sam"))
    room.settled()
    assert room.times("sam") == (iso(first["joined_at"]), iso(last["left_at"]))
    assert len(room.people()) == 1


def test_who_has_two_devices_leaves_with_the_last_of_them(room: Room) -> None:
    phone, laptop = room.join("sam"), room.join("sam")
    room.leave(phone)
    room.settled()
    assert room.times("sam") == (iso(phone["joined_at"]), None)
    gone = room.leave(laptop)
    room.settled()
    assert room.times("sam") == (iso(phone["joined_at"]), iso(gone["left_at"]))


def test_one_persons_stay_says_nothing_of_another(room: Room) -> None:
    sam, eve = room.leave(room.join("sam")), room.join("eve")
    room.settled()
    assert room.times("sam") == (iso(sam["joined_at"]), iso(sam["left_at"]))
    assert room.times("eve") == (iso(eve["joined_at"]), None)


def test_a_join_that_is_told_after_its_leave_is_no_open_stay(room: Room, daily: DailyControl) -> None:
    daily.fault("webhook_reorder", type="participant.joined")
    stay = room.leave(room.join("sam"))
    room.settled()
    told = room.told()
    assert told.index("participant.left") < told.index("participant.joined")
    assert room.times("sam") == (iso(stay["joined_at"]), iso(stay["left_at"]))


def test_events_that_come_twice_count_once(room: Room, daily: DailyControl) -> None:
    daily.fault("webhook_duplicate", times=None)
    stay = room.leave(room.join("sam"))
    room.settled()
    assert len(room.people()) == 1
    assert room.times("sam") == (iso(stay["joined_at"]), iso(stay["left_at"]))


# Who they are


def test_an_instructor_is_an_instructor_and_anybody_else_a_student(room: Room) -> None:
    room.join("ada", "instructor")
    room.join("sam", "student")
    room.join("kim", "guest")
    room.settled()
    assert [(one["userId"], one["role"]) for one in room.people()] == [
        ("ada", "instructor"),
        ("sam", "student"),
        ("kim", "student"),
    ]


def test_the_role_is_that_of_the_latest_token(room: Room) -> None:
    room.token("sam", "student")
    before = room.people()[0]
    room.token("sam", "instructor")
    [after] = room.people()
    assert (after["_id"], after["role"]) == (before["_id"], "instructor")
    assert after["updatedAt"] > before["updatedAt"]


@pytest.mark.parametrize("length", [36, 37, 128])
def test_a_user_id_of_any_length_is_told_as_it_is(room: Room, length: int) -> None:
    user = uuid.uuid4().hex.ljust(length, "x")
    stay = room.join(user)
    assert len(stay["user_id"]) <= 36
    room.leave(stay)
    room.settled()
    joined, left = room.times(user)
    assert joined == iso(stay["joined_at"])
    assert left is not None
    assert len(room.people()) == 1


@pytest.mark.parametrize(("owner", "role"), [(True, "instructor"), (False, "student")])
def test_somebody_with_a_token_of_dailys_own_is_a_participant_too(
    stack: Stack, daily: DailyControl, room: Room, owner: bool, role: str
) -> None:
    stay = daily.join(room.name, dailys_token(stack, room_name=room.name, user_id="visitor", is_owner=owner))
    room.settled()
    [person] = room.people()
    assert (person["userId"], person["role"], person["joinedAt"]) == ("visitor", role, iso(stay["joined_at"]))


def test_a_visitor_who_signs_in_later_stays_one_participant(stack: Stack, daily: DailyControl, room: Room) -> None:
    first = room.leave(daily.join(room.name, dailys_token(stack, room_name=room.name, user_id="sam")))
    room.settled()
    room.join("sam")
    room.settled()
    assert len(room.people()) == 1
    assert room.times("sam") == (iso(first["joined_at"]), None)


# The list


def test_only_the_instructor_may_list_them(rest: Rest, room: Room) -> None:
    room.join("sam")
    path = f"/sessions/{room.name}/participants"
    message = {"message": f"Not authorized to list participants of session:{room.name}"}
    assert said(rest.call("GET", path, "sam", "student")) == (403, message)
    assert said(rest.call("GET", path, "another-instructor")) == (403, message)
    assert rest.call("GET", path).status_code == 401
    assert said(rest.call("GET", "/sessions/none-such/participants", ME)) == (404, {"message": "Session not found"})


def test_rest_leads_from_page_to_page_by_the_link_header(rest: Rest, room: Room) -> None:
    users = [f"user-{number}" for number in range(5)]
    for user in users:
        room.token(user)
    seen, path = [], f"/sessions/{room.name}/participants?page_size=2"
    while path:
        answer = rest.call("GET", path, ME)
        seen.append([one["userId"] for one in answer.json()])
        path = answer.links.get("next", {}).get("url", "")
    assert seen == [users[:2], users[2:4], users[4:]]


def test_without_a_page_size_all_are_listed(rest: Rest, room: Room) -> None:
    for number in range(5):
        room.token(f"user-{number}")
    answer = rest.call("GET", f"/sessions/{room.name}/participants", ME)
    assert (len(answer.json()), "link" in answer.headers) == (5, False)


def test_grpc_leads_from_page_to_page_by_the_token(stub: LiveSessionsStub, rest: Rest, room: Room) -> None:
    users = [f"user-{number}" for number in range(4)]
    for user in users:
        room.token(user)
    seen, token = [], ""
    while not seen or token:
        request = ListSessionParticipantsRequest(session_name=room.name, page_size=2, page_token=token)
        page = stub.ListSessionParticipants(request, metadata=bearer(rest.token(ME)), timeout=10)
        seen.append([one.user_id for one in page.participants])
        token = page.next_page_token
    assert seen == [users[:2], users[2:]]


def test_grpc_leaves_unset_what_has_not_happened(stub: LiveSessionsStub, rest: Rest, room: Room) -> None:
    room.join("sam")
    room.token("eve")
    room.settled()
    request = ListSessionParticipantsRequest(session_name=room.name)
    sam, eve = stub.ListSessionParticipants(request, metadata=bearer(rest.token(ME)), timeout=10).participants
    assert (sam.role, sam.HasField("joined_at"), sam.HasField("left_at")) == (SessionParticipant.student, True, False)
    assert (eve.HasField("joined_at"), eve.HasField("left_at")) == (False, False)
