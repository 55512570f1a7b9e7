"""Use cases of participants: who may enter, and who was there."""

import logging
from datetime import datetime
from uuid import UUID

from server.caller import Caller
from server.daily.errors import DailyUnreadable
from server.daily.model import Present
from server.daily.tokens import user_id
from server.daily.wire import text
from server.usecases import rules
from server.usecases.service import Service
from storage.model import Participant, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

Cursor = tuple[datetime, UUID]


async def issue_token(service: Service, caller: Caller, room_name: str) -> str:
    """Records the caller as a participant and returns a meeting token for Daily."""
    user, name = user_id(caller.id), text(caller.name)
    asked = (room_name, caller.id, user, name, caller.role)
    admission = rules.may_join(await service.store.admission(asked), room_name)
    return await service.daily.meeting_token(
        room_name,
        user=user,
        name=name or caller.id,
        role=caller.role,
        mic_allowed=admission.mic_allowed,
        camera_allowed=admission.camera_allowed,
    )


async def present(service: Service, session: Session) -> list[Present] | None:
    """Who is in the room as far as Daily knows; None where it tells of some, and nothing of them can be read: those of
    whom we know are to be seen to all the same."""
    try:
        return await service.daily.presence(session.room_name)
    except DailyUnreadable as problem:
        logger.warning("who is in room=%s: %s", session.room_name, problem)
        return None


async def of_session(
    service: Service, caller: Caller, room_name: str, limit: int | None, after: Cursor | None
) -> list[Participant]:
    return await service.store.run(_of_session, caller, room_name, limit, after)


async def _of_session(
    tx: Transaction, caller: Caller, room_name: str, limit: int | None, after: Cursor | None
) -> list[Participant]:
    session = rules.found(await tx.sessions.by_name(room_name))
    rules.owns(caller, session, "list participants of")
    return await tx.participants.of_session(session.id, limit, after)
