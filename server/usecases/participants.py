"""Use cases of participants: who may enter, and who was there."""

from datetime import datetime
from uuid import UUID

from server.caller import Caller
from server.daily.client import Daily, user_id
from server.usecases import rules
from storage.model import Participant
from storage.store import Store


async def issue_token(store: Store, daily: Daily, caller: Caller, room_name: str) -> str:
    """Records the caller as a participant and returns a meeting token for Daily."""
    user = user_id(caller.id)
    admission = rules.may_join(await store.admission((room_name, caller.id, user, caller.role)), room_name)
    return await daily.meeting_token(
        room_name,
        user=user,
        name=caller.name,
        role=caller.role,
        mic_allowed=admission.mic_allowed,
        camera_allowed=admission.camera_allowed,
    )


async def of_session(
    store: Store, caller: Caller, room_name: str, limit: int | None, after: tuple[datetime, UUID] | None
) -> list[Participant]:
    async with store.transaction() as tx:
        session = rules.found(await tx.sessions.by_name(room_name))
        rules.owns(caller, session, "list participants of")
        return await tx.participants.of_session(session.id, limit, after)
