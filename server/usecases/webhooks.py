"""Daily's events: verified, kept, and applied in the transaction that keeps them.

Daily gives up on a webhook after three failures in a row, so that whatever is signed and an event is answered well;
what we cannot apply yet stays in the inbox, and the reconciler tries it again."""

import base64
import hashlib
import hmac
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from server.daily.client import Daily, time_of
from server.errors import InvalidArgument, Unauthenticated
from storage.errors import StorageError, translated
from storage.model import Connection, Event, Session
from storage.store import Store, Transaction

logger = logging.getLogger(__name__)

MAX_BODY = 1 << 20
MAX_AGE = 300.0
MAX_DEPTH = 100
"""Of objects and lists inside each other."""
PING = {"test": "test"}
PATH = "/webhooks/daily"
Payload = Mapping[str, Any]


class NotYet(Exception):
    """An event about something that an event still on its way will tell us of."""


async def receive(store: Store, secret: str | None, signature: str, timestamp: str, body: bytes) -> None:
    if len(body) > MAX_BODY:
        raise InvalidArgument("The event is larger than 1 MiB")
    if _is_ping(body):
        return
    verify(secret, signature, timestamp, body, time.time())
    event = _event(_parse(body))
    async with store.transaction() as tx:
        if await tx.inbox.keep(event):
            await _apply_or_keep(tx, event)


async def retry(store: Store, event: Event) -> bool:
    """Applies an event that was kept; False when it still cannot be, or somebody did meanwhile."""
    async with store.transaction() as tx:
        return await tx.inbox.lock(event.id) and await _apply_or_keep(tx, event)


def verify(secret: str | None, signature: str, timestamp: str, body: bytes, now: float) -> None:
    """Raises Unauthenticated unless the signature is Daily's and fresh. Without a secret nothing is."""
    signed = timestamp.encode() + b"." + body
    ours = hmac.new(base64.b64decode(secret or ""), signed, hashlib.sha256).digest()
    if not secret or not hmac.compare_digest(base64.b64encode(ours), signature.encode()):
        raise Unauthenticated("The webhook's signature is not valid")
    if not abs(now - _seconds(timestamp)) <= MAX_AGE:  # nan too is too old
        raise Unauthenticated("The webhook's signature is too old")


async def register(daily: Daily, secret: str, public_url: str) -> None:
    """Makes Daily send its events here; re-activates the domain's webhook where there is one."""
    existing = await daily.webhooks()
    webhook = {"url": public_url + PATH, "hmac": secret, "eventTypes": sorted(HANDLERS)}
    await daily.save_webhook(str(existing[0]["uuid"]) if existing else None, webhook)


def _seconds(timestamp: str) -> float:
    """Seconds or milliseconds; -1, which is long ago, for anything else."""
    try:
        value = float(timestamp)
    except ValueError:
        return -1
    return value / 1000 if value > 1e11 else value


def _is_ping(body: bytes) -> bool:
    try:
        return len(body) < 100 and bool(_parse(body) == PING)
    except InvalidArgument:
        return False


def _parse(body: bytes) -> Any:
    """Raises InvalidArgument for what is not JSON, or not JSON that PostgreSQL and we can write and read again."""
    try:
        parsed = json.loads(body, parse_float=_finite, parse_constant=_finite)
        _check_depth(parsed)
    except (ValueError, RecursionError):
        raise InvalidArgument("The event is not JSON") from None
    return parsed


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _check_depth(parsed: Any) -> None:
    level = [parsed]
    for _ in range(MAX_DEPTH):
        nested = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        if not nested:
            return
        level = [item for items in nested for item in items]
    raise ValueError("nested too deep")


def _event(body: Any) -> Event:
    id, type = (body.get("id"), body.get("type")) if isinstance(body, dict) else (None, None)
    if not (isinstance(id, str) and isinstance(type, str) and 0 < len(id) <= 256 and 0 < len(type) <= 128):
        raise InvalidArgument("The event has no id or no type", "id", "type")
    if not (id.isprintable() and type.isprintable()):
        raise InvalidArgument("The event's id and type must be printable", "id", "type")
    return Event(id, type, body)


