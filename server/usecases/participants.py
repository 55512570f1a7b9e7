"""Use cases of participants: who may enter, and who was there."""

from datetime import datetime
from uuid import UUID

from server.caller import Caller
from server.daily.client import user_id
from server.daily.wire import text
from server.usecases import rules
from server.usecases.service import Service
from storage.model import Participant
from storage.store import Transaction

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
