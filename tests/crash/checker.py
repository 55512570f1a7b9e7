"""The rules that must hold when all is over. Each compares our rows with what Daily saw or callers were told."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.crash.facts import Facts


@dataclass(frozen=True)
class Violation:
    rule: str
    subject: str
    """The room's name, or whatever it is about."""
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


Rule = Callable[[Facts], Iterator[tuple[str, str]]]


def check(facts: Facts) -> list[Violation]:
    return [Violation(name, *found) for name, rule in RULES.items() for found in rule(facts)]


def _rooms_without_session(facts: Facts) -> Iterator[tuple[str, str]]:
    sessions = {row["room_name"]: row for row in facts.sessions}
    for room in _rooms(facts):
        row = sessions.get(room)
        if row is None or row["room_deleted_at"] is not None:
            yield room, "Daily has the room; " + ("no row does" if row is None else "its session was deleted")


def _open_sessions_without_room(facts: Facts) -> Iterator[tuple[str, str]]:
    rooms = _rooms(facts)
    for row in facts.sessions:
        if row["status"] != "ended" and row["room_created_at"] is not None and row["room_name"] not in rooms:
            yield row["room_name"], f"{row['status']}, and Daily has no such room"


def _unfinished_sessions(facts: Facts) -> Iterator[tuple[str, str]]:
    rooms = _rooms(facts)
    for row in facts.sessions:
        if row["room_created_at"] is None:
            yield row["room_name"], "the creation was neither finished nor taken back"
        elif row["delete_requested_at"] is not None and (row["status"] != "ended" or row["room_name"] in rooms):
            yield row["room_name"], "the deletion was not finished"


def _unknown_running(facts: Facts) -> Iterator[tuple[str, str]]:
    for one in running(facts):
        if not is_ours(facts, one):
            yield one["room_name"], f"{one['id']} runs at Daily and no row in processing has it"


def running(facts: Facts) -> list[dict[str, Any]]:
    """Daily's recordings that run, those apart whose file is being stored."""
    return [one for one in facts.state["recordings"] if (one["status"], one["end_ts"]) == ("in-progress", None)]


def is_ours(facts: Facts, one: dict[str, Any]) -> bool:
    return (one["id"], "processing") in {(row["recording_id"], row["status"]) for row in facts.recordings}


def _stuck(facts: Facts) -> Iterator[tuple[str, str]]:
    for row in facts.recordings:
        if row["status"] == "processing":
            yield row["room_name"], f"recording {row['id']} ({row['recording_id']}) is still processing"


def _overlaps(facts: Facts) -> Iterator[tuple[str, str]]:
    by_room = defaultdict(list)
    for one in facts.state["recordings"]:
        by_room[one["room_name"]].append(one)
    for room, recordings in by_room.items():
        recordings.sort(key=lambda one: one["start_ts"])
        until, before = 0.0, None
        for one in recordings:
            if one["start_ts"] < until:
                yield room, f"{one['id']} started while {before} ran"
            end = float("inf") if one["end_ts"] is None else one["end_ts"]
            if end > until:
                until, before = end, one["id"]


def _lost_creates(facts: Facts) -> Iterator[tuple[str, str]]:
    rows = {row["id"]: row for row in facts.sessions}
    for asked, answer in facts.journal.creates:
        row = rows.get(answer["_id"])
        if row is None:
            yield answer["roomName"], "the creation was acknowledged and there is no row"
            continue
        expected = {
            "room_name": answer["roomName"],
            "created_by": asked.instructor,
            "course_id": asked.body["courseId"],
            "starts_at": datetime.fromisoformat(asked.body["startsAt"]),
            "recording_enabled": asked.body["recordingEnabled"],
            "max_participants": asked.body.get("maxParticipants"),
        }
        for name, value in expected.items():
            if row[name] != value:
                yield answer["roomName"], f"{name} was acknowledged as {value} and is {row[name]}"


def _lost_deletes(facts: Facts) -> Iterator[tuple[str, str]]:
    sessions, rooms = {row["room_name"]: row["status"] for row in facts.sessions}, _rooms(facts)
    for room in facts.journal.deletes:
        if sessions.get(room) != "ended":
            yield room, f"the deletion was acknowledged and the session is {sessions.get(room)}"
        if room in rooms:
            yield room, "the deletion was acknowledged and Daily still has the room"


def _lost_starts(facts: Facts) -> Iterator[tuple[str, str]]:
    rows = {(row["room_name"], row["recording_id"]) for row in facts.recordings}
    for room, recording_id in facts.journal.starts:
        if (room, recording_id) not in rows:
            yield room, f"the start of {recording_id} was acknowledged and there is no row"


