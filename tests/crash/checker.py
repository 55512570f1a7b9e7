"""The rules that must hold when all is over. Each compares our rows with what Daily saw or callers were told."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.crash.facts import Facts
from tests.crash.plan import LIFETIMES
from tests.crash.workload import NOBODY

OVERDUE = timedelta(seconds=15)
"""By which nothing that is due may wait for somebody to take it."""
LATEST = timedelta(seconds=120)
"""After its closing time what records in a room has been stopped, whatever failed."""
TOLERANCE = 6
"""Seconds by which a recording's duration may differ from Daily's: its instructor was told it when they stopped it."""
EVENT_TYPES = 7
"""That our webhook must follow."""
DEFAULT_INSTANCE = "c3df927c-f738-4471-a2b7-066fa7e95a6b"
"""Under which Daily's own button records."""
REFUSED = 0.01
"""Of the requests to Daily, the share that its limits may refuse."""


@dataclass(frozen=True)
class Violation:
    rule: str
    subject: str
    """The room's name, or whatever it is about."""
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


Found = Iterator[tuple[str, str]]
Rule = Callable[[Facts], Found]


def check(facts: Facts) -> list[Violation]:
    return [Violation(name, *found) for name, rule in RULES.items() for found in rule(facts)]


def _rooms_without_session(facts: Facts) -> Found:
    sessions, others = _sessions(facts), {one["room"] for one in facts.journal.others}
    for room in _rooms(facts) - others:
        if room not in sessions:
            yield room, "Daily has the room; no row does"
        elif sessions[room]["room_deleted_at"] is not None:
            yield room, "Daily has the room; its session's was removed"


def _open_sessions_without_room(facts: Facts) -> Found:
    rooms = _rooms(facts)
    for row in facts.sessions:
        if row["status"] != "ended" and row["room_created_at"] is not None and row["room_name"] not in rooms:
            yield row["room_name"], f"{row['status']}, and Daily has no such room"


def _unfinished_creates(facts: Facts) -> Found:
    for row in facts.sessions:
        if row["room_created_at"] is None:
            yield row["room_name"], "the creation was neither finished nor taken back"


def _unfinished_starts(facts: Facts) -> Found:
    for row in facts.recordings:
        if row["status"] == "processing" and row["recording_id"] is None:
            yield row["room_name"], f"it is not known what came of the start of {row['id']}"


def _unfinished_ends(facts: Facts) -> Found:
    for row in facts.sessions:
        if row["end_requested_at"] is not None and row["status"] != "ended":
            yield row["room_name"], f"its end was asked for at {row['end_requested_at']}; it is {row['status']}"


def _unfinished_closings(facts: Facts) -> Found:
    for row in facts.sessions:
        if row["status"] == "ended" and (row["closes_at"] is None or row["due_at"] is not None):
            yield row["room_name"], f"ended, closes at {row['closes_at']} and is due at {row['due_at']}"
        elif row["closes_at"] is not None and row["closes_at"] < facts.now and row["room_deleted_at"] is None:
            yield row["room_name"], f"should have closed at {row['closes_at']}"


def _unfinished_recordings(facts: Facts) -> Found:
    for row in facts.recordings:
        named = row["recording_id"] is not None
        if named and (row["status"] == "processing" or row["settled_at"] is None or row["due_at"] is not None):
            yield row["room_name"], f"{row['recording_id']} is {row['status']}, settled at {row['settled_at']}"


def _uncompared_meetings(facts: Facts) -> Found:
    sessions, rows = _sessions(facts), {row["id"]: row for row in facts.meetings}
    for meeting in facts.state["meetings"]:
        row = rows.get(meeting["id"])
        if meeting["room"] in sessions and (row is None or row["compared_at"] is None or row["due_at"] is not None):
            yield meeting["room"], f"the meeting {meeting['id']} was not compared: {row}"


def _unapplied_events(facts: Facts) -> Found:
    """Those about another application's recording, which Daily shows oddly, apart."""
    others = {other["recording"] for other in facts.journal.others}
    for row in facts.events:
        if row["due_at"] is not None and row["recording_id"] not in others:
            yield str(row["room_name"]), f"{row['id']} was not applied: {row['error']}"


