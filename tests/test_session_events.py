"""Each change of a session, its participants and its recordings is told once, by whatever way it came."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, at_once, eventually
from tests.due import at_end, is_due, meetings_are_due
from tests.events import CLASS, Webhook
from tests.told import Told

ME = "told-instructor"
NewClass = Callable[..., Told]


@pytest.fixture
def webhook(stack: Stack, rest: Rest, database: psycopg.Connection) -> Webhook:
    return Webhook(stack, rest, database)


@pytest.fixture
def new_class(stack: Stack, rest: Rest, database: psycopg.Connection) -> NewClass:
    def make(**session: Any) -> Told:
        return Told(stack, database, str(rest.create(ME, **session)["roomName"]), ME)

    return make


@pytest.fixture
def told(new_class: NewClass) -> Told:
    return new_class()


class Caller:
    """The instructor of one class, and those who come into it."""

    def __init__(self, rest: Rest, daily: DailyControl, room: str) -> None:
        self._rest, self._daily, self._room = rest, daily, room

    def call(self, method: str, path: str = "", **request: Any) -> Any:
        answer = self._rest.call(method, f"/sessions/{self._room}{path}", ME, **request)
        assert answer.is_success, answer.text
        return answer.json()

    def token(self, user: str, role: str = "student", name: str | None = None) -> str:
        bearer = {"Authorization": f"Bearer {self._rest.token(user, role, name)}"}
        answer = self._rest.call("POST", f"/sessions/{self._room}/token", headers=bearer)
        return str(answer.json()["token"])

    def join(self, user: str, role: str = "student") -> str:
        return str(self._daily.join(self._room, self.token(user, role))["session_id"])

    def leave(self, stay: str) -> None:
        self._daily.leave(self._room, stay)


@pytest.fixture
def me(rest: Rest, daily: DailyControl, told: Told) -> Caller:
    return Caller(rest, daily, told.room)


# Sessions


def test_a_session_from_its_creation_until_its_room_is_gone(
    told: Told, me: Caller, database: psycopg.Connection
) -> None:
    told.come("session.created")
    me.call("PATCH", json={"courseId": "geometry"})
    told.come("session.created", "session.updated")
    database.execute("UPDATE sessions SET room_created_at = now() - interval '1 h' WHERE room_name = %s", [told.room])
    database.execute("UPDATE sessions SET recording_enabled = false WHERE room_name = %s", [told.room])
    me.call("DELETE")
    me.call("DELETE")
    told.come("session.created", "session.updated", "session.updated", "session.ended", "session.closed")


def test_a_session_that_could_not_be_created_is_told_of_nobody(
    rest: Rest, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.fault("status", "POST", "/rooms", status=400)
    before = database.execute("SELECT count(*) FROM session_events").fetchone()
    assert not rest.call("POST", "/sessions", ME, json={"courseId": "c", "startsAt": "2026-01-05T09:00Z"}).is_success
    assert database.execute("SELECT count(*) FROM session_events").fetchone() == before


def test_a_class_that_ends_by_a_rule(told: Told, database: psycopg.Connection) -> None:
    database.execute(
        "UPDATE sessions SET starts_at = now() - interval '2 days', created_at = now() - interval '2 days',"
        " due_at = clock_timestamp() WHERE room_name = %s",
        [told.room],
    )
    told.come("session.created", "session.updated", "session.ended")


def test_who_came_between_the_end_and_its_commit_has_not_been_in_the_class(
    told: Told, me: Caller, webhook: Webhook, database: psycopg.Connection
) -> None:
    stay = {"room": told.room, "session_id": f"{told.room}-1", "user_id": "sam", "joined_at": CLASS + 9}
    webhook.tell("participant.joined", stay)
    told.come("session.created", "session.live", "participant.joined")
    database.execute(
        "UPDATE sessions SET end_requested_at = to_timestamp(%s), due_at = clock_timestamp() WHERE room_name = %s",
        [CLASS, told.room],
    )
    eventually(lambda: len(told.types()) == 5)
    assert told.types()[3:] == ["session.ended", "participant.updated"]
    assert "sam" not in [getattr(one, "user_id", "") for one in told.present().values()]
    assert not told.latest()[str(told.events()[-1].state.id)].HasField("joined_at")


# Recordings


def test_a_recording_from_its_start_until_its_file_is_stored(told: Told, me: Caller, daily: DailyControl) -> None:
    me.call("POST", "/start-recording")
    told.come("session.created", "session.live", "recording.started")
    me.call("POST", "/start-recording")
    me.call("POST", "/stop-recording")
    me.call("POST", "/stop-recording")
    at_end(daily, told.room)
    told.come(
        *("session.created", "session.live", "recording.started"),
        *("recording.completed", "session.ended", "recording.completed"),
    )


def test_a_start_that_failed_gives_scheduled_back(told: Told, me: Caller, rest: Rest, daily: DailyControl) -> None:
    daily.fault("nobody_in_call", "POST", f"/rooms/{told.room}/recordings/start", times=None)
    assert rest.call("POST", f"/sessions/{told.room}/start-recording", ME).status_code == 400
    told.come("session.created", "session.live", "recording.failed", "session.updated")


def test_a_recording_that_daily_lost(told: Told, me: Caller, daily: DailyControl) -> None:
    id = me.call("POST", "/start-recording")["recordingId"]
    daily.fail_recording(id)
    told.come("session.created", "session.live", "recording.started", "recording.failed")


def test_what_was_started_inside_the_call(told: Told, me: Caller, daily: DailyControl) -> None:
    daily.press_record(told.room, me.join(ME, "instructor"))
    told.come("session.created", "session.live", "participant.joined", "recording.started")


# Participants


def test_a_person_comes_and_goes_whatever_the_devices(told: Told, me: Caller) -> None:
    first, second = me.join("sam"), me.join("sam")
    so_far = ["session.created", "session.live", "participant.joined"]
    told.come(*so_far)
    me.leave(first)
    told.come(*so_far)
    me.leave(second)
    told.come(*so_far, "participant.left")
    me.join("sam")
    told.come(*so_far, "participant.left", "participant.joined")


def test_permissions_and_removals_each_once(told: Told, me: Caller) -> None:
    for user in ("sam", "eve", "tom"):
        me.token(user)
    for method, path, body in [
        ("PATCH", "/participants/sam", {"cameraAllowed": False}),
        ("POST", "/mute", None),
        ("POST", "/participants/eve/remove", None),
        ("POST", "/participants/eve/readmit", None),
        ("POST", "/participants/nobody/remove", None),
    ]:
        me.call(method, path, **({"json": body} if body else {}))
        me.call(method, path, **({"json": body} if body else {}))
    told.come(
        "session.created",
        "participant.updated",
        *["participant.updated"] * 3,
        "participant.removed",
        "participant.readmitted",
        "participant.removed",
    )


def test_tokens_are_no_events(told: Told, me: Caller) -> None:
    at_once(*(lambda n=n: me.token(f"student-{n % 20}") for n in range(40)))
    me.token("student-1", name="Another name")
    me.token("student-1", role="instructor")
    told.come("session.created")


def test_whoever_was_removed_leaves(told: Told, me: Caller) -> None:
    me.join("sam")
    told.come("session.created", "session.live", "participant.joined")
    me.call("POST", "/participants/sam/remove")
    eventually(lambda: "participant.left" in told.types())
    told.agree()
    people = ["participant.joined", "participant.removed", "participant.left"]
    assert told.types_but_corrections() == ["session.created", "session.live", *people]


# Upkeep


def test_what_daily_remembers_of_a_class_of_which_it_told_nothing(
    told: Told, me: Caller, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.fault("webhook_drop", room=told.room, times=None)
    stay = me.join("sam")
    me.leave(stay)
    meetings_are_due(database)
    eventually(lambda: "participant.left" in told.types())
    told.come("session.created", "session.live", "participant.left")


def test_a_start_that_a_crash_left_behind(
    told: Told, me: Caller, daily: DailyControl, database: psycopg.Connection
) -> None:
    daily.fault("webhook_drop", type="recording.started", times=None)
    me.call("POST", "/start-recording")
    recording = eventually(lambda: daily.recordings(told.room))[0]
    daily.end_recording(recording["id"])
    is_due(database, "recordings", told.room)
    eventually(lambda: told.types().count("recording.completed") == 1)
    assert told.types() == ["session.created", "session.live", "recording.started", "recording.completed"]
    told.agree()


# Together


def test_an_event_says_when_it_was_committed_and_never_where_a_file_lies(
    told: Told, me: Caller, daily: DailyControl, database: psycopg.Connection
) -> None:
    before = database.execute("SELECT clock_timestamp()").fetchone()
    me.call("POST", "/start-recording")
    me.call("POST", "/stop-recording")
    eventually(lambda: told.types().count("recording.completed") == 2)
    [(key,)] = database.execute(
        "SELECT s3_key FROM recordings JOIN sessions ON sessions.id = session_id WHERE room_name = %s", [told.room]
    )
    states = database.execute(
        "SELECT state::text FROM session_events JOIN sessions ON id = session_id WHERE room_name = %s", [told.room]
    )
    assert key
    assert not [state for (state,) in states if key in state]
    times = [event.at for event in told.events()[1:]]
    assert before is not None
    assert before[0] - timedelta(milliseconds=1) <= times[0]
    assert times == sorted(times)
    assert times[-1] <= datetime.now(times[-1].tzinfo) + timedelta(seconds=1)


def test_many_who_change_one_session_at_once_take_one_revision_each(told: Told, me: Caller) -> None:
    users = [f"student-{number}" for number in range(12)]
    at_once(*(lambda user=user: me.join(user) for user in users))
    eventually(lambda: told.types().count("participant.joined") == 12)
    at_once(*(lambda user=user: me.call("POST", f"/participants/{user}/remove") for user in users))
    eventually(lambda: told.types().count("participant.left") == 12)
    assert sorted(told.types_but_corrections()) == sorted(
        ["session.created", "session.live"]
        + [f"participant.{change}" for change in ("joined", "removed", "left") for _ in users]
    )
    told.agree()
