"""Delivers events to the webhooks: in order, signed, with Daily's circuit breaker and the webhook faults."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import defaultdict, deque
from dataclasses import replace
from functools import partial

import httpcore

from .faults import Faults
from .model import EVENT_TYPES, JSON, Event, Webhook, event_id, new_id, now
from .state import State

TIMEOUT = 5.0
FAILURES_ALLOWED = 3
HELD_SECONDS = 1.0
NO_ANSWER = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """X-Webhook-Signature for a BASE64 secret."""
    digest = hmac.new(base64.b64decode(secret), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


class Delivery:
    """Each webhook has a queue of its own, so that one that does not answer keeps no other waiting."""

    def __init__(self, state: State, faults: Faults) -> None:
        self._state = state
        self._faults = faults
        self._connections = httpcore.AsyncConnectionPool()
        self._waiting: dict[str, deque[Event]] = defaultdict(deque)
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._held: Event | None = None
        self.log: deque[JSON] = deque(maxlen=1000)

    async def ping(self, url: str, secret: str) -> bool:
        """Daily's test message; whether the answer was 200."""
        return await self._post(url, secret, b'{"test":"test"}') == 200

    async def close(self) -> None:
        for sender in self._senders.values():
            sender.cancel()
        await asyncio.gather(*self._senders.values(), return_exceptions=True)
        await self._connections.aclose()

    def take(self, event: Event) -> None:
        """Sends what happened, or what a fault makes of it. An event that was held back follows the next one."""
        webhooks = [one for one in self._state.webhooks.values() if _wants(one, event)]
        active = any(one.state == "ACTIVE" for one in webhooks)
        fault = self._faults.take_for_event(event.type, event.room) if active else None
        match fault.fault if fault else None:
            case "webhook_drop":
                self._note(None, event, "dropped")
                return
            case "webhook_delay":
                assert fault is not None
                asyncio.get_running_loop().call_later(fault.seconds or 0, self._send, event)
                return
            case "webhook_reorder" if self._held is None:
                self._held = event
                asyncio.get_running_loop().call_later(HELD_SECONDS, self._release, event)
                return
            case "webhook_duplicate":
                self._send(event)
                self._send(_under_another_id(event))
            case _:
                self._send(event)
        if webhooks and self._held:
            self._release(self._held)

    def _release(self, held: Event) -> None:
        if self._held is held:
            self._held = None
            self._send(held)

    def _send(self, event: Event) -> None:
        for webhook in self._state.webhooks.values():
            if _wants(webhook, event):
                self._waiting[webhook.uuid].append(event)
                if webhook.uuid not in self._senders:
                    sender = asyncio.create_task(self._empty(webhook))
                    sender.add_done_callback(partial(self._forget, webhook.uuid))
                    self._senders[webhook.uuid] = sender

    def _forget(self, uuid: str, _: "asyncio.Task[None]") -> None:
        del self._senders[uuid]

    async def _empty(self, webhook: Webhook) -> None:
        waiting = self._waiting[webhook.uuid]
        while waiting:
            some = [waiting.popleft() for _ in range(min(len(waiting), self._state.settings.deliveries_at_once))]
            await asyncio.gather(*(self._deliver(webhook, event) for event in some))

    async def _deliver(self, webhook: Webhook, event: Event) -> None:
        if webhook.state != "ACTIVE" or webhook.uuid not in self._state.webhooks:
            self._note(webhook, event, "not sent")
            return
        body = json.dumps(event.message, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
        status = await self._post(webhook.url, webhook.hmac, body)
        self._note(webhook, event, status or "no answer")
        self._count(webhook, failed=status != 200)

    async def _post(self, url: str, secret: str, body: bytes) -> int | None:
        timestamp = str(int(now()))
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/json",
            "X-Webhook-Timestamp": timestamp,
            "X-Webhook-Signature": signature(secret, timestamp, body),
        }
        try:
            async with asyncio.timeout(TIMEOUT):
                return (await self._connections.request("POST", url, headers=headers, content=body)).status
        except (*NO_ANSWER, TimeoutError, ValueError):
            return None

    def _count(self, webhook: Webhook, *, failed: bool) -> None:
        webhook.last_moment_pushed = now()
        webhook.failed_count = webhook.failed_count + 1 if failed else 0
        if webhook.failed_count >= FAILURES_ALLOWED:
            webhook.state = "FAILED"
        self._state.changed = True

    def _note(self, webhook: Webhook | None, event: Event, status: int | str) -> None:
        self.log.append(
            {
                "type": event.type,
                "id": event.message.get("id"),
                "about": event.about,
                "status": status,
                "room": event.room,
                "webhook": webhook.uuid if webhook else None,
            }
        )


def _wants(webhook: Webhook, event: Event) -> bool:
    return event.type in webhook.event_types or event.type not in EVENT_TYPES


def _under_another_id(event: Event) -> Event:
    id = event_id(event.type, new_id(), int(now())) if event.type in EVENT_TYPES else new_id()
    return replace(event, message=event.message | {"id": id})