def _overdue(facts: Facts) -> Found:
    nouns = {"session": facts.sessions, "recording": facts.recordings, "meeting": facts.meetings}
    nouns |= {"event": facts.events, "chore": facts.chores}
    for noun, rows in nouns.items():
        for row in rows:
            if row["due_at"] is not None and row["due_at"] < facts.now - OVERDUE:
                yield row.get("room_name") or row["id"], f"the {noun} is due since {row['due_at']}, and nobody takes it"


def _open_for_ever(facts: Facts) -> Found:
    """Everybody has left long ago."""
    for row in facts.sessions:
        no_show_at = max(row["starts_at"], row["created_at"]) + timedelta(seconds=LIFETIMES["NO_SHOW_TIMEOUT"])
        if row["status"] == "live":
            yield row["room_name"], f"still live, since {row['live_at']}"
        elif row["status"] == "scheduled" and row["room_created_at"] is not None and no_show_at < facts.now - OVERDUE:
            yield row["room_name"], f"nobody came until {no_show_at}, and it is still scheduled"


def _recorded_after_closing(facts: Facts) -> Found:
    sessions = _sessions(facts)
    for one in facts.state["recordings"]:
        row = sessions.get(one["room_name"])
        if row is None or row["closes_at"] is None or row["closes_at"] > facts.now:
            continue
        if one["end_ts"] is None:
            yield one["room_name"], f"{one['id']} still runs; its session closed at {row['closes_at']}"
        elif one["end_ts"] > (row["closes_at"] + LATEST).timestamp():
            yield one["room_name"], f"{one['id']} ran until {one['end_ts']}; its session closed at {row['closes_at']}"


def _inside_after_closing(facts: Facts) -> Found:
    sessions = _sessions(facts)
    for stay in facts.state["connections"]:
        row = sessions.get(stay["room"])
        closed_at = None if row is None else row["room_deleted_at"]
        if closed_at is not None and (stay["left_at"] is None or stay["left_at"] > _seconds(closed_at)):
            yield stay["room"], f"{stay['user_id']} left at {stay['left_at']}; the room was closed at {closed_at}"


def _recordings_in_no_row(facts: Facts) -> Found:
    """Whoever started it: what Daily recorded in a room of ours is a recording of its session."""
    sessions = _sessions(facts)
    known = {(row["room_name"], row["recording_id"]) for row in facts.recordings}
    for one in facts.state["recordings"]:
        if one["room_name"] in sessions and (one["room_name"], one["id"]) not in known:
            yield one["room_name"], f"no row has {one['id']} of instance {one['instance_id']}"


def _webhook(facts: Facts) -> Found:
    ours = [one for one in facts.state["webhooks"] if one["url"] != NOBODY]
    if [(one["state"], len(one["eventTypes"])) for one in ours] != [("ACTIVE", EVENT_TYPES)]:
        yield "webhook", f"ours is not as it must be: {ours}"


def _others(facts: Facts) -> Found:
    """What belongs to other applications on the domain is as they left it."""
    state = facts.state
    inside = {stay["session_id"] for stay in state["connections"] if stay["left_at"] is None}
    recording = {one["id"] for one in state["recordings"] if one["end_ts"] is None}
    untouched = {one["uuid"] for one in state["webhooks"] if one["updatedAt"] == one["createdAt"]}
    ours = {row["room_name"] for row in facts.sessions}
    for other in facts.journal.others:
        if other["room"] not in _rooms(facts) or other["room"] in ours:
            yield other["room"], "another application's room is gone, or taken for ours"
        if other["recording"] not in recording | {None}:
            yield other["room"], "another application's recording was stopped"
        if not inside.issuperset(other["session_ids"]):
            yield other["room"], "another application's call was broken up"
        if other["webhook"] not in untouched | {None}:
            yield other["room"], "another application's webhook was changed"


def _limits(facts: Facts) -> Found:
    refused, sent = sum(facts.state["refused"].values()), sum(facts.state["calls"].values())
    if refused >= REFUSED * max(sent, 1):
        yield "Daily", f"its limits refused {refused} of {sent} requests: {facts.state['refused']}"


def _overlaps(facts: Facts) -> Found:
    """Of ours, for Daily's own button is nobody's to hold back."""
    by_room = defaultdict(list)
    for one in facts.state["recordings"]:
        if one["instance_id"] != DEFAULT_INSTANCE:
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
        for name, value in expected.items():
            if row[name] != value:
                yield answer["roomName"], f"{name} was acknowledged as {value} and is {row[name]}"


def _lost_deletes(facts: Facts) -> Found:
    sessions, rooms = {row["room_name"]: row["status"] for row in facts.sessions}, _rooms(facts)
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


