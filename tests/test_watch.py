"""Following a class over gRPC: what who is told, in which order, from where on, and how streams end."""

import grpc
import psycopg
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from server.usecases.watching import FAR_BEHIND
from tests.clients import DailyControl, Rest, eventually, http_client
from tests.watchers import Watcher, following

Code = grpc.StatusCode
ME = "watch-ada"
CLASS = [
    ("session", "scheduled"),
    ("session", "live"),
    ("sam", "inside"),
    ("recording", "processing"),
    ("sam", "left"),
    ("sam", "removed"),
    ("recording", "completed"),
    ("session", "ended"),
]
"""What the instructor is told of the class below, each thing once."""


@pytest.fixture(scope="module")
def ada(rest: Rest) -> str:
    return rest.token(ME)


@pytest.fixture
def room(rest: Rest) -> str:
    return str(rest.create(ME)["roomName"])


@pytest.fixture(scope="module")
def held(rest: Rest, stack: Stack, stub: LiveSessionsStub, ada: str) -> tuple[str, Watcher]:
    """A class from its creation to its end, and its instructor, who saw all of it."""
    room = str(rest.create(ME)["roomName"])
    watcher = Watcher(stub, room, ada).opened()
    with http_client(stack.daily_url or "") as client:
        hold(rest, DailyControl(client), room, watcher)
    return room, watcher


def hold(rest: Rest, daily: DailyControl, room: str, watcher: Watcher) -> None:
    def done(number: int) -> bool:
        return watcher.states[-1] == CLASS[number]

    token = rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"]
    stay = daily.join(room, token)
    eventually(lambda: done(2))
    rest.call("POST", f"/sessions/{room}/start-recording", ME)
    eventually(lambda: done(3))
    daily.leave(room, stay["session_id"])
    eventually(lambda: done(4))
    rest.call("POST", f"/sessions/{room}/participants/sam/remove", ME)
    eventually(lambda: done(5))
    rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    recordings = f"/sessions/{room}/recordings"
    eventually(lambda: "s3Key" in rest.call("GET", recordings, ME).json()[0])  # Daily's last word
    eventually(lambda: watcher.states[-1] in CLASS[-2:] and watcher.states.count(("recording", "completed")) > 1)


def request(room: str, after: int = 0) -> rpc.WatchLiveSessionRequest:
    return rpc.WatchLiveSessionRequest(session_name=room, after_revision=after)


# What who is told


def test_the_instructor_is_told_of_everything_once_and_in_order(held: tuple[str, Watcher]) -> None:
    _, watcher = held
    told = list(dict.fromkeys(watcher.states))  # the recording is told of again when Daily has its file
    assert told == CLASS
    assert watcher.revisions == list(range(1, len(watcher.states) + 1))
    assert all(event.at.ToDatetime() > watcher.told[0].session.created_at.ToDatetime() for event in watcher.told)


@pytest.mark.parametrize("who", [None, "sam", "another instructor"])
def test_everybody_else_is_told_of_the_session_alone(
    stub: LiveSessionsStub, rest: Rest, held: tuple[str, Watcher], who: str | None
) -> None:
    room, watcher = held
    token = who and rest.token(who, "student" if who == "sam" else "instructor")
    with following(stub, room, token, after=1) as other:
        eventually(lambda: ("session", "ended") in other.states)
        assert other.states == [("session", "live"), ("session", "ended")]
        assert set(other.revisions) < set(watcher.revisions)


def test_nobody_is_told_where_a_file_lies(held: tuple[str, Watcher]) -> None:
    _, watcher = held
    recordings = [event.recording for event in watcher.told if event.HasField("recording")]
    assert recordings
    assert not any(recording.HasField("s3_key") for recording in recordings)


# From where on


def forget(database: psycopg.Connection, room: str, which: str) -> None:
    delete = f"DELETE FROM session_events USING sessions WHERE id = session_id AND room_name = %s AND {which}"
    assert database.execute(delete, [room]).rowcount


def test_who_comes_back_is_told_exactly_what_came_after(
    stub: LiveSessionsStub, held: tuple[str, Watcher], ada: str
) -> None:
    room, watcher = held
    for after in watcher.revisions:
        with following(stub, room, ada, after) as again:
            eventually(lambda again=again: again.reached(watcher.last))
            assert again.told[: len(again.revisions)] == watcher.told[after:]


@pytest.mark.parametrize("unknown", ["later than the last one", "forgotten"])
def test_who_comes_back_with_a_revision_that_is_not_known_is_told_the_present_state(
    stub: LiveSessionsStub, rest: Rest, database: psycopg.Connection, daily: DailyControl, ada: str, unknown: str
) -> None:
    room = str(rest.recording(ME)["roomName"])
    for user in ("sam", "eve"):
        stay = daily.join(room, rest.call("POST", f"/sessions/{room}/token", user, "student").json()["token"])
    daily.leave(room, stay["session_id"])
    with following(stub, room, ada, after=1) as watcher:
        eventually(lambda: ("eve", "left") in watcher.states and ("sam", "inside") in watcher.states)
        last = watcher.last
    if unknown == "forgotten":
        forget(database, room, "session_events.revision = 2")
    with following(stub, room, ada, after=1 if unknown == "forgotten" else last + 7) as again:
        eventually(lambda: again.reached(last))
        assert again.states == [("session", "live"), ("recording", "processing"), ("sam", "inside")]
        assert again.revisions == [0, 0, last]


