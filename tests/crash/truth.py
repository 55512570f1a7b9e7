"""Rules: our rows say what happened at Daily, and what happened there is what should have."""

from collections import defaultdict
from datetime import timedelta
from typing import Any

from tests.crash.facts import Facts, Found, Rule, seconds

LATEST = timedelta(seconds=120)
"""After its closing time what records in a room has been stopped, whatever failed."""
TOLERANCE = 6
"""Seconds by which a recording's duration may differ from Daily's: its instructor was told it when they stopped it."""
DEFAULT_INSTANCE = "c3df927c-f738-4471-a2b7-066fa7e95a6b"
"""Under which Daily's own button records."""
REFUSED = 0.01
"""Of the requests to Daily, the share that its limits may refuse."""


def _rooms_without_session(facts: Facts) -> Found:
    sessions, others = facts.session_of, {one["room"] for one in facts.journal.others}
    for room in facts.rooms - others:
        if room not in sessions:
            yield room, "Daily has the room; no row does"
        elif sessions[room]["room_deleted_at"] is not None:
            yield room, "Daily has the room; its session's was removed"


def _open_sessions_without_room(facts: Facts) -> Found:
    rooms = facts.rooms
    for row in facts.sessions:
        if row["status"] != "ended" and row["room_created_at"] is not None and row["room_name"] not in rooms:
            yield row["room_name"], f"{row['status']}, and Daily has no such room"


def _recorded_after_closing(facts: Facts) -> Found:
    sessions = facts.session_of
    for one in facts.state["recordings"]:
        row = sessions.get(one["room_name"])
        if row is None or row["closes_at"] is None or row["closes_at"] > facts.now:
            continue
        if one["end_ts"] is None:
            yield one["room_name"], f"{one['id']} still runs; its session closed at {row['closes_at']}"
        elif one["end_ts"] > (row["closes_at"] + LATEST).timestamp():
            yield one["room_name"], f"{one['id']} ran until {one['end_ts']}; its session closed at {row['closes_at']}"


def _inside_after_closing(facts: Facts) -> Found:
    sessions = facts.session_of
    for stay in facts.state["connections"]:
        row = sessions.get(stay["room"])
        closed_at = None if row is None else row["room_deleted_at"]
        if closed_at is not None and (stay["left_at"] is None or stay["left_at"] > seconds(closed_at)):
            yield stay["room"], f"{stay['user_id']} left at {stay['left_at']}; the room was closed at {closed_at}"


def _recordings_in_no_row(facts: Facts) -> Found:
    """Whoever started it: what Daily recorded in a room of ours is a recording of its session."""
    sessions = facts.session_of
    known = {(row["room_name"], row["recording_id"]) for row in facts.recordings}
    for one in facts.state["recordings"]:
        if one["room_name"] in sessions and (one["room_name"], one["id"]) not in known:
            yield one["room_name"], f"no row has {one['id']} of instance {one['instance_id']}"


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


def _attendance(facts: Facts) -> Found:
    """Each stay: to the millisecond where an event told it, to the second where Daily's records did. Of a stay that was
    too short for them and whose leave no event told, nobody knows when it ended."""
    sessions, rows = facts.session_of, {row["id"]: row for row in facts.connections}
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
    return seconds(row[name] or row[f"polled_{name}"])


def _others(facts: Facts) -> Found:
    """What belongs to other applications on the domain is as they left it."""
    state = facts.state
    inside = {stay["session_id"] for stay in state["connections"] if stay["left_at"] is None}
    recording = {one["id"] for one in state["recordings"] if one["end_ts"] is None}
    untouched = {one["uuid"] for one in state["webhooks"] if one["updatedAt"] == one["createdAt"]}
    ours = {row["room_name"] for row in facts.sessions}
    for other in facts.journal.others:
        if other["room"] not in facts.rooms or other["room"] in ours:
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


RULES: dict[str, Rule] = {
    "room without session": _rooms_without_session,
    "open session without room": _open_sessions_without_room,
    "recorded after closing": _recorded_after_closing,
    "inside after closing": _inside_after_closing,
    "recording in no row": _recordings_in_no_row,
    "recording differs": _recordings,
    "recordings overlap": _overlaps,
    "attendance": _attendance,
    "others touched": _others,
    "refused by limits": _limits,
}
