"""The crash test in short, and that its checker can fail: on falsified facts, and on a server that repairs less."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.crash import checker, plan
from tests.crash.facts import Facts
from tests.crash.journal import Journal
from tests.crash.plan import PlannedSession
from tests.crash.run import run

ROOM = "ls-room"
JOINED, LEFT = 1_900_000_000.123, 1_900_000_060.456
STARTS_AT = "2030-01-01T10:00:00.000Z"
ASKED = PlannedSession(0, "ada", {"courseId": "c", "startsAt": STARTS_AT, "recordingEnabled": True}, "key")


def session(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "room_name": ROOM,
        "course_id": "c",
        "status": "ended",
        "starts_at": datetime.fromisoformat(STARTS_AT),
        "created_by": "ada",
        "recording_enabled": True,
        "max_participants": None,
        "idempotency_key": "key",
        "room_created_at": datetime.now(UTC),
        "delete_requested_at": None,
        "room_deleted_at": None,
    } | changes


def stay(joined_at: float = JOINED, left_at: float = LEFT) -> dict[str, Any]:
    return {"room": ROOM, "user_id": "sam", "joined_at": joined_at, "left_at": left_at}


def at_daily(id: str = "rec", **changes: Any) -> dict[str, Any]:
    recording = {"id": id, "room_name": ROOM, "status": "finished", "start_ts": JOINED, "end_ts": LEFT}
    return recording | {"duration": 60, "s3key": "s3"} | changes


@pytest.fixture
def facts() -> Facts:
    """All is well: a session, stopped, one stay, one finished recording, and everything was acknowledged."""
    recording = {"id": "r", "room_name": ROOM, "recording_id": "rec", "status": "completed"}
    times = {"first_join": datetime.fromtimestamp(JOINED, UTC), "last_leave": datetime.fromtimestamp(LEFT, UTC)}
    return Facts(
        sessions=[session()],
        recordings=[recording | {"duration": 60, "s3_key": "s3", "failure_reason": None}],
        participants=[{"room_name": ROOM, "user_id": "sam", "daily_user_id": "sam", "role": "student"} | times],
        state={"rooms": [{"name": ROOM}], "recordings": [at_daily()], "connections": [stay()]},
        journal=Journal(
            creates=[(ASKED, {"_id": "1", "roomName": ROOM})],
            starts=[(ROOM, "rec")],
            stops=[(ROOM, "rec")],
            tokens=[(ROOM, "sam", "student")],
        ),
    )


def test_the_checker_finds_nothing_where_rows_daily_and_answers_agree(facts: Facts) -> None:
    assert checker.check(facts) == []


FALSIFIED: list[tuple[str, str, Callable[[Facts], object]]] = [
    ("room without session", "no row", lambda f: f.state["rooms"].append({"name": "other"})),
    ("room without session", "deleted", lambda f: f.sessions[0].update(room_deleted_at=datetime.now(UTC))),
    (
        "open session without room",
        "scheduled",
        lambda f: f.sessions.append(session(id="2", room_name="b", status="scheduled", idempotency_key=None)),
    ),
    (
        "unfinished session",
        "neither finished nor taken back",
        lambda f: f.sessions.append(session(id="2", room_name="b", room_created_at=None)),
    ),
    ("unfinished session", "deletion", lambda f: f.sessions[0].update(delete_requested_at=datetime.now(UTC))),
    (
        "unknown recording running",
        "stray runs at Daily",
        lambda f: f.state["recordings"].append(at_daily("stray", status="in-progress", start_ts=LEFT, end_ts=None)),
    ),
    (
        "stuck in processing",
        "still processing",
        lambda f: f.recordings[0].update(recording_id=None, status="processing"),
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
    ("lost create", "there is no row", lambda f: f.sessions[0].update(id="2")),
    ("lost create", "course_id was acknowledged as c", lambda f: f.sessions[0].update(course_id="d")),
    ("lost create", "max_participants", lambda f: f.sessions[0].update(max_participants=5)),
    ("lost create", "starts_at", lambda f: f.sessions[0].update(starts_at=datetime.now(UTC))),
    ("lost delete", "Daily still has the room", lambda f: f.journal.deletes.append(ROOM)),
    ("lost delete", "session is None", lambda f: f.journal.deletes.append("b")),
    ("lost start", "there is no row", lambda f: f.journal.starts.append((ROOM, "other"))),
    ("lost stop", "it is failed", lambda f: f.recordings[0].update(status="failed")),
    ("lost stop", "session is live", lambda f: f.sessions[0].update(status="live")),
    ("lost token", "no participant", lambda f: f.journal.tokens.append((ROOM, "eve", "student"))),
    (
        "key with several sessions",
        "2 sessions",
        lambda f: f.sessions.append(session(id="2", room_name="b")),
    ),
    ("attendance", "1900000000.123", lambda f: f.participants[0].update(first_join=datetime.fromtimestamp(1, UTC))),
    ("attendance", "the rows say", lambda f: f.participants[0].update(last_leave=None)),
    ("attendance", "1899999999.0", lambda f: f.state["connections"].append(stay(1_899_999_999.0, LEFT))),
    ("attendance", "1900000060.457", lambda f: f.state["connections"].append(stay(LEFT, LEFT + 0.001))),
    ("attendance", "is no participant", lambda f: f.state["connections"].append(stay() | {"user_id": "eve"})),
    ("attendance", "never in the room", lambda f: f.state["connections"].clear()),
    ("recording differs", "Daily finished rec", lambda f: f.recordings[0].update(s3_key=None)),
    ("recording differs", "Daily finished rec", lambda f: f.recordings[0].update(duration=59)),
    ("recording differs", "Daily canceled rec", lambda f: f.state["recordings"][0].update(status="canceled")),
    ("recording differs", "no such recording", lambda f: f.state["recordings"].clear()),
    ("unexpected answer", "Session not found", lambda f: f.journal.surprises.append(("start", "Session not found"))),
]


@pytest.mark.parametrize(("rule", "detail", "falsify"), FALSIFIED, ids=[f"{rule}-{why}" for rule, why, _ in FALSIFIED])
def test_the_checker_reports_each_rule_that_the_facts_break(
    facts: Facts, rule: str, detail: str, falsify: Callable[[Facts], object]
) -> None:
    falsify(facts)
    assert [found for found in checker.check(facts) if found.rule == rule and detail in found.detail] != []


def test_every_rule_of_the_checker_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in FALSIFIED} == checker.RULES.keys()


def test_a_seed_chooses_the_same_operations_faults_and_kills_every_time() -> None:
    first, again = (plan.make(7, operations=300, kills=20, postgres_kills=2, servers=2) for _ in range(2))
    assert first == again != plan.make(8, operations=300, kills=20, postgres_kills=2, servers=2)
    assert sum(len(kill.victims) for kill in first.kills) == 20
    assert {operation.kind for operation in first.operations} == plan.WEIGHTS.keys()
    assert {operation.fault["fault"] for operation in first.operations if operation.fault} == set(plan.FAULTS)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below `tmp_path`, which another test run of root's closes to PostgreSQL's own account."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def test_nothing_acknowledged_is_lost_and_nothing_stays_wrong_while_server_and_database_are_killed(
    data_dir: Path,
) -> None:
    report = run(plan.make(10, operations=60, kills=4, postgres_kills=1, servers=1), data_dir)
    assert report.violations == []
    assert report.errors == []
    assert report.killed == {"server": 3, "PostgreSQL": 1}
    assert sum(count for (_, outcome), count in report.outcomes.items() if outcome == "acknowledged") >= 20


def test_a_reconciler_without_its_attendance_part_is_found_out(data_dir: Path) -> None:
    chosen = plan.make(20, operations=40, kills=0, postgres_kills=0, servers=1)
    drop_all = {"fault": "webhook_drop", "times": 1000}
    faults = [drop_all] + [None] * 39
    chosen.operations[:] = [replace(one, fault=fault) for one, fault in zip(chosen.operations, faults, strict=True)]
    report = run(chosen, data_dir, without="attendance", bound=6)
    assert {violation.rule for violation in report.violations} == {"attendance"}
