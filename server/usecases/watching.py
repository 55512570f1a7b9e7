"""Following sessions: what is so now, and then each change, told to whoever may see it.

One reader asks PostgreSQL, some times a second and only while anybody follows anything, what was committed in the
sessions that are followed in this process. What it finds is chained to the session's channel, and made into a message
once for all. A watcher is a place in such a chain: nobody has a queue of their own, and what all have passed is gone.
Who begins, who falls far behind, and everybody when events may have been missed, reads from PostgreSQL what came after
the last revision that they were told; the place is taken before that, so nothing can come between."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime
from uuid import UUID

from server import metrics
from server.caller import Caller
from server.errors import StreamEnded
from server.usecases import rules
from storage.errors import StorageError
from storage.model import Follow, Participant, Present, Recording, SessionEvent, SessionRow
from storage.store import Store

logger = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between looks at what was committed."""
AFTER_AN_OUTAGE = 1.0
HEARTBEAT = 15.0
"""Seconds in which every watcher is told something."""
AGE = 3600.0
"""Seconds that a stream may last, so that watchers come to be shared with servers that are new."""
FAR_BEHIND = 1000
"""Events that a channel keeps for its slowest watcher."""
SPREAD, STEPS, AT_ONCE = 0.1, 50, 32
"""Seconds over which those are woken who are told something by one look, in so many steps at the most, and how many in
one step at the least: some 2 ms. Other calls have their turn in between."""
CLOSED = "session.closed"
COME_BACK = "The stream ends here: come back with the last revision"

Noun = SessionRow | Participant | Recording
Encode = Callable[[int, datetime, Noun | None], bytes]
"""The message of a revision and its time; without a noun a heartbeat."""


class Told:
    """An event and, once there is one, what was told after it. Without an event: some may have been missed here."""

    __slots__ = ("_message", "event", "next", "number")

    def __init__(self, number: int, event: SessionEvent | None) -> None:
        self.number = number
        self.event = event
        self.next: Told | None = None
        self._message: bytes | None = None

    def message(self, event: SessionEvent, encode: Encode) -> bytes:
        if self._message is None:
            self._message = encode(event.revision, event.at, event.state)
        return self._message


