"""That the crash test's checker can fail: each of its rules, on falsified facts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from live_sessions.v1 import resources_pb2 as pb
from tests.crash import checker, undone
from tests.crash.facts import Facts
from tests.crash.journal import Journal, Stream, Watched
from tests.crash.plan import PlannedSession
from tests.crash.workload import NOBODY

ROOM, OTHER = "ls-room", "another application's"
JOINED, LEFT, CLOSED = 1_900_000_000.123, 1_900_000_060.456, 1_900_000_070
NOW = datetime.fromtimestamp(CLOSED + 600, UTC)
STARTS_AT = "2030-01-01T10:00:00.000Z"
ASKED = PlannedSession(0, "ada", {"courseId": "c", "startsAt": STARTS_AT, "recordingEnabled": True}, "key")
BUTTON = "c3df927c-f738-4471-a2b7-066fa7e95a6b"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def session(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "room_name": ROOM,
        "course_id": "c",
        "status": "ended",
        "starts_at": datetime.fromisoformat(STARTS_AT),
        "ends_at": at(LEFT),
        "created_by": "ada",
        "recording_enabled": True,
        "max_participants": None,
        "idempotency_key": "key",
        "created_at": at(JOINED - 60),
        "room_created_at": at(JOINED - 59),
        "end_requested_at": at(LEFT),
        "closes_at": at(CLOSED),
        "room_deleted_at": at(CLOSED),
        "live_at": at(JOINED),
        "due_at": None,
    } | changes


def scheduled(**changes: Any) -> dict[str, Any]:
    times = dict.fromkeys(("ends_at", "end_requested_at", "closes_at", "room_deleted_at", "live_at"))
    return session() | {"id": "2", "room_name": "b", "status": "scheduled", "idempotency_key": None} | times | changes


def stay(**changes: Any) -> dict[str, Any]:
    return {"room": ROOM, "session_id": "s", "user_id": "sam", "joined_at": JOINED, "left_at": LEFT} | changes


def at_daily(id: str = "rec", **changes: Any) -> dict[str, Any]:
    recording = {"id": id, "room_name": ROOM, "status": "finished", "start_ts": JOINED, "end_ts": LEFT}
    return recording | {"duration": 60, "s3key": "s3", "instance_id": "r"} | changes


def untold(facts: Facts, **times: Any) -> None:
    """No event told of the stay; the row has what was read from Daily's records."""
    facts.events.clear()
    polled = {"polled_joined_at": at(int(JOINED)), "polled_left_at": at(int(LEFT))}
    facts.connections[0].update({"joined_at": None, "left_at": None} | polled | times)


def seen(status: pb.LiveSession.Status.ValueType = pb.LiveSession.ended) -> pb.LiveSession:
    return pb.LiveSession(id="1", status=status)


def sam(left: bool = True, **changes: Any) -> pb.SessionParticipant:
    left_at = Timestamp(seconds=2) if left else None
    return pb.SessionParticipant(id="p", joined_at=Timestamp(seconds=1), left_at=left_at, **changes)


def recorded(id: str = "r", seconds: int = 1) -> pb.Recording:
    return pb.Recording(id=id, recording_id="rec", created_at=Timestamp(seconds=seconds))


def tell(revision: int, noun: Any) -> pb.LiveSessionEvent:
    kinds = {pb.LiveSession: "session", pb.SessionParticipant: "participant", pb.Recording: "recording"}
    return pb.LiveSessionEvent(revision=revision, **{kinds[type(noun)]: noun})


def change(revision: int, type: str, id: str, **state: Any) -> dict[str, Any]:
    return {"revision": revision, "type": type, "state": {"id": id} | state}


CHANGES = (
    change(1, "session.live", "1"),
    change(2, "recording.started", "r", recording_id="rec", created_at=1),
    change(3, "participant.joined", "p", joined_at=1, left_at=None),
    change(4, "participant.left", "p", joined_at=1, left_at=2),
    change(5, "session.ended", "1"),
    change(6, "session.closed", "1"),
)
HEARTBEAT = pb.LiveSessionEvent(revision=5, heartbeat=pb.LiveSessionEvent.Heartbeat())


def followers() -> list[Watched]:
    """The instructor, who began when Sam was inside, was told half of it first, came back once and was told the end;
    and somebody who was told of the session alone."""
    half = [tell(0, seen(pb.LiveSession.live))]
    state = [*half, tell(0, recorded()), tell(3, sam(left=False))]
    mine = [Stream(0, half), Stream(0, [*state, tell(4, sam())]), Stream(4, [tell(5, seen()), HEARTBEAT], ended=True)]
    theirs = Stream(0, [tell(1, seen(pb.LiveSession.live)), tell(5, seen())], ended=True)
    return [Watched(ROOM, "ada", mine), Watched(ROOM, None, [theirs])]


