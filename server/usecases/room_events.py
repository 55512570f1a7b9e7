"""What Daily's events tell of a session's room, written down: in any order, and any number of times, the same events
give the same rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from server import logs, metrics
from server.daily import events as wire
from server.daily.events import (
    Event,
    Joined,
    Left,
    MeetingEnded,
    MeetingStarted,
    RecordingFailed,
    RecordingReady,
    RecordingStarted,
)
from server.daily.model import DEFAULT_INSTANCE
from server.errors import InvalidArgument, Unauthenticated
from server.usecases import ending, moderation, rules
from server.usecases.recordings import OTHER, OVERDUE
from server.usecases.rules import Lifetimes
from server.usecases.service import Service
from storage.model import Connection, Recording, RecordingStatus, Session, SessionStatus
from storage.store import Transaction

RECORD_EXPECTED = timedelta(seconds=20)
"""After which Daily has the record of a meeting that has ended."""
END_EXPECTED = timedelta(seconds=60)
"""After the last leave: by then the meeting's own end has been told, if it is told at all."""
SOMEBODY_IS_THERE = Joined | Left | MeetingStarted | RecordingStarted
"""Or was, as these events say: Daily records no empty room."""


async def receive(service: Service, secret: str | None, signature: str, timestamp: str, body: bytes) -> None:
    """Keeps one event, to be applied by upkeep; nothing that is signed is refused, for Daily stops sending after three
    refusals."""
    if len(body) > wire.MAX_BODY:
        raise InvalidArgument("The event is larger than 1 MiB")
    if wire.is_ping(body):
        return
    if not wire.is_signed(secret, signature, timestamp, body):
        metrics.daily_event(wire.OTHER, "refused")
        raise Unauthenticated("The webhook's signature is not valid")
    envelope = wire.envelope(body)
    logs.concerns(envelope.subject)
    await service.store.keep_event((sha256(body).digest(), envelope.id, envelope.type, envelope.subject, body))
    metrics.daily_event(wire.known(envelope.type), "received")
    if envelope.at is not None:
        metrics.DAILY_EVENT_LAG.observe(max(0.0, time.time() - envelope.at.timestamp()))
    (service.news if envelope.subject else service.news_of_no_room).set()


@dataclass(frozen=True, slots=True)
class Told:
    session: Session
    event: Event
    patient: bool
    """Whether it may wait for another event that it seems to build on."""


async def apply(tx: Transaction, told: Sequence[Told], lifetimes: Lifetimes) -> list[int]:
    """Events of sessions that are locked: joins and leaves, which are by far the most, with a few statements for all.
    Returns the numbers of those that must wait for another event, of which nothing was written."""
    alive = {one.session.id: one.session for one in told if isinstance(one.event, SOMEBODY_IS_THERE)}
    await come_alive(tx, list(alive.values()), lifetimes)
    stays = [(one.session.id, _stay(one.event)) for one in told if isinstance(one.event, Joined | Left)]
    if stays:
        people = await tx.participants.told(stays)
        joins = [(one.session.id, one.event) for one in told if isinstance(one.event, Joined)]
        await moderation.who_came(tx, joins, people)
    for kind in (MeetingStarted, MeetingEnded):  # in this order: an end must not take those of the next meeting along
        for one in told:
            if isinstance(one.event, kind):
                await _meeting(tx, one.session, one.event)
    left = dict.fromkeys(one.session.id for one in told if isinstance(one.event, Left | MeetingEnded))
    await perhaps_empty(tx, list(left), lifetimes)
    return [number for number, one in enumerate(told) if not await _recording(tx, one)]


async def _recording(tx: Transaction, one: Told) -> bool:
    """False for an event that must wait."""
    match one.event:
        case RecordingStarted():
            await _recording_started(tx, one.session, one.event)
        case RecordingReady():
            return await _recording_ready(tx, one.session, one.event, one.patient)
        case RecordingFailed():
            await _recording_failed(tx, one.session, one.event)
    return True


async def come_alive(tx: Transaction, sessions: Sequence[Session], lifetimes: Lifetimes) -> None:
    """Somebody is, or was, in each room: the session stays live whatever becomes of a start."""
    if scheduled := [session.id for session in sessions if session.status == SessionStatus.SCHEDULED]:
        await tx.sessions.make_live(scheduled, lifetimes.first_look)
    if sessions:
        await tx.recordings.keep_live([session.id for session in sessions])


