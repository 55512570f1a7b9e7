"""The door for Daily's events: whose signature opens it, and what is no event."""

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
from server.errors import Unauthenticated
from server.usecases.webhooks import verify
from tests.clients import Rest, said
from tests.events import Webhook, event, signature
from tests.servers import serving

# Computed by Daily's rule with Python's hmac and with Node's crypto.
SECRET = "NQrSA5z0FkJ44QPrFerW7uCc5kdNLv3l2FDEKDanL1U="
TIMESTAMP = "1708526033"
SIGNATURE = "h5z+DQ84rH6/thgIpYgy+cu/hBMiHqSj//JJQz0Pj4c="
BODY = (
    b'{"version":"1.0.0","type":"meeting.started","id":"met-sta-f2aa1ade-ff80-464c-b46e-50ffa577d48d-1708526032",'
    b'"payload":{"start_ts":1708526032.672,"meeting_id":"f2aa1ade-ff80-464c-b46e-50ffa577d48d",'
    b'"room":"TrPmUX1DzjSwDaAFDfNj"},"event_ts":1708526033.049}'
)
NOT_VALID = {"error": "Unauthorized", "message": "The webhook's signature is not valid"}
TOO_OLD = {"error": "Unauthorized", "message": "The webhook's signature is too old"}


@pytest.fixture
def webhook(stack: Stack, rest: Rest, database: psycopg.Connection) -> Webhook:
    return Webhook(stack, rest, database)


def fresh(type: str = "test.kind", **payload: object) -> tuple[str, bytes]:
    """An event's id and its body."""
    told = event(type, payload)
    return told["id"], json.dumps(told).encode()


# The signature


def test_the_signature_of_dailys_own_vector_is_valid() -> None:
    verify(SECRET, SIGNATURE, TIMESTAMP, BODY, now=1708526034)


@pytest.mark.parametrize(
    ("secret", "timestamp", "body", "now"),
    [
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", TIMESTAMP, BODY, 1708526034),
        (None, TIMESTAMP, BODY, 1708526034),
        (SECRET, "1708526034", BODY, 1708526034),
        (SECRET, TIMESTAMP, BODY + b" ", 1708526034),
        (SECRET, TIMESTAMP, BODY, 1708526033 + 301),
        (SECRET, TIMESTAMP, BODY, 1708526033 - 301),
    ],
    ids=["another secret", "no secret", "another timestamp", "another body", "too late", "too early"],
)
def test_the_vector_is_not_valid_with(secret: str | None, timestamp: str, body: bytes, now: float) -> None:
    with pytest.raises(Unauthenticated):
        verify(secret, SIGNATURE, timestamp, body, now)


def test_an_event_with_a_good_signature_is_kept_and_applied(webhook: Webhook) -> None:
    id, body = fresh()
    assert said(webhook.post(body)) == (200, {})
    assert webhook.kept(id) == {"body": json.loads(body), "applied": True, "attempts": 0, "error": None}


def test_the_timestamp_may_be_in_milliseconds(webhook: Webhook) -> None:
    id, body = fresh()
    assert webhook.post(body, webhook.headers(body, str(time.time_ns() // 1_000_000))).status_code == 200
    assert webhook.kept(id)


def test_the_age_of_a_signature_may_be_five_minutes(webhook: Webhook) -> None:
    for seconds in (-290, 290):
        id, body = fresh()
        assert webhook.post(body, webhook.headers(body, str(int(time.time()) + seconds))).status_code == 200
        assert webhook.kept(id)


@pytest.mark.parametrize(
    "timestamp",
    [
        lambda now: str(now - 310),
        lambda now: str(now + 310),
        lambda now: str((now - 310) * 1000),
        lambda now: "nan",
        lambda now: "inf",
        lambda now: "today",
        lambda now: "",
    ],
    ids=["old", "future", "old milliseconds", "nan", "inf", "words", "empty"],
)
def test_a_stale_event_is_refused_and_not_kept(webhook: Webhook, timestamp: Callable[[int], str]) -> None:
    id, body = fresh()
    stamp = timestamp(int(time.time()))
    headers = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": signature(webhook.secret, stamp, body)}
    assert said(webhook.post(body, headers)) == (401, TOO_OLD)
    assert webhook.kept(id) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Webhook-Signature": signature(SECRET, str(int(time.time())), BODY)},
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
    assert kept["body"] == json.loads(body)


def test_over_grpc_too_an_event_over_one_mebibyte_is_refused(stub: LiveSessionsStub) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ReceiveDailyWebhook(ReceiveDailyWebhookRequest(body=HttpBody(data=b"x" * ((1 << 20) + 1))), timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The event is not JSON"),
        (b"meeting.started", "The event is not JSON"),
        (b'{"id":"1","type":"a"', "The event is not JSON"),
        (b'{"id":"\xff","type":"a"}', "The event is not JSON"),
        (b'{"id":"1","type":"a","payload":NaN}', "The event is not JSON"),
        (b'{"id":"1","type":"a","payload":-Infinity}', "The event is not JSON"),
        (b'{"id":"1","type":"a","payload":1e999}', "The event is not JSON"),
        (b'{"id":"1","type":"a","payload":' + b"9" * 10_000 + b"}", "The event is not JSON"),
        (b'{"id":"1","type":"a","payload":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "The event is not JSON"),
        (b'{"id":"1","type":"a","payload":' + b"[" * 900 + b"]" * 900 + b"}", "The event is not JSON"),
        (b"[]", "The event has no id or no type"),
        (b'"meeting.started"', "The event has no id or no type"),
        (b"null", "The event has no id or no type"),
        (b"{}", "The event has no id or no type"),
        (b'{"type":"meeting.started","payload":{}}', "The event has no id or no type"),
        (b'{"id":"1","payload":{}}', "The event has no id or no type"),
        (b'{"id":1,"type":"meeting.started"}', "The event has no id or no type"),
        (b'{"id":"","type":"meeting.started"}', "The event has no id or no type"),
        (b'{"id":"' + b"1" * 257 + b'","type":"meeting.started"}', "The event has no id or no type"),
        (b'{"id":"a\\u0000","type":"meeting.started"}', "The event's id and type must be printable"),
        (b'{"id":"a","type":"\\ud800"}', "The event's id and type must be printable"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_a_signed_body_that_is_no_event_is_a_bad_request(webhook: Webhook, body: bytes, message: str) -> None:
    assert said(webhook.post(body)) == (400, {"error": message})
