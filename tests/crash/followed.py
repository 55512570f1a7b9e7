"""Rules: who follows a session is told each change once, in order, and in the end knows what is so."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from live_sessions.v1 import resources_pb2 as pb
from tests.crash.facts import Facts, Found, Noun, Rule
from tests.crash.journal import Watched


@dataclass
class Chapter:
    """The state that was told in the beginning or anew, of a revision, and then the changes one by one."""

    revision: int
    state: list[Noun]
    changes: list[tuple[int, Noun]] = field(default_factory=list)

    @property
    def revisions(self) -> list[int]:
        return [self.revision, *(revision for revision, _ in self.changes)]

    @property
    def last(self) -> dict[str, Noun]:
        """Each thing by its id, as it was told last."""
        return {noun.id: noun for noun in (*self.state, *(noun for _, noun in self.changes))}


def _chapters(watched: Watched) -> list[Chapter]:
    """Of a state that a stream broke off nothing is left: it is told again."""
    chapters: list[Chapter] = []
    for stream in watched.streams:
        begins, state = stream.after == 0, list[Noun]()
        for event in stream.told[:]:
            kind = str(event.WhichOneof("event"))
            if kind == "heartbeat":
                continue
            noun: Noun = getattr(event, kind)
            if event.revision == 0:
                state.append(noun)
            elif begins or state:
                chapters.append(Chapter(event.revision, [*state, noun]))
                begins, state = False, []
            else:
                chapters[-1].changes.append((event.revision, noun))
    return chapters


def _told(facts: Facts) -> Iterator[tuple[Watched, str, list[Chapter]]]:
    """Each watcher, in words, and what they were told; those apart who have been told nothing yet."""
    for watched in facts.journal.watched[:]:
        if chapters := _chapters(watched):
            yield watched, watched.instructor or "anybody", chapters


def _changes(facts: Facts, watched: Watched) -> list[dict[str, Any]]:
    """What is told of their session to such as them."""
    kinds = ("session",) if watched.instructor is None else ("session", "participant", "recording")
    changes = facts.changes.get(watched.room, ())
    return [row for row in changes if row["type"].startswith(kinds) and row["type"] != "session.closed"]


def _told_twice(facts: Facts) -> Found:
    for watched, who, chapters in _told(facts):
        for chapter in chapters:
            wrong = [(before, then) for before, then in pairwise(chapter.revisions) if then <= before]
            if wrong:
                before, then = wrong[0]
                yield watched.room, f"{who} was told {then} after {before}; {len(wrong)} times the like"


def _missed(facts: Facts) -> Found:
    """What a state that is told anew stands for is no loss."""
    for watched, who, chapters in _told(facts):
        for chapter in chapters:
            until = chapter.revisions[-1] if chapter is not chapters[-1] else float("inf")
            to_tell = {
                row["revision"] for row in _changes(facts, watched) if chapter.revision < row["revision"] <= until
            }
            if missed := sorted(to_tell - set(chapter.revisions)):
                yield watched.room, f"{who} was told {chapter.revisions}, and not {missed}"


def _untold(facts: Facts) -> Found:
    told = {id(watched) for watched, _, _ in _told(facts)}
    for watched in facts.journal.watched[:]:
        if id(watched) not in told:
            yield watched.room, f"{watched.instructor or 'anybody'} was told nothing"


def _not_theirs(facts: Facts) -> Found:
    for watched, who, chapters in _told(facts):
        others = [
            noun for chapter in chapters for noun in chapter.last.values() if not isinstance(noun, pb.LiveSession)
        ]
        if watched.instructor is None and others:
            yield watched.room, f"{who} was told of {len(others)} participants and recordings"


def _not_whole(facts: Facts) -> Found:
    for watched, who, chapters in _told(facts):
        for chapter in chapters:
            rows = [row for row in _changes(facts, watched) if row["revision"] <= chapter.revision]
            expected, told = _state(rows), {noun.id for noun in chapter.state}
            if told != expected:
                yield watched.room, f"{who} was told of {sorted(told)}; at {chapter.revision} it was {sorted(expected)}"


def _state(changes: list[dict[str, Any]]) -> set[str]:
    """The ids of what a state tells of, by the changes up to it: the session, its latest recording, who is inside."""
    last = {row["state"]["id"]: row for row in changes}.values()
    session, people, recordings = (
        [row["state"] for row in last if row["type"].startswith(kind)]
        for kind in ("session", "participant", "recording")
    )
    known = sorted((one for one in recordings if one["recording_id"]), key=lambda one: (one["created_at"], one["id"]))
    inside = [one for one in people if one["joined_at"] is not None and one["left_at"] is None]
    return {one["id"] for one in (*session, *known[-1:], *inside)}


def _told_otherwise(facts: Facts) -> Found:
    for watched, who, chapters in _told(facts):
        last, shown = chapters[-1].last, {noun.id: noun for noun in facts.shown[watched.room]}
        for noun in last.values():
            if shown.get(noun.id) != noun:
                yield watched.room, f"{who} was told {_text(noun)}; it is {_text(shown.get(noun.id))}"
        for noun in _to_be_known(watched, facts.shown[watched.room]):
            if noun.id not in last:
                yield watched.room, f"{who} was not told {_text(noun)}"


def _to_be_known(watched: Watched, shown: list[Noun]) -> list[Noun]:
    """Whenever somebody began to follow. A recording that never started is none that the session has."""
    if watched.instructor is None:
        return shown[:1]
    inside = [
        one
        for one in shown
        if isinstance(one, pb.SessionParticipant) and one.HasField("joined_at") and not one.HasField("left_at")
    ]
    recordings = [one for one in shown if isinstance(one, pb.Recording) and one.recording_id]
    return [*shown[:1], *inside, *recordings[:1]]


def _text(noun: Noun | None) -> str:
    return " ".join(str(noun).split())


def _not_ended(facts: Facts) -> Found:
    sessions = facts.session_of
    for watched, who, _ in _told(facts):
        closed_at = sessions[watched.room]["room_deleted_at"]
        ended = any(stream.ended for stream in watched.streams)
        if closed_at is not None and not ended:
            yield watched.room, f"it closed at {closed_at}, and {who} waits for more"
        if closed_at is None and ended:
            yield watched.room, f"{who} was told that there is no more, and it has not closed"


RULES: dict[str, Rule] = {
    "told nothing": _untold,
    "told twice": _told_twice,
    "change missed": _missed,
    "state not whole": _not_whole,
    "told otherwise": _told_otherwise,
    "told what is not theirs": _not_theirs,
    "stream not ended": _not_ended,
}