def retell(facts: Facts, *events: pb.LiveSessionEvent, after: int = 0) -> None:
    """The instructor was told this alone, or after a revision this besides."""
    [me, *_] = facts.journal.watched
    me.streams = [*(me.streams if after else ()), Stream(after, list(events), ended=True)]


@pytest.fixture
def facts() -> Facts:
    """All is well: a session, stopped and closed, one stay, one finished recording, and everything was acknowledged and
    told; another application has a room, a call and a recording."""
    recording = {"id": "r", "room_name": ROOM, "instance_id": "r", "recording_id": "rec", "status": "completed"}
    connection = {"id": "s", "room_name": ROOM, "daily_user_id": "sam", "joined_at": at(JOINED), "left_at": at(LEFT)}
    types = ("participant.joined", "participant.left")
    settled = {"duration": 60, "s3_key": "s3", "failure_reason": None, "settled_at": at(CLOSED), "due_at": None}
    webhook = {"uuid": "ours", "url": "http://ours", "state": "ACTIVE", "eventTypes": ["a type"] * undone.EVENT_TYPES}
    theirs = {"uuid": "theirs", "url": NOBODY, "state": "FAILED", "updatedAt": 1, "createdAt": 1}
    return Facts(
        now=NOW,
        sessions=[session()],
        recordings=[recording | settled],
        participants=[
            {"room_name": ROOM, "user_id": "sam", "daily_user_id": "sam", "role": "student"}
            | {"was_kicked": False, "mic_allowed": True, "camera_allowed": True}
        ],
        connections=[connection | {"polled_joined_at": None, "polled_left_at": None}],
        meetings=[{"id": "m", "room_name": ROOM, "compared_at": at(CLOSED), "due_at": None}],
        events=[event(type) for type in types],
        chores=[{"id": "webhook", "due_at": NOW}],
        state={
            "rooms": [{"name": OTHER}],
            "recordings": [at_daily(), at_daily("theirs", room_name=OTHER, end_ts=None, status="in-progress")],
            "connections": [stay(), stay(room=OTHER, session_id="theirs", left_at=None)],
            "meetings": [{"id": "m", "room": ROOM}, {"id": "theirs", "room": OTHER}],
            "webhooks": [webhook | {"updatedAt": 2, "createdAt": 1}, theirs],
            "settings": {"min_stay": 10},
            "calls": {"GET /": 101},
            "refused": {"default": 1},
        },
        journal=Journal(
            creates=[(ASKED, {"_id": "1", "roomName": ROOM})],
            starts=[(ROOM, "rec")],
            stops=[(ROOM, "rec")],
            tokens=[(ROOM, "sam", "student")],
            others=[{"room": OTHER, "session_ids": ["theirs"], "recording": "theirs", "webhook": "theirs"}],
            watched=followers(),
        ),
        changes={ROOM: list(CHANGES)},
        shown={ROOM: [seen(), sam(), recorded()]},
    )


def event(type: str, **changes: Any) -> dict[str, Any]:
    row = {"id": type, "type": type, "room_name": ROOM, "due_at": None, "error": None}
    return row | {"session_id": "s", "recording_id": None} | changes


def test_the_checker_finds_nothing_where_rows_daily_and_answers_agree(facts: Facts) -> None:
    assert checker.check(facts) == []


def test_a_stay_of_which_no_event_told_is_known_to_the_second_of_dailys_records(facts: Facts) -> None:
    untold(facts)
    assert checker.check(facts) == []


def test_nobody_knows_when_a_short_stay_ended_of_whose_end_no_event_told(facts: Facts) -> None:
    facts.state["connections"][0].update(left_at=JOINED + 5)
    del facts.events[1]
    assert checker.check(facts) == []


def test_nobody_need_know_of_a_start_that_failed_before_they_began_to_follow(facts: Facts) -> None:
    facts.shown[ROOM].insert(2, pb.Recording(id="q", status=pb.Recording.failed))
    assert checker.check(facts) == []