def _lost_stops(facts: Facts) -> Iterator[tuple[str, str]]:
    sessions = {row["room_name"]: row["status"] for row in facts.sessions}
    rows = {(row["room_name"], row["recording_id"]): row["status"] for row in facts.recordings}
    canceled = {one["id"] for one in facts.state["recordings"] if one["status"] == "canceled"}
    for room, recording_id in facts.journal.stops:
        expected = "failed" if recording_id in canceled else "completed"
        if rows.get((room, recording_id)) != expected:
            yield room, f"the stop of {recording_id} was acknowledged and it is {rows.get((room, recording_id))}"
        if sessions.get(room) != "ended":
            yield room, f"the stop was acknowledged and the session is {sessions.get(room)}"


def _lost_tokens(facts: Facts) -> Iterator[tuple[str, str]]:
    rows = {(row["room_name"], row["user_id"], row["role"]) for row in facts.participants}
    for room, user, role in facts.journal.tokens:
        if (room, user, role) not in rows:
            yield room, f"a token was issued to the {role} {user}, who is no participant"


def _keys(facts: Facts) -> Iterator[tuple[str, str]]:
    """One key, one session: as callers were told, and as the rows say."""
    told = defaultdict(set)
    for asked, answer in facts.journal.creates:
        if asked.key is not None:
            told[asked.key].add(answer["roomName"])
    for row in facts.sessions:
        if row["idempotency_key"] is not None and row["room_created_at"] is not None:
            told[row["idempotency_key"]].add(row["room_name"])
    for key, rooms in told.items():
        if len(rooms) > 1:
            yield key, f"stands for {len(rooms)} sessions: {', '.join(sorted(rooms))}"


def _attendance(facts: Facts) -> Iterator[tuple[str, str]]:
    seen: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for stay in facts.state["connections"]:
        seen[stay["room"], stay["user_id"]].append(stay)
    rows = {(row["room_name"], row["daily_user_id"]): row for row in facts.participants}
    for (room, user), stays in seen.items():
        row = rows.pop((room, user), None)
        if row is None:
            yield room, f"{user} was in the room and is no participant"
            continue
        left = [stay["left_at"] for stay in stays]
        expected = (min(stay["joined_at"] for stay in stays), None if None in left else max(left))
        known = _seconds(row["first_join"]), _seconds(row["last_leave"])
        if known != expected:
            yield room, f"{row['user_id']} was there from {expected[0]} to {expected[1]}; the rows say {known}"
    for (room, _), row in rows.items():
        if row["first_join"] is not None:
            yield room, f"{row['user_id']} was never in the room; the rows say from {_seconds(row['first_join'])}"


def _recordings(facts: Facts) -> Iterator[tuple[str, str]]:
    at_daily = {one["id"]: one for one in facts.state["recordings"]}
    for row in facts.recordings:
        one = at_daily.get(row["recording_id"])
        outcome = row["status"], row["s3_key"], row["duration"]
        if one is None:
            if row["status"] == "completed":
                yield row["room_name"], f"{row['recording_id']} is completed, and Daily has no such recording"
        elif one["status"] == "finished" and outcome != ("completed", one["s3key"], one["duration"]):
            yield (
                row["room_name"],
                f"Daily finished {one['id']}, {one['duration']} s, {one['s3key']}; our row: {outcome}",
            )
        elif one["status"] == "canceled" and row["status"] != "failed":
            yield row["room_name"], f"Daily canceled {one['id']}, which is {row['status']}"


def _surprises(facts: Facts) -> Iterator[tuple[str, str]]:
    yield from facts.journal.surprises


def _rooms(facts: Facts) -> set[str]:
    return {room["name"] for room in facts.state["rooms"]}


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else round(time.timestamp(), 3)


RULES: dict[str, Rule] = {
    "room without session": _rooms_without_session,
    "open session without room": _open_sessions_without_room,
    "unfinished session": _unfinished_sessions,
    "unknown recording running": _unknown_running,
    "stuck in processing": _stuck,
    "recordings overlap": _overlaps,
    "lost create": _lost_creates,
    "lost delete": _lost_deletes,
    "lost start": _lost_starts,
    "lost stop": _lost_stops,
    "lost token": _lost_tokens,
    "key with several sessions": _keys,
    "attendance": _attendance,
    "recording differs": _recordings,
    "unexpected answer": _surprises,
}
