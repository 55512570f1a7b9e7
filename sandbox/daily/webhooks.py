"""The domain's one webhook: create, read, update, delete. Delivery is in delivery.py."""

import base64
import secrets
from typing import Any

from . import checks
from .delivery import Delivery
from .errors import DailyError, invalid
from .faults import EVENT_TYPES
from .state import JSON, State, Webhook, iso, new_id, now


def _is_secret(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(base64.b64decode(value, validate=True))
    except ValueError:
        return False


BODY: dict[str, checks.Check] = {
    "url": ("an http or https URL", lambda v: isinstance(v, str) and v.startswith(("http://", "https://"))),
    "hmac": ("a BASE64 string", _is_secret),
    "eventTypes": (
        "a list of event types: " + ", ".join(EVENT_TYPES),
        lambda v: checks.is_strings(v) and set(v) <= set(EVENT_TYPES),
    ),
    "retryType": checks.one_of("circuit-breaker", "exponential"),
}


def view(webhook: Webhook, domain_id: str) -> JSON:
    pushed = webhook.last_moment_pushed
    return {
        "uuid": webhook.uuid,
        "url": webhook.url,
        "hmac": webhook.hmac,
        "state": webhook.state,
        "failedCount": webhook.failed_count,
        "lastMomentPushed": iso(pushed) if pushed else None,
        "domainId": domain_id,
        "createdAt": iso(webhook.created_at),
        "updatedAt": iso(webhook.updated_at),
        "eventTypes": webhook.event_types,
        "retryType": webhook.retry_type,
    }


async def create(state: State, delivery: Delivery, body: JSON) -> Webhook:
    checks.check(body, BODY)
    if "url" not in body:
        raise invalid("url is required")
    _check_only(state)
    await _ping(delivery, body["url"])
    _check_only(state)  # another one may have been created while the ping was under way
    moment = now()
    state.webhook = Webhook(
        uuid=new_id(),
        url=body["url"],
        hmac=body.get("hmac") or base64.b64encode(secrets.token_bytes(32)).decode(),
        event_types=body.get("eventTypes", list(EVENT_TYPES)),
        retry_type=body.get("retryType", "circuit-breaker"),
        created_at=moment,
        updated_at=moment,
    )
    return state.webhook


def find(state: State, uuid: str) -> Webhook:
    if state.webhook is None or state.webhook.uuid != uuid:
        raise DailyError(404, f"webhook {uuid} not found")
    return state.webhook


async def update(state: State, delivery: Delivery, uuid: str, body: JSON) -> Webhook:
    """Pings the url again; when it answers, the webhook is ACTIVE again with no failures."""
    webhook = find(state, uuid)
    checks.check(body, BODY)
    await _ping(delivery, body.get("url", webhook.url))
    webhook.url = body.get("url", webhook.url)
    webhook.hmac = body.get("hmac", webhook.hmac)
    webhook.event_types = body.get("eventTypes", webhook.event_types)
    webhook.retry_type = body.get("retryType", webhook.retry_type)
    webhook.state, webhook.failed_count, webhook.updated_at = "ACTIVE", 0, now()
    return webhook


def delete(state: State, uuid: str) -> JSON:
    find(state, uuid)
    state.webhook = None
    return {"deleted": True, "uuid": uuid}


def _check_only(state: State) -> None:
    if state.webhook is not None:
        raise invalid(f"the domain already has a webhook: {state.webhook.uuid}")


async def _ping(delivery: Delivery, url: str) -> None:
    if not await delivery.ping(url):
        raise invalid(f"non-200 status code returned from webhook endpoint {url}")