async def perhaps_empty(tx: Transaction, session_ids: list[UUID], lifetimes: Lifetimes) -> None:
    """Where nobody is left in a room, as far as we were told, the session and its meeting are due."""
    if not session_ids:
        return
    for id, last_left_at in (await tx.participants.empty(session_ids)).items():
        await tx.meetings.look_at(id, END_EXPECTED)
        if lifetimes.empty is not None:
            await tx.sessions.look_again(id, last_left_at + lifetimes.empty)


def _stay(event: Joined | Left) -> Connection:
    if isinstance(event, Joined):
        stay = event.stay
        return Connection(stay.connection_id, stay.user_id, stay.joined_at, None, event.is_owner, stay.user_name)
    return Connection(
        event.connection_id, event.user_id, event.joined_at, event.left_at, event.is_owner, event.user_name
    )


async def _meeting(tx: Transaction, session: Session, event: MeetingStarted | MeetingEnded) -> None:
    if isinstance(event, MeetingStarted):
        await tx.meetings.seen(session.id, event.meeting_id, event.at, None, RECORD_EXPECTED)
    else:
        await tx.participants.meeting_ended(session.id, event.meeting_id, event.at)
        await tx.meetings.seen(session.id, event.meeting_id, event.started_at, event.at, RECORD_EXPECTED)


async def _recording_started(tx: Transaction, session: Session, event: RecordingStarted) -> None:
    """The one event that names both the instance, which is the row that asked for it, and Daily's id."""
    row = None if event.instance_id is None else await tx.recordings.by_id(event.instance_id)
    if row is None or row.session_id != session.id:
        await tx.recordings.add(session.id, None, event.recording_id, event.at, _look_after(session))
    elif row.recording_id is None:
        await _name(tx, session, row, event)
    elif row.recording_id != event.recording_id:
        await _one_more(tx, session, row, event)


async def _name(tx: Transaction, session: Session, row: Recording, event: RecordingStarted) -> None:
    """What was known of the recording before is known of ours; one that a later start was taken to have brought about
    stays the one that callers were told of."""
    known = await tx.recordings.by_daily_id(event.recording_id)
    if known is not None and known.instance_id is not None:
        await tx.recordings.runs_under(known.id, row.id)
        return
    gone = await tx.recordings.name(row.id, event.recording_id, event.at, _look_after(session))
    if gone is not None and gone.settled_at and gone.stopped_at and gone.status == RecordingStatus.COMPLETED:
        await tx.recordings.finish(
            row.id, gone.started_at, gone.duration, gone.s3_key, at=gone.stopped_at, tolerance=ending.TOLERANCE
        )


async def _one_more(tx: Transaction, session: Session, row: Recording, event: RecordingStarted) -> None:
    """Under the instance of a row that has another recording: taken for ours from the list, or ended when a late
    request started one more. Beside one of ours that runs it is to be stopped."""
    if row.status == RecordingStatus.PROCESSING and row.instance_id == row.id:
        await tx.recordings.runs_under(row.id, None)
    beside = [other for other in await tx.recordings.of_session(session.id) if rules.is_running_one_of_ours(other)]
    await tx.recordings.add(
        session.id,
        row.id,
        event.recording_id,
        event.at,
        ending.AT_ONCE if beside else _look_after(session),
        failed=OTHER if beside else None,
    )


def _look_after(session: Session) -> timedelta:
    """What starts in a session that has ended, or is about to, is looked at soon."""
    return OVERDUE if session.end_requested_at is None else ending.FILE_EXPECTED


async def _recording_ready(tx: Transaction, session: Session, event: RecordingReady, patient: bool) -> bool:
    recording = await tx.recordings.by_daily_id(event.recording_id)
    if recording is None:
        rows = await tx.recordings.of_session(session.id)
        if patient and any(row.recording_id is None for row in rows):  # it may be one of these, as an event will tell
            return False
        await tx.recordings.add(session.id, None, event.recording_id, event.started_at or event.at, OVERDUE)
        recording = await tx.recordings.by_daily_id(event.recording_id)
    if recording is not None and recording.session_id == session.id:
        await tx.recordings.finish(
            recording.id, event.started_at, event.duration, event.s3_key, at=event.at, tolerance=ending.TOLERANCE
        )
    return True


async def _recording_failed(tx: Transaction, session: Session, event: RecordingFailed) -> None:
    instance = None if event.instance_id == DEFAULT_INSTANCE else event.instance_id
    for row in await tx.recordings.of_session(session.id):
        if row.instance_id == instance and (instance or row.status == RecordingStatus.PROCESSING):
            await tx.recordings.fail(row.id, event.reason, event.at)
