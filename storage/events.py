"""The events of sessions: what was committed since the last look, and the present state of what somebody follows.

They are written by triggers, with the change itself (migration 0005). By psycopg alone and on connections of its own,
as everybody who follows a class waits for it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from storage.batching import Batcher
from storage.model import Follow, Participant, Present, Recording, RecordingStatus, Role, SessionEvent, SessionRow
from storage.spans import Span, no_span
from storage.statements import SHORT, Connect, Statements

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSED = 500
"""Missed events that are read at once at the most, shared by all who ask together: some 10 ms of the event loop."""

UNTOLD = ("instance_id", "s3_key", "started_at", "stopped_at", "settled_at", "in_doubt_until", "due_at")

# Just what was not visible to the last look, which PostgreSQL says by its snapshot: transactions that began later, and
# those that were under way. So each event is read once, in whatever order they are committed, and a transaction that
# takes an hour makes no look read more. The upper bound keeps out rows that were restored from another cluster. What is
# watched is hashed once for a look: an array would be read once for each event, and a join (which IS TRUE prevents) be
# done in whatever way seemed best for tables of another size.
COMMITTED = """
WITH look AS (
    SELECT pg_current_snapshot() AS now, %(since)s::text::pg_snapshot AS last
), fresh AS MATERIALIZED (
    SELECT session_id, revision, at, type, state FROM session_events
    WHERE transaction >= (SELECT pg_snapshot_xmax(last) FROM look)
        AND transaction < (SELECT pg_snapshot_xmax(now) FROM look)
    UNION ALL
    SELECT session_id, revision, at, type, state FROM session_events
    WHERE transaction = ANY(ARRAY(SELECT pg_snapshot_xip(last) FROM look))
)
SELECT now::text, session_id, revision, at, type, state
FROM look LEFT JOIN fresh ON (session_id IN (SELECT unnest(%(watched)s::uuid[]))) IS TRUE
ORDER BY session_id, revision
"""

# All of one moment. The events are told where none of them has been forgotten, else what there is. The session stands
# in the first row of each answer.
PRESENT = """
WITH found AS MATERIALIZED (
    SELECT number, after_revision, sessions, CASE WHEN after_revision > 0 THEN (
        SELECT count(*) FROM session_events WHERE session_id = id AND session_events.revision > after_revision
    ) = revision - after_revision ELSE false END AS kept, everything
    FROM unnest(%(rooms)s::text[], %(revisions)s::int[], %(everything)s::bool[])
        WITH ORDINALITY AS asked (room_name, after_revision, everything, number)
    JOIN sessions USING (room_name)
    WHERE room_created_at IS NOT NULL
)
SELECT number, (sessions).id,
    CASE WHEN event.revision IS NULL OR event.revision = after_revision + 1 THEN session_state(sessions) END,
    (sessions).revision, (sessions).room_deleted_at IS NOT NULL,
    kept,
    CASE WHEN everything AND NOT kept THEN (
        SELECT recording_state(recordings) FROM recordings
        WHERE session_id = (sessions).id AND recording_id IS NOT NULL
        ORDER BY created_at DESC, id DESC LIMIT 1
    ) END,
    CASE WHEN everything AND NOT kept THEN (
        SELECT jsonb_agg(participant_state(participants, joined_at, left_at) ORDER BY created_at, id)
        FROM participants CROSS JOIN LATERAL stays(session_id, daily_user_id, (sessions).ends_at)
        WHERE session_id = (sessions).id AND joined_at IS NOT NULL AND left_at IS NULL AND daily_user_id IN (
            SELECT daily_user_id FROM connections
            WHERE session_id = (sessions).id AND left_at IS NULL AND polled_left_at IS NULL
        )
    ) END,
    event.revision, event.at, event.type, event.state
