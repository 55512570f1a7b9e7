"""Session events on their way to the product's back end: each is posted until it is taken, or has been tried for three
days.

A session's outbox is the item of the queue: some of what it holds is sent, and then it stands behind those of the other
sessions again. What is under way when the process dies is sent once more, under the same id."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from server import metrics
from server.errors import ServiceError
from server.receiver import NotTaken, Receiver
from server.upkeep import queue
from server.usecases import rules
from server.usecases.service import Service
from storage.model import Delivery, DeliveryRow, Outbox, Participant, Recording, Sent, SessionRow
from storage.queue import Line
from storage.store import Transaction

logger = logging.getLogger(__name__)

OF_A_SESSION = 4
"""What is sent of one session at the same time."""
LISTED = 100
"""What a list shows at the most."""
BATCH = 1000
"""What one transaction sends again at the most."""
AT_ONCE = queue.AT_ONCE * OF_A_SESSION
"""Messages of a process that are under way at the most."""
PAUSES = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
]
"""After each try that failed; after the last one it is given up."""
JITTER = 0.2
"""By so much of itself a pause is longer at the most, so that what failed together does not come again together."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The product's: where messages are sent, and what makes the resource in them, under its name and as REST shows
    it."""

    receiver: Receiver
    show: Callable[[SessionRow | Participant | Recording], Mapping[str, Any]]


async def run(service: Service, backend: Backend) -> None:
    """Until the receiver wants nothing any more, which holds for this process until it is started anew."""
    async with asyncio.TaskGroup() as parts:
        serving = parts.create_task(queue.serve(service, Line.OUTBOXES, partial(deliver, backend)))
        await backend.receiver.gone.wait()
        serving.cancel()
    logger.error("deliveries stop until the next start: the receiver answered 410")


async def deliver(backend: Backend, service: Service, outbox: Outbox, attempts: int) -> timedelta | None:
    if pause := backend.receiver.quiet_for:
        return pause
    due = await service.store.run(_take, outbox)
    sent = await asyncio.gather(*(_send(backend, one) for one in due))
    for one in sent:
        metrics.delivery("delivered" if one.error is None else "put_off" if one.pause else "given_up")
    return await service.store.run(_note, outbox, sent)


async def _take(tx: Transaction, outbox: Outbox) -> list[Delivery]:
    return await tx.deliveries.take(outbox.id, OF_A_SESSION, rules.LEASE)


async def _note(tx: Transaction, outbox: Outbox, sent: list[Sent]) -> timedelta | None:
    await tx.deliveries.note(sent)
    return await tx.deliveries.next_due(outbox.id)


async def _send(backend: Backend, delivery: Delivery) -> Sent:
    """Never raises: what is the matter with one message keeps no other waiting."""
    try:
        await backend.receiver.send(delivery.id, _body(backend, delivery))
    except NotTaken as problem:
        return _failed(delivery, problem)
    except Exception:
        logger.exception("delivery failed id=%s", delivery.id)
        return _failed(delivery, NotTaken("a defect of ours"))
    return Sent(delivery, error=None)


def _failed(delivery: Delivery, problem: NotTaken) -> Sent:
    what = (delivery.event.type, delivery.id, delivery.attempts, problem.reason)
    if delivery.attempts > len(PAUSES):
        logger.error("delivery given up type=%s id=%s attempts=%d: %s", *what)
        return Sent(delivery, problem.reason)
    logger.warning("delivery put off type=%s id=%s attempts=%d: %s", *what)
    pause = PAUSES[delivery.attempts - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 - no secret
    return Sent(delivery, problem.reason, max(pause, problem.retry_after or pause))


def _body(backend: Backend, delivery: Delivery) -> bytes:
    event = delivery.event
    data = {"revision": event.revision, "sessionName": delivery.room_name, **backend.show(event.state)}
    at = event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {"type": event.type, "timestamp": at, "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


# For operators


async def latest(service: Service, *, only_failed: bool) -> list[DeliveryRow]:
    """Newest first."""

    async def read(tx: Transaction) -> list[DeliveryRow]:
        return await tx.deliveries.latest(LISTED, only_failed=only_failed)

    return await service.store.run(read)


async def send_again(service: Service, id: UUID) -> None:
    """Raises ServiceError when there is none."""

    async def again(tx: Transaction) -> int:
        return await tx.deliveries.send_again([id])

    if not await service.store.run(again):
        raise ServiceError(f"there is no delivery {id}")


async def send_again_since(service: Service, time: datetime, *, only_failed: bool) -> int:
    """All, or those that were given up, of what was committed since then; some at a time, and nothing that comes behind
    the last of them. Returns how many."""
    after, count = (time, UUID(int=0)), 0

    async def again(tx: Transaction) -> list[tuple[datetime, UUID]]:
        some = await tx.deliveries.since(after, BATCH, only_failed=only_failed)
        await tx.deliveries.send_again([id for _, id in some])
        return some

    while True:
        some = await service.store.run(again)
        count += len(some)
        if len(some) < BATCH:
            return count
        after = some[-1]
