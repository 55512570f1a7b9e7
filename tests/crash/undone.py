"""Rules: nothing is left undone, whether anybody was told of it or not."""

from datetime import timedelta

from tests.crash.facts import Facts, Found, Rule
from tests.crash.plan import LIFETIMES
from tests.crash.workload import NOBODY

OVERDUE = timedelta(seconds=15)
"""By which nothing that is due may wait for somebody to take it."""
EVENT_TYPES = 7
"""That our webhook must follow."""


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
    sessions, rows = facts.session_of, {row["id"]: row for row in facts.meetings}
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


def _webhook(facts: Facts) -> Found:
    ours = [one for one in facts.state["webhooks"] if one["url"] != NOBODY]
    if [(one["state"], len(one["eventTypes"])) for one in ours] != [("ACTIVE", EVENT_TYPES)]:
        yield "webhook", f"ours is not as it must be: {ours}"


RULES: dict[str, Rule] = {
    "unfinished create": _unfinished_creates,
    "unfinished start": _unfinished_starts,
    "unfinished end": _unfinished_ends,
    "unfinished closing": _unfinished_closings,
    "unfinished recording": _unfinished_recordings,
    "meeting not compared": _uncompared_meetings,
    "event not applied": _unapplied_events,
    "overdue": _overdue,
    "open for ever": _open_for_ever,
    "webhook": _webhook,
}
