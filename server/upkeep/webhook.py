"""Daily's webhook, kept as it must be: at our url, with all events that we follow, and active.

A domain may have other applications with webhooks of their own: ours is known by its url, and no other is touched."""

import logging
from dataclasses import dataclass, field
from datetime import timedelta

from server import metrics
from server.daily.errors import DailyRefused
from server.daily.events import EVENT_TYPES
from server.daily.model import WebhookAtDaily
from server.usecases import rules
from server.usecases.service import Service
from storage.model import Chore
from storage.store import Transaction

logger = logging.getLogger(__name__)

PATH = "/webhooks/daily"
LOOK = timedelta(seconds=30)
"""How often it is looked at."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Daily is to send its events, and the base64 secret with which it signs them."""

    url: str
    secret: str = field(repr=False)


async def keep(webhook: Webhook, service: Service, chore: Chore, attempts: int) -> timedelta:
    ours, others = await _found(service, webhook)
    if ours is not None and _is_right(ours):
        await service.store.run(_seen_right, chore)
        return LOOK
    try:
        await _save(service, webhook, ours)
    except DailyRefused as refusal:
        owners = ", ".join(other.url for other in others) or "none"
        # At a start, nobody may be there yet to answer Daily.
        level = logging.WARNING if others or attempts > 1 else logging.INFO
        logger.log(level, "Daily does not take our webhook: %s; others of the domain: %s", refusal.info, owners)
        return LOOK
    metrics.repaired("webhook")
    logger.warning("put right kind='webhook' state=%s", "missing" if ours is None else ours.state)
    await service.store.run(_events_were_missing, chore)
    return LOOK


async def register(service: Service, webhook: Webhook) -> None:
    """Makes Daily send its events here; re-activates our webhook where there is one."""
    ours, _ = await _found(service, webhook)
    await _save(service, webhook, ours)


async def _save(service: Service, webhook: Webhook, ours: WebhookAtDaily | None) -> None:
    uuid = None if ours is None else ours.uuid
    await service.daily.save_webhook(uuid, url=webhook.url, secret=webhook.secret, event_types=EVENT_TYPES)


async def _found(service: Service, webhook: Webhook) -> tuple[WebhookAtDaily | None, list[WebhookAtDaily]]:
    """Ours, and those of others."""
    webhooks = await service.daily.webhooks()
    ours = next((one for one in webhooks if one.url == webhook.url), None)
    return ours, [one for one in webhooks if one is not ours]


def _is_right(webhook: WebhookAtDaily) -> bool:
    return webhook.state == "ACTIVE" and webhook.event_types >= EVENT_TYPES


async def _seen_right(tx: Transaction, chore: Chore) -> None:
    await tx.chores.done(chore, rules.taken_at(chore))


async def _events_were_missing(tx: Transaction, chore: Chore) -> None:
    """Since it was last seen right: what they would have told is read from Daily's records."""
    since = chore.done_until or rules.taken_at(chore)
    await tx.meetings.compare_again(since - LOOK)
    await tx.chores.look_back("meetings", since - LOOK)
    await tx.chores.done(chore, rules.taken_at(chore))