async def _apply_or_keep(tx: Transaction, event: Event) -> bool:
    try:
        async with tx.savepoint():
            with translated():
                await apply(tx, event)
    except StorageError:
        raise
    except Exception as problem:  # whatever it is, Daily must get its answer and the event must not be lost
        logger.warning("webhook event kept id=%s type=%s: %r", event.id, event.type, problem)
        await tx.inbox.failed(event.id, repr(problem)[:500])
        return False
    await tx.inbox.applied(event.id)
    return True


async def apply(tx: Transaction, event: Event) -> None:
    """Writes down what the event tells. In any order, and any number of times, the same events give the same rows."""
    handler = HANDLERS.get(event.type)
    if handler is not None:
        body: Any = event.body
        await handler(tx, body["payload"], time_of(body["event_ts"]))


async def _session(tx: Transaction, room: object) -> Session | None:
    return await tx.sessions.lock(room) if isinstance(room, str) else None


async def _meeting_started(tx: Transaction, payload: Payload, at: datetime) -> None:
    if session := await _session(tx, payload["room"]):
        await _make_live(tx, session)


async def _make_live(tx: Transaction, session: Session) -> None:
    await tx.sessions.make_live(session.id)
    await tx.recordings.keep_live(session.id)


async def _meeting_ended(tx: Transaction, payload: Payload, at: datetime) -> None:
    if session := await _session(tx, payload["room"]):
        await tx.participants.meeting_ended(session.id, _time(payload, "end_ts") or at)


async def _participant_joined(tx: Transaction, payload: Payload, at: datetime) -> None:
    if session := await _session(tx, payload["room"]):
        await _make_live(tx, session)
        await tx.participants.joined(session.id, _stay(payload, _time(payload, "joined_at") or at, None))


async def _participant_left(tx: Transaction, payload: Payload, at: datetime) -> None:
    if session := await _session(tx, payload["room"]):
        await _make_live(tx, session)
        joined_at, duration = payload.get("joined_at"), payload.get("duration")
        left_at = at if joined_at is None or duration is None else time_of(joined_at + duration)
        await tx.participants.left(session.id, _stay(payload, _time(payload, "joined_at"), left_at))


def _stay(payload: Payload, joined_at: datetime | None, left_at: datetime | None) -> Connection:
    id = str(payload["session_id"])
    user = str(payload.get("user_id") or id)
    return Connection(id, user, joined_at, left_at, is_owner=payload.get("owner") is True)


async def _recording_started(tx: Transaction, payload: Payload, at: datetime) -> None:
    if id := _uuid(payload.get("instance_id")):
        await tx.recordings.identify(id, str(payload["recording_id"]), _time(payload, "start_ts") or at)


async def _recording_ready(tx: Transaction, payload: Payload, at: datetime) -> None:
    session = await _session(tx, payload.get("room_name"))
    recording = await tx.recordings.by_daily_id(str(payload["recording_id"]))
    if recording is not None:
        # The event's own start comes first: ours may still become that of an event on its way.
        duration, started_at = payload.get("duration"), _time(payload, "start_ts") or recording.started_at
        ended_at = at if started_at is None or duration is None else started_at + timedelta(seconds=duration)
        seconds = None if duration is None else int(duration)
        await tx.recordings.finish(recording.id, ended_at, seconds, payload.get("s3_key"))
    elif session is not None:
        raise NotYet("no recording of this session has that id")


async def _recording_error(tx: Transaction, payload: Payload, at: datetime) -> None:
    await _session(tx, payload.get("room_name"))
    if id := _uuid(payload.get("instance_id")):
        reason = str(payload.get("error_msg") or "Daily reported an error")
        await tx.recordings.fail(id, reason[:500], at)


def _time(payload: Payload, field: str) -> datetime | None:
    """Every field but the ids may be missing; the time of the event stands in for it."""
    return None if payload.get(field) is None else time_of(payload[field])


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


HANDLERS: dict[str, Callable[[Transaction, Payload, datetime], Awaitable[None]]] = {
    "meeting.started": _meeting_started,
    "meeting.ended": _meeting_ended,
    "participant.joined": _participant_joined,
    "participant.left": _participant_left,
    "recording.started": _recording_started,
    "recording.ready-to-download": _recording_ready,
    "recording.error": _recording_error,
}