FALSIFIED: list[tuple[str, str, Callable[[Facts], object]]] = [
    ("room without session", "no row", lambda f: f.state["rooms"].append({"name": "other"})),
    ("room without session", "removed", lambda f: f.state["rooms"].append({"name": ROOM})),
    ("open session without room", "scheduled", lambda f: f.sessions.append(scheduled())),
    ("unfinished create", "taken back", lambda f: f.sessions.append(scheduled(room_created_at=None))),
    (
        "unfinished start",
        "the start of r",
        lambda f: f.recordings[0].update(recording_id=None, status="processing"),
    ),
    ("unfinished end", "it is live", lambda f: f.sessions[0].update(status="live")),
    ("unfinished closing", "should have closed", lambda f: f.sessions[0].update(room_deleted_at=None)),
    ("unfinished closing", "closes at None", lambda f: f.sessions[0].update(closes_at=None)),
    ("unfinished closing", "is due at", lambda f: f.sessions[0].update(due_at=NOW)),
    ("unfinished recording", "rec is processing", lambda f: f.recordings[0].update(status="processing")),
    ("unfinished recording", "settled at None", lambda f: f.recordings[0].update(settled_at=None)),
    ("meeting not compared", "compared_at", lambda f: f.meetings[0].update(compared_at=None)),
    ("meeting not compared", "None", lambda f: f.meetings.clear()),
    ("event not applied", "odd", lambda f: f.events[0].update(due_at=NOW, error="odd")),
    ("overdue", "the chore", lambda f: f.chores[0].update(due_at=NOW - timedelta(seconds=16))),
    ("open for ever", "still live", lambda f: f.sessions.append(scheduled(status="live"))),
    (
        "open for ever",
        "nobody came",
        lambda f: f.sessions.append(scheduled(starts_at=at(JOINED))),
    ),
    ("recorded after closing", "still runs", lambda f: f.state["recordings"][0].update(end_ts=None)),
    (
        "recorded after closing",
        "ran until",
        lambda f: f.state["recordings"][0].update(end_ts=CLOSED + 121),
    ),
    ("inside after closing", "left at None", lambda f: f.state["connections"][0].update(left_at=None)),
    ("inside after closing", "left at 19", lambda f: f.state["connections"][0].update(left_at=CLOSED + 0.1)),
    (
        "recording in no row",
        "instance " + BUTTON,
        lambda f: f.state["recordings"].append(at_daily("button", instance_id=BUTTON)),
    ),
    (
        "recordings overlap",
        "stray started while rec ran",
        lambda f: f.state["recordings"].append(at_daily("stray", start_ts=LEFT - 0.001)),
    ),
    (
        "recordings overlap",
        "rec started while first ran",
        lambda f: f.state["recordings"].append(at_daily("first", start_ts=JOINED - 1, end_ts=None, status="canceled")),
    ),
    ("recording differs", "Daily finished rec", lambda f: f.recordings[0].update(s3_key=None)),
    ("recording differs", "Daily finished rec", lambda f: f.recordings[0].update(duration=53)),
    ("recording differs", "Daily canceled rec", lambda f: f.state["recordings"][0].update(status="canceled")),
    ("recording differs", "no such recording", lambda f: f.state["recordings"].clear()),
    ("attendance", "was there from 1900000000.123", lambda f: f.connections[0].update(joined_at=at(JOINED + 0.001))),
    ("attendance", "to 1900000060.456", lambda f: f.connections[0].update(left_at=at(LEFT + 0.001))),
    ("attendance", "None)", lambda f: f.connections[0].update(left_at=None)),
    ("attendance", "which no row says", lambda f: f.connections.clear()),
    ("attendance", "to 1900000060;", lambda f: untold(f, polled_left_at=at(CLOSED))),
    ("attendance", "from 1900000000 ", lambda f: untold(f, polled_joined_at=at(JOINED))),
    ("attendance", "is no participant", lambda f: f.participants.clear()),
    ("attendance", "never in the room", lambda f: f.connections.append(f.connections[0] | {"id": "nobody's"})),
    ("webhook", "FAILED", lambda f: f.state["webhooks"][0].update(state="FAILED")),
    ("webhook", "[]", lambda f: f.state["webhooks"].pop(0)),
    ("others touched", "room is gone", lambda f: f.state["rooms"].clear()),
    ("others touched", "taken for ours", lambda f: f.sessions.append(session(id="2", room_name=OTHER))),
    ("others touched", "was stopped", lambda f: f.state["recordings"][1].update(end_ts=LEFT)),
    ("others touched", "broken up", lambda f: f.state["connections"][1].update(left_at=LEFT)),
    ("others touched", "webhook was changed", lambda f: f.state["webhooks"][1].update(updatedAt=2)),
    ("refused by limits", "refused 2 of 101", lambda f: f.state["refused"].update(default=2)),
    ("lost create", "there is no row", lambda f: f.sessions[0].update(id="2")),
    ("lost create", "course_id was acknowledged as c", lambda f: f.sessions[0].update(course_id="d")),
    ("lost create", "max_participants", lambda f: f.sessions[0].update(max_participants=5)),
    ("lost create", "starts_at", lambda f: f.sessions[0].update(starts_at=NOW)),
    ("lost delete", "session is None", lambda f: f.journal.deletes.append("b")),
    ("lost delete", "Daily still has the room", lambda f: f.journal.deletes.append(OTHER)),
    ("lost start", "there is no row", lambda f: f.journal.starts.append((ROOM, "other"))),
    ("lost stop", "it is failed", lambda f: f.recordings[0].update(status="failed")),
    ("lost stop", "session is live", lambda f: f.sessions[0].update(status="live")),
    ("lost token", "no participant", lambda f: f.journal.tokens.append((ROOM, "eve", "student"))),
    ("lost removal", "they are not removed", lambda f: f.journal.removals.append((ROOM, "sam"))),
    ("key with several sessions", "2 sessions", lambda f: f.sessions.append(session(id="2", room_name="b"))),
    ("told nothing", "ada was told nothing", retell),
    ("told twice", "told 5 after 5", lambda f: retell(f, tell(5, seen()), after=4)),
    ("told twice", "told 4 after 5", lambda f: retell(f, tell(4, sam()), after=3)),
    ("change missed", "anybody was told [1], and not [5]", lambda f: f.journal.watched[1].streams[0].told.pop()),
    ("change missed", "ada was told [1], and not [2, 3, 4, 5]", lambda f: retell(f, tell(1, seen()))),
    ("change missed", "and not [7]", lambda f: f.changes[ROOM].append(change(7, "recording.completed", "r"))),
    ("state not whole", "at 3 it was ['1', 'p', 'r']", lambda f: retell(f, tell(0, seen()), tell(3, recorded()))),
    ("state not whole", "at 5 it was ['1', 'r']", lambda f: retell(f, tell(5, seen()))),
    ("told otherwise", "mic_allowed: true", lambda f: f.shown[ROOM].__setitem__(1, sam(mic_allowed=True))),
    ("told otherwise", 'not told id: "q"', lambda f: f.shown[ROOM].insert(2, recorded("q", seconds=2))),
    ("told otherwise", "it is", lambda f: f.shown[ROOM].pop()),
    (
        "told what is not theirs",
        "anybody was told of 1",
        lambda f: f.journal.watched[1].streams[0].told.append(tell(6, sam())),
    ),
    ("stream not ended", "anybody waits", lambda f: setattr(f.journal.watched[1].streams[0], "ended", False)),
    ("stream not ended", "has not closed", lambda f: f.sessions[0].update(room_deleted_at=None)),
    ("unexpected answer", "was refused: 404", lambda f: f.journal.watched[1].refusals.append("404")),
    ("unexpected answer", "Session not found", lambda f: f.journal.surprises.append(("start", "Session not found"))),
]


