"""The domain's webhooks: create, read, update, delete. Delivery is in delivery.py."""

import base64
import secrets
from typing import Any

from . import checks
from .delivery import Delivery
from .errors import DailyError, invalid
from .model import EVENT_TYPES, JSON, Webhook, iso, new_id, now
from .state import State


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


def view(state: State, webhook: Webhook) -> JSON:
    pushed = webhook.last_moment_pushed
    shown = {
        "uuid": webhook.uuid,
        "url": webhook.url,
        "hmac": webhook.hmac,
        "state": webhook.state,
        "failedCount": webhook.failed_count,
        "lastMomentPushed": iso(pushed) if pushed else None,
        "domainId": state.domain_id,
        "createdAt": iso(webhook.created_at),
        "updatedAt": iso(webhook.updated_at),
        "eventTypes": webhook.event_types,
        "retryType": webhook.retry_type,
    }
    return state.odd.shown(shown, "webhook", webhook.uuid)


async def create(state: State, delivery: Delivery, body: JSON) -> Webhook:
    checks.check(body, BODY)
    if "url" not in body:
        raise invalid("url is required")
    _check_number(state)
    webhook = _new(body)
    await _ping(delivery, webhook.url, webhook.hmac)
    _check_number(state)  # another one may have been created while the ping was under way
    state.webhooks[webhook.uuid] = webhook
    return webhook


def create_foreign(state: State, url: str) -> Webhook:
    """Another application's, which answers or not."""
    webhook = _new({"url": url})
    state.webhooks[webhook.uuid] = webhook
    return webhook


def find(state: State, uuid: str) -> Webhook:
    if webhook := state.webhooks.get(uuid):
        return webhook
    raise DailyError(404, f"webhook {uuid} not found")


async def update(state: State, delivery: Delivery, uuid: str, body: JSON) -> Webhook:
    """Pings the url again; when it answers, the webhook is ACTIVE again with no failures."""
    webhook = find(state, uuid)
    checks.check(body, BODY)
    await _ping(delivery, body.get("url", webhook.url), body.get("hmac", webhook.hmac))
    _change(webhook, body)
    webhook.state, webhook.failed_count, webhook.updated_at = "ACTIVE", 0, now()
    return webhook


def put(state: State, uuid: str, body: JSON) -> Webhook:
    """Changes it behind everybody's back: no ping, and `state` may be given."""
    webhook = find(state, uuid)
    checks.check(body, BODY | {"state": checks.one_of("ACTIVE", "FAILED", "INACTIVE")})
    _change(webhook, body)
    webhook.state = body.get("state", webhook.state)
    return webhook


def delete(state: State, uuid: str) -> JSON:
    find(state, uuid)
    del state.webhooks[uuid]
    return {"deleted": True, "uuid": uuid}


def _new(body: JSON) -> Webhook:
    moment = now()
    return Webhook(
        uuid=new_id(),
        url=body["url"],
        hmac=body.get("hmac") or base64.b64encode(secrets.token_bytes(32)).decode(),
        event_types=body.get("eventTypes", list(EVENT_TYPES)),
        retry_type=body.get("retryType", "circuit-breaker"),
        created_at=moment,
        updated_at=moment,
    )


def _change(webhook: Webhook, body: JSON) -> None:
    webhook.url = body.get("url", webhook.url)
    webhook.hmac = body.get("hmac", webhook.hmac)
    webhook.event_types = body.get("eventTypes", webhook.event_types)
    webhook.retry_type = body.get("retryType", webhook.retry_type)


def _check_number(state: State) -> None:
    allowed = state.settings.max_webhooks
    if len(state.webhooks) >= allowed:
        uuids = ", ".join(state.webhooks)
        raise invalid(f"the domain already has a webhook: {uuids} (at most {allowed})")


async def _ping(delivery: Delivery, url: str, secret: str) -> None:
    if not await delivery.ping(url, secret):
        raise invalid(f"non-200 status code returned from webhook endpoint {url}")
