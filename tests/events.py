"""Daily's webhook events, written and signed by hand."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import httpx
import psycopg

from sandbox.stack import Stack
from tests.clients import Rest, eventually

PATH = "/webhooks/daily"
CLASS = 1766761200.0
"""When the classes of these events began, in Daily's unix seconds: 2025-12-26T15:00:00.000Z."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    digest = hmac.new(base64.b64decode(secret), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def event(type: str, payload: dict[str, Any], id: str | None = None, at: float = CLASS) -> dict[str, Any]:
    """As Daily writes it, told `at`."""
    return {"version": "1.0.0", "type": type, "id": id or str(uuid.uuid4()), "payload": payload, "event_ts": at}


class Webhook:
    """Daily's side of the stack's webhook, and a look at what became of an event."""

    def __init__(self, stack: Stack, rest: Rest, database: psycopg.Connection) -> None:
        self.secret = stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]
        self._rest = rest
        self._database = database

    def headers(self, body: bytes, timestamp: str | None = None) -> dict[str, str]:
        timestamp = timestamp or str(int(time.time()))
        return {
            "X-Webhook-Timestamp": timestamp,
            "X-Webhook-Signature": signature(self.secret, timestamp, body),
            "Content-Type": "application/json",
        }

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """Signed now, unless other headers are given."""
        return self._rest.call("POST", PATH, content=body, headers=self.headers(body) if headers is None else headers)

    def send(self, type: str, payload: dict[str, Any], id: str | None = None, at: float = CLASS) -> str:
        """Delivers an event, which is taken, and answers its id."""
        told = event(type, payload, id, at)
        answer = self.post(json.dumps(told).encode())
        assert (answer.status_code, answer.text) == (200, "{}")
        return str(told["id"])

    def tell(self, type: str, payload: dict[str, Any], id: str | None = None, at: float = CLASS) -> str:
        """Delivers an event, and waits until it is applied; its id."""
        sent = self.send(type, payload, id, at)
        kept = self.done(sent)
        assert kept["error"] is None, kept
        return sent

    def kept(self, id: str) -> dict[str, Any] | None:
        """The event in the inbox: its body as it came, whether anything is still to be done with it, how often that
        failed and why."""
        query = "SELECT body, due_at IS NULL, attempts, error FROM daily_events WHERE id = %s"
        row = self._database.execute(query, [id]).fetchone()
        return None if row is None else dict(zip(("body", "done", "attempts", "error"), row, strict=True))

    def done(self, id: str) -> dict[str, Any]:
        """The event, once nothing is to be done with it any more."""
        return eventually(lambda: kept if (kept := self.kept(id)) and kept["done"] else {})

    def put_off(self, id: str) -> dict[str, Any]:
        """The event, once it was tried in vain."""
        return eventually(lambda: kept if (kept := self.kept(id)) and kept["error"] else {})