@pytest.mark.parametrize(
    ("rule", "detail", "falsify"), FALSIFIED, ids=[f"{rule}-{detail}" for rule, detail, _ in FALSIFIED]
)
def test_the_checker_reports_each_rule_that_the_facts_break(
    facts: Facts, rule: str, detail: str, falsify: Callable[[Facts], object]
) -> None:
    falsify(facts)
    assert [found for found in checker.check(facts) if found.rule == rule and detail in found.detail] != []


def class_goes_on(facts: Facts, **changes: Any) -> None:
    """Sam is inside, and may send all."""
    facts.sessions[0].update(status="live", end_requested_at=None)
    facts.state["connections"][0].update(left_at=None, permissions={"canSend": True})
    facts.state["rooms"].append({"name": ROOM, "config": {}})
    facts.participants[0].update(changes)


def test_a_class_that_goes_on_as_its_instructor_wants_it_breaks_no_rule(facts: Facts) -> None:
    class_goes_on(facts)
    assert checker.check(facts, checker.WHILE_OPEN) == []


DISOBEYED: list[tuple[str, Callable[[Facts], object]]] = [
    ("removed and inside", lambda f: class_goes_on(f, was_kicked=True)),
    ("permission differs", lambda f: class_goes_on(f, mic_allowed=False)),
    ("limit differs", lambda f: (class_goes_on(f), f.sessions[0].update(max_participants=50))),
    ("told otherwise", lambda f: (class_goes_on(f), f.shown[ROOM].__setitem__(1, sam(left=False)))),
]


@pytest.mark.parametrize(("rule", "falsify"), DISOBEYED, ids=[rule for rule, _ in DISOBEYED])
def test_the_checker_reports_what_a_class_that_goes_on_does_not_obey(
    facts: Facts, rule: str, falsify: Callable[[Facts], object]
) -> None:
    falsify(facts)
    assert [found.rule for found in checker.check(facts, checker.WHILE_OPEN)] == [rule]


def test_every_rule_of_the_checker_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in FALSIFIED} == checker.RULES.keys()
    assert {rule for rule, _ in DISOBEYED} == checker.WHILE_OPEN.keys()
