"""Delivers events to the webhook: in order, signed, with Daily's circuit breaker and the webhook faults."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import deque
from typing import Literal

import httpx

from .faults import Faults
from .state import JSON, Event, State, Webhook, new_id, now

TIMEOUT = 5.0
FAILURES_ALLOWED = 3
HELD_SECONDS = 1.0
Outcome = Literal["sent", "held", "dropped"]
ID_PREFIX = {
    "meeting.started": "met-sta",
    "meeting.ended": "met-end",
    "participant.joined": "ptcpt-join",
    "participant.left": "ptcpt-left",
    "recording.started": "rec-sta",
    "recording.ready-to-download": "rec-rtd",
    "recording.error": "rec-err",
}


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """X-Webhook-Signature for a BASE64 secret."""
    digest = hmac.new(base64.b64decode(secret), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


class Delivery:
    def __init__(self, state: State, faults: Faults) -> None:
        self._state = state
        self._faults = faults
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False)
        self.log: deque[JSON] = deque(maxlen=1000)

    async def ping(self, url: str) -> bool:
        """Daily's test message, which is not signed; whether the answer was 200."""
        return await self._post(url, b'{"test":"test"}', {}) == 200

    async def run(self) -> None:
        """Sends what `State.emit` told, for ever. An event that was held back follows the next one sent."""
        held: Event | None = None
        held_until: float | None = None
        async with self._client:
            while True:
                event = await self._next(held_until)
                outcome = await self._deliver(event, may_hold=held is None) if event else "sent"
                if outcome == "held":
                    held, held_until = event, asyncio.get_running_loop().time() + HELD_SECONDS
                elif outcome == "sent" and held:
                    await self._send(held, event_id(held, held.subject))
                    held = held_until = None

    async def _next(self, until: float | None) -> Event | None:
        try:
            async with asyncio.timeout_at(until):
                return await self._state.events.get()
        except TimeoutError:
            return None

    async def _deliver(self, event: Event, *, may_hold: bool) -> Outcome:
        webhook = self._state.webhook
        if webhook is None or event.type not in webhook.event_types:
            return "dropped"
        fault = self._faults.take_for_event(event.type) if webhook.state == "ACTIVE" else None
        name = fault.fault if fault else None
        first_id = event_id(event, event.subject)
        if name == "webhook_drop":
            self._note(event, first_id, "dropped")
            return "dropped"
        if name == "webhook_reorder" and may_hold:
            return "held"
        await self._send(event, first_id)
        if name == "webhook_duplicate":
            await self._send(event, event_id(event, new_id()))
        return "sent"

    async def _send(self, event: Event, id_: str) -> None:
        webhook = self._state.webhook
        if webhook is None or webhook.state != "ACTIVE":
            self._note(event, id_, "not sent")
            return
        message = {
            "version": "1.0.0",
            "type": event.type,
            "id": id_,
            "payload": event.payload,
            "event_ts": event.event_ts,
        }
        body = json.dumps(message, separators=(",", ":")).encode()
        timestamp = str(int(now()))
        signed = {
            "X-Webhook-Timestamp": timestamp,
            "X-Webhook-Signature": signature(webhook.hmac, timestamp, body),
        }
        status = await self._post(webhook.url, body, signed)
        self._note(event, id_, status or "no answer")
        self._count(webhook, failed=status != 200)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int | None:
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._client.post(
                    url, content=body, headers={"Content-Type": "application/json", **headers}
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None
        return answer.status_code

    def _count(self, webhook: Webhook, *, failed: bool) -> None:
        webhook.last_moment_pushed = now()
        webhook.failed_count = webhook.failed_count + 1 if failed else 0
        if webhook.failed_count >= FAILURES_ALLOWED:
            webhook.state = "FAILED"
        self._state.changed = True

    def _note(self, event: Event, id_: str, status: int | str) -> None:
        self.log.append({"type": event.type, "id": id_, "status": status, "room": event.room})


def event_id(event: Event, subject: str) -> str:
    return f"{ID_PREFIX[event.type]}-{subject}-{int(event.event_ts)}"