def _attendance(facts: Facts) -> Found:
    """Each stay: to the millisecond where an event told it, to the second where Daily's records did. Of a stay that was
    too short for them and whose leave no event told, nobody knows when it ended."""
    sessions, rows = _sessions(facts), {row["id"]: row for row in facts.connections}
    participants = {(row["room_name"], row["daily_user_id"]) for row in facts.participants}
    told = {(event["type"], event["session_id"]) for event in facts.events}
    for stay in facts.state["connections"]:
        if stay["room"] not in sessions or stay["left_at"] is None:
            continue
        id, row = stay["session_id"], rows.pop(stay["session_id"], None)
        told_left = ("participant.left", id) in told
        told_joined = told_left or ("participant.joined", id) in told
        recorded = stay["left_at"] - stay["joined_at"] >= facts.state["settings"]["min_stay"]
        if row is None:
            if told_joined or recorded:
                yield stay["room"], f"{stay['user_id']} was there at {stay['joined_at']}, which no row says"
            continue
        joined = stay["joined_at"] if told_joined else int(stay["joined_at"])
        left = stay["left_at"] if told_left else int(stay["left_at"]) if recorded else None
        known = _known(row, "joined_at"), _known(row, "left_at")
        if known[0] != joined or known[1] is None or left not in (None, known[1]):
            yield stay["room"], f"{stay['user_id']} was there from {joined} to {left}; the row says {known}"
        if (row["room_name"], row["daily_user_id"]) not in participants & {(stay["room"], stay["user_id"])}:
            yield stay["room"], f"{stay['user_id']} was there and is no participant"
    for row in rows.values():
        yield row["room_name"], f"{row['daily_user_id']} was never in the room; a row says so"


def _known(row: dict[str, Any], name: str) -> float | None:
    return _seconds(row[name] or row[f"polled_{name}"])


def _recordings(facts: Facts) -> Found:
    at_daily = {one["id"]: one for one in facts.state["recordings"]}
    for row in facts.recordings:
        one = at_daily.get(row["recording_id"])
        if one is None:
            if row["status"] == "completed":
                yield row["room_name"], f"{row['recording_id']} is completed, and Daily has no such recording"
        elif one["status"] == "finished" and not _is_as_finished(row, one):
            outcome = row["status"], row["s3_key"], row["duration"]
            yield (
                row["room_name"],
                f"Daily finished {one['id']}, {one['duration']} s, {one['s3key']}; the row: {outcome}",
            )
        elif one["status"] == "canceled" and row["status"] != "failed":
            yield row["room_name"], f"Daily canceled {one['id']}, which is {row['status']}"


def _is_as_finished(row: dict[str, Any], one: dict[str, Any]) -> bool:
    near = row["duration"] is not None and abs(row["duration"] - one["duration"]) <= TOLERANCE
    return (row["status"], row["s3_key"], near) == ("completed", one["s3key"], True)


def _surprises(facts: Facts) -> Found:
    yield from facts.journal.surprises


def _sessions(facts: Facts) -> dict[str, dict[str, Any]]:
    return {row["room_name"]: row for row in facts.sessions}


def _rooms(facts: Facts) -> set[str]:
    return {room["name"] for room in facts.state["rooms"]}


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else round(time.timestamp(), 3)


RULES: dict[str, Rule] = {
    "room without session": _rooms_without_session,
    "open session without room": _open_sessions_without_room,
    "unfinished create": _unfinished_creates,
    "unfinished start": _unfinished_starts,
    "unfinished end": _unfinished_ends,
    "unfinished closing": _unfinished_closings,
    "unfinished recording": _unfinished_recordings,
    "meeting not compared": _uncompared_meetings,
    "event not applied": _unapplied_events,
    "overdue": _overdue,
    "open for ever": _open_for_ever,
    "recorded after closing": _recorded_after_closing,
    "inside after closing": _inside_after_closing,
    "recording in no row": _recordings_in_no_row,
    "recording differs": _recordings,
    "recordings overlap": _overlaps,
    "attendance": _attendance,
    "webhook": _webhook,
    "others touched": _others,
    "refused by limits": _limits,
    "lost create": _lost_creates,
    "lost delete": _lost_deletes,
    "lost start": _lost_starts,
    "lost stop": _lost_stops,
    "lost token": _lost_tokens,
    "key with several sessions": _keys,
    "unexpected answer": _surprises,
}