def test_a_session_that_nothing_was_ever_told_of_is_told_once_and_followed(
    stub: LiveSessionsStub, rest: Rest, database: psycopg.Connection, room: str
) -> None:
    """As those are that were there before events were written."""
    forget(database, room, "true")
    database.execute("UPDATE sessions SET revision = 0 WHERE room_name = %s", [room])
    with following(stub, room) as watcher:
        rest.call("PATCH", f"/sessions/{room}", ME, json={"maxParticipants": 7})
        eventually(lambda: len(watcher.told) > 1)
        assert [(event.revision, event.session.max_participants) for event in watcher.told] == [(0, 50), (1, 7)]


def test_long_absence_is_made_up_for_in_parts(
    stub: LiveSessionsStub, database: psycopg.Connection, room: str, ada: str
) -> None:
    for limit in range(1, 1202):
        database.execute("UPDATE sessions SET max_participants = %s WHERE room_name = %s", [limit, room])
    with following(stub, room, ada, after=1) as watcher:
        eventually(lambda: watcher.reached(1202))
        assert watcher.revisions == list(range(2, 1203))
        assert [event.session.max_participants for event in watcher.told] == list(range(1, 1202))


def test_more_changes_at_once_than_a_channel_keeps_are_all_told(
    stub: LiveSessionsStub, database: psycopg.Connection, room: str, ada: str
) -> None:
    with following(stub, room, ada) as watcher:
        with database.transaction():
            for limit in range(1, 1 + 2 * FAR_BEHIND):
                database.execute("UPDATE sessions SET max_participants = %s WHERE room_name = %s", [limit, room])
        eventually(lambda: watcher.reached(1 + 2 * FAR_BEHIND))
        assert watcher.revisions == list(range(1, 2 + 2 * FAR_BEHIND))


# How streams begin and end


def test_who_knows_everything_already_gets_a_heartbeat_at_once(stub: LiveSessionsStub, room: str) -> None:
    with following(stub, room, after=1) as watcher:
        assert [(event.revision, event.WhichOneof("event")) for event in watcher.told] == [(1, "heartbeat")]


def test_a_quiet_stream_has_a_heartbeat_within_fifteen_seconds(stub: LiveSessionsStub, room: str) -> None:
    """Slow because fifteen seconds are what it promises."""
    with following(stub, room) as watcher:
        eventually(lambda: len(watcher.told) > 1, 16)
        assert [(event.revision, event.WhichOneof("event")) for event in watcher.told] == [
            (1, "session"),
            (1, "heartbeat"),
        ]


def test_a_stream_ends_well_when_the_room_is_closed(stub: LiveSessionsStub, rest: Rest, room: str, ada: str) -> None:
    watchers = [Watcher(stub, room, token).opened() for token in (None, ada)]
    rest.call("DELETE", f"/sessions/{room}", ME)
    assert [watcher.code(30) for watcher in watchers] == [Code.OK, Code.OK]
    assert [watcher.states for watcher in watchers] == [[("session", "scheduled"), ("session", "ended")]] * 2

    late, knowing = Watcher(stub, room), Watcher(stub, room, after=watchers[0].last)
    assert (late.code(), late.states) == (Code.OK, [("session", "ended")])
    assert (knowing.code(), knowing.told) == (Code.OK, [])
    back = Watcher(stub, room, after=late.last)
    assert (back.code(), back.told) == (Code.OK, [])


@pytest.mark.parametrize("after", [-1, -(2**31)])
def test_a_revision_below_0_is_refused(stub: LiveSessionsStub, room: str, after: int) -> None:
    refused = Watcher(stub, room, after=after)
    assert (refused.code(), refused.error and refused.error.details()) == (
        Code.INVALID_ARGUMENT,
        "afterRevision must be at least 0",
    )


@pytest.mark.parametrize("name", ["", "a b", "x" * 129])
def test_a_name_that_cannot_be_is_refused(stub: LiveSessionsStub, name: str) -> None:
    refused = Watcher(stub, name)
    assert refused.code() == Code.INVALID_ARGUMENT


def test_an_error_before_the_first_event_is_all_that_comes(stub: LiveSessionsStub) -> None:
    """Only so it has its status in REST, and may be repeated elsewhere."""
    call = stub.WatchLiveSession(request("ls-no-such-session"))
    with pytest.raises(grpc.RpcError) as failed:
        next(call)
    assert (failed.value.code(), failed.value.details()) == (Code.NOT_FOUND, "Session not found")
    assert "content-type" not in dict(call.initial_metadata())
