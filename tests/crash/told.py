"""Rules: what callers were told is true for ever after."""

from collections import defaultdict
from datetime import datetime

from tests.crash.facts import Facts, Found, Rule


def _lost_creates(facts: Facts) -> Found:
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
        sizes = facts.journal.sizes.get(answer["roomName"], set())
        for name, value in expected.items():
            if row[name] != value and not (name == "max_participants" and row[name] in sizes):
                yield answer["roomName"], f"{name} was acknowledged as {value} and is {row[name]}"


def _lost_deletes(facts: Facts) -> Found:
    sessions, rooms = {row["room_name"]: row["status"] for row in facts.sessions}, facts.rooms
    for room in facts.journal.deletes:
        if sessions.get(room) != "ended":
            yield room, f"the deletion was acknowledged and the session is {sessions.get(room)}"
        if room in rooms:
            yield room, "the deletion was acknowledged and Daily still has the room"


def _lost_starts(facts: Facts) -> Found:
    rows = {(row["room_name"], row["recording_id"]) for row in facts.recordings}
    for room, recording_id in facts.journal.starts:
        if (room, recording_id) not in rows:
            yield room, f"the start of {recording_id} was acknowledged and there is no row"


def _lost_stops(facts: Facts) -> Found:
    sessions = {row["room_name"]: row["status"] for row in facts.sessions}
    rows = {(row["room_name"], row["recording_id"]): row["status"] for row in facts.recordings}
    canceled = {one["id"] for one in facts.state["recordings"] if one["status"] == "canceled"}
    for room, recording_id in facts.journal.stops:
        expected = "failed" if recording_id in canceled else "completed"
        if rows.get((room, recording_id)) != expected:
            yield room, f"the stop of {recording_id} was acknowledged and it is {rows.get((room, recording_id))}"
        if sessions.get(room) != "ended":
            yield room, f"the stop was acknowledged and the session is {sessions.get(room)}"


def _lost_tokens(facts: Facts) -> Found:
    rows = {(row["room_name"], row["user_id"], row["role"]) for row in facts.participants}
    for room, user, role in facts.journal.tokens:
        if (room, user, role) not in rows:
            yield room, f"a token was issued to the {role} {user}, who is no participant"


def _lost_removals(facts: Facts) -> Found:
    rows = {(row["room_name"], row["user_id"]): row["was_kicked"] for row in facts.participants}
    for room, user in facts.journal.removals:
        if not rows.get((room, user)) and (room, user) not in facts.journal.readmissions:
            yield room, f"the removal of {user} was acknowledged, and they are not removed"


def _keys(facts: Facts) -> Found:
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


def _surprises(facts: Facts) -> Found:
    yield from facts.journal.surprises
    for one in facts.journal.watched:
        yield from ((one.room, f"who follows it was refused: {refusal}") for refusal in one.refusals)


RULES: dict[str, Rule] = {
    "lost create": _lost_creates,
    "lost delete": _lost_deletes,
    "lost start": _lost_starts,
    "lost stop": _lost_stops,
    "lost token": _lost_tokens,
    "lost removal": _lost_removals,
    "key with several sessions": _keys,
    "unexpected answer": _surprises,
}
