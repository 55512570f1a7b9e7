"""What can be done with moderation inside a transaction: who was removed, who may send what, and of whom Daily must be
told."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Interval, Update, and_, bindparam, cast, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement

from storage.model import Moderated, Participant, Role
from storage.participants import OF_SESSION
from storage.queue import CLOCK, sooner
from storage.tables import moderations, participants

FROM_NOBODY = timedelta(minutes=1)
"""How long somebody is watched for who was removed before they had a token."""

REMOVE = text("""
INSERT INTO participants (session_id, user_id, daily_user_id, role, was_kicked, watch_until)
VALUES (:session_id, :user_id, :daily_user_id, 'student', true, clock_timestamp() + :from_nobody)
ON CONFLICT (session_id, user_id) DO UPDATE SET
    was_kicked = true,
    watch_until = clock_timestamp() + :token_life,
    updated_at = CASE WHEN participants.was_kicked THEN participants.updated_at ELSE now() END
""")
ALL_SENT = func.coalesce(participants.c.unsettled_at <= CLOCK - cast(bindparam("lease"), Interval), True)
COLUMNS = [
    ALL_SENT.label(name) if name == "all_sent" else participants.c[name]
    for name in (field.name for field in fields(Moderated))
]
OF_SESSION_ID = participants.c.session_id == bindparam("session_id")
# The first alternative is the index's condition. Who was removed is of interest while a token may let them in.
MODERATED = select(*COLUMNS).where(
    OF_SESSION_ID,
    or_(
        participants.c.was_kicked,
        ~participants.c.mic_allowed,
        ~participants.c.camera_allowed,
        participants.c.unsettled_at.is_not(None),
    ),
    or_(~participants.c.was_kicked, participants.c.watch_until > CLOCK),
)
SETTLE = text("""
UPDATE participants SET unsettled_at = NULL
FROM unnest(CAST(:ids AS uuid[]), CAST(:times AS timestamptz[])) AS sent (id, unsettled_at)
WHERE participants.id = sent.id AND participants.unsettled_at = sent.unsettled_at
""")
AMONG = participants.c.id == func.any(bindparam("ids"))
SOME = OF_SESSION.where(AMONG).order_by(participants.c.created_at, participants.c.id)
_due = insert(moderations)
DUE = _due.on_conflict_do_update(
    index_elements=["id"], set_={"due_at": sooner(moderations, _due.excluded.due_at), "attempts": 0}
)


class Moderations:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def remove(self, session_id: UUID, user_id: str, daily_user_id: str, token_life: timedelta) -> None:
        """Also somebody who has not come yet. They are watched for as long as a token of theirs may live."""
        values = {"session_id": session_id, "user_id": user_id, "daily_user_id": daily_user_id}
        await self._connection.execute(REMOVE, values | {"token_life": token_life, "from_nobody": FROM_NOBODY})

    async def readmit(self, session_id: UUID, user_id: str) -> None:
        change = _of(session_id, user_id).where(participants.c.was_kicked)
        await self._connection.execute(change.values(was_kicked=False, watch_until=None, updated_at=func.now()))

    async def permit(self, session_id: UUID, user_id: str, mic: bool | None, camera: bool | None) -> None:
        """None is left as it is."""
        asked = {"mic_allowed": mic, "camera_allowed": camera}
        new = {name: value for name, value in asked.items() if value is not None}
        differs = or_(*(participants.c[name] != value for name, value in new.items()))
        change = _of(session_id, user_id).where(differs)
        await self._connection.execute(change.values(**new, unsettled_at=CLOCK, updated_at=func.now()))

    async def mute_students(self, session_id: UUID) -> list[Participant]:
        """Those whose microphone was permitted, in the order in which they were recorded."""
        students = and_(participants.c.session_id == session_id, participants.c.role == Role.STUDENT)
        ids = await self._lock(and_(students, participants.c.mic_allowed))
        change = update(participants).where(AMONG)
        change = change.values(mic_allowed=False, unsettled_at=CLOCK, updated_at=func.now())
        await self._connection.execute(change, {"ids": ids})
        rows = await self._connection.execute(SOME, {"session_id": session_id, "ids": ids})
        return [Participant(*row) for row in rows]

    async def moderated(self, session_id: UUID, lease: timedelta) -> list[Moderated]:
        """Those of whom Daily must be told. What was sent to it so long ago has come to its end."""
        rows = await self._connection.execute(MODERATED, {"session_id": session_id, "lease": lease})
        return [Moderated(*row) for row in rows]

    async def watch(self, participant_ids: Sequence[UUID], token_life: timedelta) -> None:
        """They have come back, and may again for so long."""
        change = update(participants).where(AMONG).values(watch_until=CLOCK + token_life)
        await self._connection.execute(change, {"ids": await self._lock(participants.c.id.in_(participant_ids))})

    async def unsettle(self, participant_ids: Sequence[UUID]) -> None:
        """It is not certain any more that Daily knows what they may do."""
        change = update(participants).where(AMONG).values(unsettled_at=CLOCK)
        await self._connection.execute(change, {"ids": await self._lock(participants.c.id.in_(participant_ids))})

    async def settle(self, people: Sequence[Moderated]) -> None:
        """Daily knows what they may do, unless that has changed meanwhile."""
        ids = [one.id for one in people]
        await self._lock(participants.c.id.in_(ids))
        await self._connection.execute(SETTLE, {"ids": ids, "times": [one.unsettled_at for one in people]})

    async def among(self, session_ids: Collection[UUID]) -> set[UUID]:
        """Those of the sessions in which anybody was ever removed, or permitted anything else than all."""
        query = select(moderations.c.id).where(moderations.c.id.in_(session_ids))
        return set((await self._connection.execute(query)).scalars())

    async def due(self, session_id: UUID, after: timedelta) -> None:
        """The room is to be looked at by then."""
        await self._connection.execute(DUE.values(id=session_id, due_at=CLOCK + after))

    async def _lock(self, which: ColumnElement[bool]) -> list[UUID]:
        """In the order in which tokens that are issued write participants, so that neither waits for the other."""
        query = select(participants.c.id).where(which).order_by(participants.c.session_id, participants.c.user_id)
        return list((await self._connection.execute(query.with_for_update(key_share=True))).scalars())


def _of(session_id: UUID, user_id: str) -> Update:
    return update(participants).where(participants.c.session_id == session_id, participants.c.user_id == user_id)
