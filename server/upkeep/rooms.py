"""What is due of sessions whose end nobody asked for: that Daily knows what was changed of their rooms, and the rules
by which they end."""

import logging
from datetime import datetime, timedelta

from server import metrics
from server.daily.errors import DailyRefused
from server.errors import ServiceError
from server.upkeep import sessions as by_rule
from server.usecases import rules, sessions
from server.usecases.service import Service
from storage.model import Session
from storage.store import Transaction

logger = logging.getLogger(__name__)


async def look_after(service: Service, session: Session, attempts: int) -> timedelta | None:
    try:
        again = await _tell_room(service, session, rules.taken_at(session), attempts)
    except ServiceError:  # a rule by which the session ends does not wait until Daily can be told
        await by_rule.look_after(service, session, attempts)
        raise
    pause = await by_rule.look_after(service, session, attempts)
    return min((one for one in (again, pause) if one is not None), default=None)


async def _tell_room(service: Service, session: Session, now: datetime, attempts: int) -> timedelta | None:
    """Returns when Daily is to be told once more: what was sent to it before may still be under way."""
    if not rules.room_is_stale(session):
        return None
    assert session.room_changed_at is not None
    try:
        await sessions.tell_room(service, session)
    except DailyRefused as refusal:
        if refusal.status != 400:  # of the key, say, and not of what the room is to be
            raise
        logger.error("given up kind='room' room=%s: %s", session.room_name, refusal)
    else:
        certain_at = session.room_changed_at + rules.LEASE
        if now < certain_at:
            return certain_at - now
    await service.store.run(_told, session, session.room_changed_at)
    metrics.repaired("room")
    logger.info("done kind='room' room=%s attempts=%d", session.room_name, attempts)
    return None


async def _told(tx: Transaction, session: Session, changed_at: datetime) -> None:
    await tx.sessions.room_updated(session.id, changed_at)