class Channel:
    """What is told of one session, to all who follow it here."""

    def __init__(self) -> None:
        self.watchers = 0
        self.ended = False
        self.last = Told(0, None)
        self._revision = 0
        self.waiting: set[asyncio.Future[None]] = set()

    def tell(self, event: SessionEvent | None) -> None:
        """None: some events may have been missed."""
        if event is not None and event.revision <= self._revision:
            return  # the reader sees some events twice
        self._revision = 0 if event is None else event.revision
        self.last.next = self.last = Told(self.last.number + 1, event)

    def end(self) -> None:
        self.ended = True
        for waiting in self.waiting:
            _set(waiting)

    async def wait(self, until: float) -> None:
        """For something to be told, or the end."""
        if self.ended:
            return
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        timer = loop.call_at(until, _set, waiting)
        self.waiting.add(waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            self.waiting.discard(waiting)


def _set(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _wake(channels: Iterable[Channel]) -> None:
    """All who wait there for what was told."""
    waiting = [each for channel in channels for each in channel.waiting]
    in_one_step = max(AT_ONCE, -(-len(waiting) // STEPS))
    for start in range(0, len(waiting), in_one_step):
        if start:
            await asyncio.sleep(SPREAD * in_one_step / len(waiting))
        for each in waiting[start : start + in_one_step]:
            _set(each)


class Watcher:
    """Who follows a session: how far they have been told, and their place in its channel."""

    __slots__ = ("_channel", "_encode", "_ends_at", "_everything", "_over", "_place", "_quiet_until", "_reached")

    def __init__(self, channel: Channel, encode: Encode, everything: bool, reached: int) -> None:
        self._channel, self._encode = channel, encode
        self._everything, self._reached = everything, reached
        self._over = False
        self._ends_at = _time() + AGE * random.uniform(0.9, 1)  # noqa: S311 - no secret
        self._quiet_until: float | None = None
        """By when they are told something again; None while they were told nothing."""

    async def messages(self, read: Callable[[int], Awaitable[Present]]) -> AsyncIterator[bytes]:
        """`read` is what there is after a revision. Ends with the session. Raises StreamEnded."""
        while not self._over:
            self._place = self._channel.last  # before it is read: what is told meanwhile stands behind this place
            present = await read(self._reached)
            for message in self._new(present):
                yield self._sent(message)
            if self._reached != present.revision:
                continue  # one answer does not tell all
            if present.closed:
                return
            if self._quiet_until is None:
                yield self._sent(self._heartbeat())
            async for message in self._follow():
                yield self._sent(message)

    def _new(self, present: Present) -> Iterator[bytes]:
        if present.missed is not None:
            for event in present.missed:
                self._reached = event.revision
                if self._may_see(event):
                    yield self._encode(event.revision, event.at, event.state)
        elif self._quiet_until is None or self._reached != present.revision:
            nouns: list[Noun] = [present.session, *filter(None, [present.recording]), *present.inside]
            now = datetime.now(UTC)
            for noun in nouns[:-1]:  # whoever is told of these alone begins anew
                yield self._encode(0, now, noun)
            self._reached = present.revision
            yield self._encode(present.revision, now, nouns[-1])

    async def _follow(self) -> AsyncIterator[bytes]:
        """Until the session is over, or something may have been missed."""
        while self._channel.last.number - self._place.number < FAR_BEHIND:
            told = self._place.next
            if told is None:
                await self._wait()
                if _time() >= (self._quiet_until or 0):
                    yield self._heartbeat()
                continue
            self._place, event = told, told.event
            if event is None or event.revision > self._reached + 1:
                return
            if event.revision <= self._reached:
                continue
            self._reached = event.revision
            if event.type == CLOSED:
                self._over = True
                return
            if self._may_see(event):
                yield told.message(event, self._encode)

    async def _wait(self) -> None:
        until = min(self._ends_at, self._quiet_until or 0)
        await self._channel.wait(until)
        if self._channel.ended or _time() >= self._ends_at:
            raise StreamEnded(COME_BACK)

    def _may_see(self, event: SessionEvent) -> bool:
        return event.type != CLOSED and (self._everything or isinstance(event.state, SessionRow))

    def _heartbeat(self) -> bytes:
        return self._encode(self._reached, datetime.now(UTC), None)

    def _sent(self, message: bytes) -> bytes:
        self._quiet_until = _time() + HEARTBEAT * random.uniform(0.8, 1)  # noqa: S311 - no secret
        return message


class Watching:
    def __init__(self, store: Store, encode: Encode) -> None:
        self._store = store
        self._encode = encode
        self._channels: dict[UUID, Channel] = {}
        self._reader: asyncio.Task[None] | None = None
        self._ended = False

    def end(self) -> None:
        """All who follow anything are to go to another server, and so is whoever comes."""
        self._ended = True
        for channel in self._channels.values():
            channel.end()

    async def watch(self, caller: Caller | None, room_name: str, after_revision: int) -> AsyncIterator[bytes]:
        """Ends when there is nothing more to come. Raises StreamEnded when there is, elsewhere."""
        session = rules.found(await self._store.session(room_name))
        if self._ended:
            raise StreamEnded(COME_BACK)
        everything = caller is not None and caller.id == session.created_by

        async def read(reached: int) -> Present:
            return rules.found(await self._store.events.present(Follow(room_name, reached, everything)))

        with self._channel(UUID(session.id)) as channel:
            async for message in Watcher(channel, self._encode, everything, after_revision).messages(read):
                yield message

    @contextmanager
    def _channel(self, session_id: UUID) -> Iterator[Channel]:
        channel = self._channels.setdefault(session_id, Channel())
        channel.watchers += 1
        metrics.WATCHERS.inc()
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), context=Context())  # it is no part of this call
        try:
            yield channel
        finally:
            channel.watchers -= 1
            metrics.WATCHERS.dec()
            if not channel.watchers:
                del self._channels[session_id]

    async def _read(self) -> None:
        """While anybody follows anything."""
        since: str | None = None
        try:
            while self._channels:
                next_look = _time() + LOOK
                since = await self._look(since)
                await asyncio.sleep(AFTER_AN_OUTAGE if since is None else next_look - _time())
        finally:
            self._reader = None

    async def _look(self, since: str | None) -> str | None:
        """What the next look goes on from; None where something may have been missed, and all are to catch up."""
        watched = list(self._channels)
        try:
            look, events = await self._store.events.committed(since, watched)
        except StorageError as problem:
            if since is not None:
                logger.warning("events cannot be read: %s", problem)
            return None
        except Exception:  # a defect, which must not leave everybody untold for good
            logger.exception("events cannot be read")
            return None
        grown = not self._channels.keys() <= set(watched)
        told: list[tuple[Channel, SessionEvent | None]]
        if since is None:
            told = [(channel, None) for channel in self._channels.values()]
        else:
            told = [(self._channels[each.session_id], each) for each in events if each.session_id in self._channels]
        for channel, event in told:
            channel.tell(event)
        await _wake(dict.fromkeys(channel for channel, _ in told))
        # Who came during this look may have been told what was so before it: the next one looks from where it did.
        return since if since is not None and grown else look


def _time() -> float:
    return asyncio.get_running_loop().time()
