"""What is due of rooms in which somebody was removed, or may not do everything: that Daily knows it, and goes on to."""

import logging
from datetime import datetime, timedelta

from server.daily.errors import DailyUnavailable
from server.usecases import moderation, rules
from server.usecases.moderation import LOOK
from server.usecases.service import Service
from storage.model import Moderated, Moderation, Session, SessionStatus
from storage.store import Transaction

logger = logging.getLogger(__name__)

UNTOLD = timedelta(minutes=2)
"""How often Daily is asked for those in a class who joined with an older token, and of whom it did not tell."""
ASLEEP = timedelta(minutes=10)
"""The same while no class is held."""


async def look_after(service: Service, item: Moderation, attempts: int) -> timedelta | None:
    session = await service.store.run(_session, item)
    if session.room_deleted_at is not None or _nobody_can_come(session, rules.taken_at(item)):
        return None
    try:
        people = await moderation.make_so(service, session, attempts)
    except DailyUnavailable as problem:
        logger.warning("put off kind='moderation' room=%s attempts=%d: %s", session.room_name, attempts, problem)
        return LOOK
    return _pause(session, people)


async def _session(tx: Transaction, item: Moderation) -> Session:
    return rules.found(await tx.sessions.by_id(item.id))


def _nobody_can_come(session: Session, now: datetime) -> bool:
    """Into a room that is kept: since the session ended, nobody gets a token."""
    return session.ends_at is not None and session.ends_at + moderation.TOKEN_LIFE < now


def _pause(session: Session, people: list[Moderated]) -> timedelta | None:
    """Until the next look at the room, if it needs one."""
    if any(one.was_kicked for one in people):
        return LOOK
    if not all(one.all_sent for one in people):
        return rules.LEASE
    if people:
        return UNTOLD if session.status == SessionStatus.LIVE else ASLEEP
    return None
