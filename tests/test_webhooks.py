"""The door for Daily's events: whose signature opens it, and what is no event."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psycopg
import pytest
from google.api.httpbody_pb2 import HttpBody

from live_sessions.v1.service_pb2 import ReceiveDailyWebhookRequest
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import Rest, said
from tests.events import Webhook, event, signature
from tests.servers import serving

ANOTHER = signature("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "1708526033", b"{}")
NOT_VALID = {"error": "Unauthorized", "message": "The webhook's signature is not valid"}


@pytest.fixture
def webhook(stack: Stack, rest: Rest, database: psycopg.Connection) -> Webhook:
    return Webhook(stack, rest, database)


def fresh(type: str = "test.kind", **payload: object) -> tuple[str, bytes]:
    """An event's id and its body."""
    told = event(type, payload)
    return told["id"], json.dumps(told).encode()


# The signature


def test_an_event_with_a_good_signature_is_kept_and_applied(webhook: Webhook) -> None:
    id, body = fresh()
    assert said(webhook.post(body)) == (200, {})
    assert webhook.done(id) == {"body": body, "done": True, "attempts": 0, "error": None}


@pytest.mark.parametrize(
    "timestamp",
    [
        lambda now: str(now * 1000),
        lambda now: str(now - 86400),
        lambda now: str(now + 86400),
        lambda now: "nan",
        lambda now: "today",
        lambda now: "",
    ],
    ids=["milliseconds", "old", "future", "nan", "words", "empty"],
)
def test_an_event_that_is_signed_is_kept_however_old_or_odd_its_timestamp(
    webhook: Webhook, timestamp: Callable[[int], str]
) -> None:
    id, body = fresh()
    stamp = timestamp(int(time.time()))
    headers = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": signature(webhook.secret, stamp, body)}
    assert said(webhook.post(body, headers)) == (200, {})
    assert webhook.done(id)["body"] == body


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Webhook-Signature": ANOTHER},
        {"X-Webhook-Signature": ""},
        {"X-Webhook-Signature": None},
        {"X-Webhook-Timestamp": None},
        {"X-Webhook-Timestamp": None, "X-Webhook-Signature": None},
    ],
    ids=["another secret's", "empty", "no signature", "no timestamp", "neither"],
)
def test_an_event_without_a_good_signature_is_refused_and_not_kept(
    webhook: Webhook, headers: dict[str, str | None]
) -> None:
    id, body = fresh()
    given = {name: value for name, value in (webhook.headers(body) | headers).items() if value is not None}
    assert said(webhook.post(body, given)) == (401, NOT_VALID)
    assert webhook.kept(id) is None


def test_a_body_that_was_altered_is_refused_and_not_kept(webhook: Webhook) -> None:
    id, body = fresh(room="ours")
    altered = body.replace(b"ours", b"else")
    assert said(webhook.post(altered, webhook.headers(body))) == (401, NOT_VALID)
    assert webhook.kept(id) is None


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"test":"text"}', b'{"test":"test","id":"1"}'])
def test_an_unsigned_body_is_refused_whatever_it_is(webhook: Webhook, body: bytes) -> None:
    assert said(webhook.post(body, {})) == (401, NOT_VALID)


@pytest.mark.parametrize("body", [b'{"test":"test"}', b'{ "test": "test" }\n'])
def test_dailys_test_ping_needs_no_signature(webhook: Webhook, body: bytes) -> None:
    assert said(webhook.post(body, {})) == (200, {})


def test_a_server_without_the_secret_takes_no_event_at_all(stack: Stack, tmp_path: Path) -> None:
    _, body = fresh()
    settings = {k: v for k, v in stack.environment.items() if k != "LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"}
    stamp = str(int(time.time()))
    metadata = (("x-webhook-timestamp", stamp), ("x-webhook-signature", signature("", stamp, body)))
    with serving(settings, tmp_path / "server.log") as server, grpc.insecure_channel(server.address) as channel:
        refused = LiveSessionsStub(channel).ReceiveDailyWebhook.future(
            ReceiveDailyWebhookRequest(body=HttpBody(data=body)), metadata=metadata, timeout=10
        )
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED


# What is no event


def test_a_body_over_one_mebibyte_is_too_large(webhook: Webhook) -> None:
    _, body = fresh(filler="x" * (1 << 20))
    status, answer = said(webhook.post(body))
    assert (status, answer["error"]) == (413, "Payload Too Large")


def test_an_event_of_900_kilobytes_is_kept(webhook: Webhook) -> None:
    id, body = fresh(filler="x" * 900_000)
    assert webhook.post(body).status_code == 200
    kept = webhook.kept(id)
    assert kept is not None
    assert kept["body"] == body


def test_over_grpc_too_an_event_over_one_mebibyte_is_refused(stub: LiveSessionsStub) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ReceiveDailyWebhook(ReceiveDailyWebhookRequest(body=HttpBody(data=b"x" * ((1 << 20) + 1))), timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"meeting.started",
        b'{"id":"1","type":"meeting.started"',
        b'{"id":"\xff","type":"meeting.started"}',
        b'{"id":"1","type":"meeting.started","payload":' + b"9" * 10_000 + b"}",
        b'{"id":"1","type":"meeting.started","payload":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"[]",
        b'"meeting.started"',
        b"null",
        b'{"type":"meeting.started","payload":{}}',
        b'{"id":1,"type":"meeting.started"}',
        b'{"id":"","type":"meeting.started"}',
        b'{"id":"' + b"1" * 257 + b'","type":"meeting.started"}',
        b'{"id":"a\\u0000","type":"meeting.started"}',
        b'{"id":"\\ud800","type":"meeting.started"}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_signed_body_that_is_no_event_is_taken_kept_and_given_up(webhook: Webhook, body: bytes) -> None:
    assert said(webhook.post(body)) == (200, {})
    kept = webhook.done(f"sha256:{hashlib.sha256(body).hexdigest()}")
    assert kept["body"] == body
    assert "Unreadable" in kept["error"]


@pytest.mark.parametrize("body", [b"{}", b'{"payload":{"room":"nobody-knows-it"}}', b'{"type":7}'], ids=repr)
def test_a_signed_event_of_no_kind_is_taken_kept_and_done_with(webhook: Webhook, body: bytes) -> None:
    assert said(webhook.post(body)) == (200, {})
    kept = webhook.done(f"sha256:{hashlib.sha256(body).hexdigest()}")
    assert (kept["body"], kept["error"]) == (body, None)
