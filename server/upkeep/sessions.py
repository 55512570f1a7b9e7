"""What is due of sessions: ends that were asked for, rooms to be removed, creations that were given up, and classes
that end by themselves."""

import logging
from datetime import datetime, timedelta

from server import metrics
from server.daily.model import Present
from server.upkeep import attendance
from server.usecases import ending, rules, sessions
from server.usecases.service import Service
from storage.model import Connection, Occupancy, Session
from storage.store import Transaction

logger = logging.getLogger(__name__)

PRESENCE_LAG = timedelta(seconds=30)
"""By which Daily's presence may be late: what it says twice, so long apart, is believed."""
ASK_AGAIN = timedelta(seconds=60)
"""After which Daily is asked again who is in a room, when it and what we were told differ."""
SHORTEST_RECORDED = timedelta(seconds=10)
"""Daily has no record of a stay that was shorter."""


async def end(service: Service, session: Session, attempts: int) -> None:
    await ending.end(service, session)
    metrics.repaired("end")
    logger.info("done kind=%r room=%s attempts=%d", "end", session.room_name, attempts)


async def close(service: Service, session: Session, attempts: int) -> None:
    await ending.close(service, session)
    metrics.repaired("closing")
    logger.info("done kind=%r room=%s attempts=%d", "closing", session.room_name, attempts)


async def look_after(service: Service, session: Session, attempts: int) -> timedelta | None:
    """A session whose end nobody asked for: whether it ends by itself, or when that is to be asked again."""
    if session.room_created_at is None:
        await sessions.take_back(service, session)
        metrics.repaired("abandoned create")
        logger.info("done kind=%r room=%s attempts=%d", "abandoned create", session.room_name, attempts)
        return None
    now = rules.taken_at(session)
    room = await service.store.run(_occupancy, session)
    step = rules.next_step(session, room, service.lifetimes, now)
    if isinstance(step, rules.AskWhoIsThere):
        step = rules.at_the_latest(await _asked(service, session, room, now), step.ends_by)
    if isinstance(step, rules.Look):
        return None if step.at is None else max(step.at - now, timedelta())
    if await service.store.run(_request_end, session, step.as_of, service.lifetimes.closing):
        metrics.repaired("rule")
        logger.info("done kind=%r room=%s reason=%r", "rule", session.room_name, step.reason)
    return None


async def _occupancy(tx: Transaction, session: Session) -> Occupancy:
    return await tx.participants.occupancy(session.id)


async def _asked(service: Service, session: Session, room: Occupancy, now: datetime) -> rules.Look | rules.End:
    """Believes neither what we were told nor Daily's presence alone: a lost leave must not keep a class open for ever,
    and a lost join must not end one."""
    assert service.lifetimes.empty is not None
    present = await service.daily.presence(session.room_name)
    if present:
        await service.store.run(_note, session, present)
        return rules.Look(now + rules.LOST_LEAVE * service.lifetimes.empty)
    if not room.inside:
        lag = min(PRESENCE_LAG, service.lifetimes.empty)
        if session.seen_empty_at is not None and lag <= now - session.seen_empty_at < 3 * PRESENCE_LAG:
            return rules.End(rules.empty_since(session, room), "its room was empty")
        await service.store.run(_seen_empty, session)
        return rules.Look(now + lag)
    recorded = await attendance.compare_room(service, session)
    await service.store.run(_close_short_stays, session, recorded, now)
    return rules.Look(now + min(ASK_AGAIN, service.lifetimes.empty))


async def _seen_empty(tx: Transaction, session: Session) -> None:
    await tx.sessions.seen_empty(session.id)


async def _note(tx: Transaction, session: Session, present: list[Present]) -> None:
    await tx.sessions.lock_by_id(session.id)
    await tx.participants.recorded(session.id, rules.stays_of(present))


async def _close_short_stays(tx: Transaction, session: Session, recorded: set[str], now: datetime) -> None:
    """Nobody is there, and Daily has no record of them: they left before it made one. Those of whom it has, and whom it
    shows as inside still, are left to the end of their meeting."""
    await tx.sessions.lock_by_id(session.id)
    for stay in (await tx.participants.occupancy(session.id)).inside:
        if stay.id not in recorded and stay.joined_at is not None and stay.joined_at < now - ASK_AGAIN:
            left = Connection(stay.id, stay.daily_user_id, None, stay.joined_at + SHORTEST_RECORDED)
            await tx.participants.recorded(session.id, [left])


async def _request_end(tx: Transaction, session: Session, as_of: datetime, closing: timedelta | None) -> bool:
    """False when somebody has changed it meanwhile: what has become of it is looked at anew."""
    current = await tx.sessions.lock_by_id(session.id)
    if current is None or current.due_at != session.due_at:
        return False
    await tx.sessions.request_end(session.id, timedelta(), closing, as_of)
    return True