FROM found LEFT JOIN LATERAL (
    SELECT revision, at, type, state FROM session_events
    WHERE kept AND session_id = (sessions).id AND revision > after_revision
    ORDER BY revision LIMIT %(missed)s
) AS event ON true
ORDER BY number, event.revision
"""

FORGET = """
WITH gone AS (
    DELETE FROM session_events WHERE (session_id, revision) IN (
        SELECT session_id, revision FROM session_events WHERE forget_at < now() ORDER BY forget_at LIMIT %(events)s
    ) RETURNING revision
)
SELECT count(*) FROM gone
"""


class Events:
    def __init__(self, connect: Connect, span: Span = no_span) -> None:
        self._statements = Statements(connect)
        self._run = self._statements.run
        self.present = Batcher(self._present, span, "PostgreSQL present")
        """What is so now, for who begins or goes on to follow a session; None where there is no session."""

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many idle."""
        return self._statements.connections

    async def committed(self, since: str | None, watched: Sequence[UUID]) -> tuple[str, list[SessionEvent]]:
        """What was committed in these sessions since the last look, in each in the order of its revisions; and what
        this look is, to be the next one's `since`. The first one, since None, finds nothing. Raises
        StorageUnavailable."""
        rows = await self._run(COMMITTED, {"since": since, "watched": list(watched)}, SHORT)
        return rows[0][0], [session_event(*event) for _, *event in rows if event[0] is not None]

    async def forget(self, events: int) -> int:
        """Removes so many old events at the most, with their deliveries; returns how many. Raises
        StorageUnavailable."""
        [(gone,)] = await self._run(FORGET, {"events": events})
        return int(gone)

    async def close(self) -> None:
        await self._statements.close()

    async def _present(self, asked: Sequence[Follow]) -> list[Present | None]:
        rooms, revisions, everything = map(list, zip(*asked, strict=True))
        missed = -(-MISSED // len(asked))
        values = {"rooms": rooms, "revisions": revisions, "everything": everything, "missed": missed}
        answers: list[Present | None] = [None] * len(asked)
        for number, id, session, revision, closed, kept, recording, inside, *event in await self._run(PRESENT, values):
            answer = answers[number - 1]
            if answer is None:
                answer = answers[number - 1] = Present(
                    id=id,
                    session=SessionRow(**session),
                    revision=revision,
                    closed=closed,
                    missed=[] if kept else None,
                    recording=None if recording is None else _recording(id, recording),
                    inside=[_participant(id, one) for one in inside or []],
                )
            if answer.missed is not None and event[0] is not None:
                answer.missed.append(session_event(id, *event))
        return answers


def session_event(session_id: UUID, revision: int, at: datetime, type: str, state: dict[str, Any]) -> SessionEvent:
    return SessionEvent(session_id, revision, at, type, _noun(session_id, type, state))


def _noun(session_id: UUID, type: str, state: dict[str, Any]) -> SessionRow | Participant | Recording:
    match type.split("."):
        case ["session", _]:
            return SessionRow(**state)
        case ["participant", _]:
            return _participant(session_id, state)
        case ["recording", _]:
            return _recording(session_id, state)
    raise AssertionError(type)


def _participant(session_id: UUID, state: dict[str, Any]) -> Participant:
    return Participant(**_typed(state) | {"session_id": session_id, "role": Role(state["role"])})


def _recording(session_id: UUID, state: dict[str, Any]) -> Recording:
    """As callers see it: nothing is told of what it is to upkeep, nor of where its file lies."""
    untold: dict[str, Any] = dict.fromkeys(UNTOLD)
    return Recording(**untold | _typed(state) | {"session_id": session_id, "status": RecordingStatus(state["status"])})


def _typed(state: dict[str, Any]) -> dict[str, Any]:
    """With ids and times as the nouns have them."""
    typed = {name: _time(value) if name.endswith("_at") else value for name, value in state.items()}
    return typed | {"id": UUID(state["id"])}


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else EPOCH + timedelta(milliseconds=milliseconds)
