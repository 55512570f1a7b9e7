"""What keeps the rows true when nobody calls: each process works the queue of what is due, and applies
Daily's events."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from server.upkeep import (
    attendance,
    deliveries,
    housekeeping,
    inbox,
    moderation,
    queue,
    recordings,
    rooms,
    sessions,
    webhook,
)
from server.upkeep.queue import Work
from server.usecases.service import Service
from storage.queue import Line

logger = logging.getLogger(__name__)

BEGIN_ANEW = 1.0


async def run(
    service: Service, daily_webhook: webhook.Webhook | None, backend: deliveries.Backend | None = None
) -> None:
    """Until cancelled. `daily_webhook` is kept right at Daily; the product's back end is told what happens."""
    chores: dict[str, Work] = {"meetings": attendance.sweep, "forget": housekeeping.forget}
    if daily_webhook is not None:
        chores["webhook"] = partial(webhook.keep, daily_webhook)
    works: Mapping[Line, Work] = {
        Line.ENDS: sessions.end,
        Line.CLOSINGS: sessions.close,
        Line.SESSIONS: rooms.look_after,
        Line.MODERATIONS: moderation.look_after,
        Line.STARTS: recordings.finish_start,
        Line.RECORDINGS: recordings.look_after,
        Line.MEETINGS: attendance.compare,
        Line.CHORES: partial(housekeeping.do, chores),
    }
    while True:
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(queue.run(service, works))
                parts.create_task(inbox.run(service))
                if backend is not None:
                    parts.create_task(deliveries.run(service, backend))
                parts.create_task(housekeeping.add(service, list(chores)))
        except Exception:  # a defect, which must not end upkeep for the rest of the process's life
            logger.exception("upkeep begins anew")
            await asyncio.sleep(BEGIN_ANEW)
