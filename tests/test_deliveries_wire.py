"""A webhook on its way to the product's back end: how it is signed, and every way in which it may be answered."""

import base64
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from uuid import UUID

import pytest
from standardwebhooks import WebhookVerificationError

from server import receiver as wire
from server.receiver import NotTaken, Receiver
from tests import backend as its
from tests.backend import SECRET, Backend, Message, backend, status
from tests.tls import make_certificate

ID = UUID("5d494bc7-f5d7-4803-8dd9-47bb0d487635")
BODY = '{"type":"session.live","data":{"courseId":"Größe"}}'.encode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of some length").decode()


def key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


@pytest.fixture
def product() -> Iterator[Backend]:
    with backend() as running:
        yield running


@pytest.fixture
async def receiver(product: Backend) -> AsyncIterator[Receiver]:
    to = Receiver(product.url, [key(SECRET)], 4)
    yield to
    await to.close()


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TIME_LIMIT", 0.5)
    monkeypatch.setattr(wire, "BODY_TIME", 0.2)


async def refusal(receiver: Receiver) -> NotTaken:
    with pytest.raises(NotTaken) as refused:
        await receiver.send(ID, BODY)
    return refused.value


# Signed


async def test_a_message_is_posted_as_json_under_its_id_and_signed(product: Backend, receiver: Receiver) -> None:
    await receiver.send(ID, BODY)
    [message] = product.messages
    assert (message.path, message.headers["content-type"]) == ("/hooks/", "application/json")
    assert message.headers["webhook-id"] == str(ID)
    assert abs(int(message.headers["webhook-timestamp"]) - time.time()) < 5
    assert message.body == BODY
    assert message.verified() == {"type": "session.live", "data": {"courseId": "Größe"}}


async def test_while_a_secret_is_changed_both_verify_and_no_other_does(product: Backend) -> None:
    to = Receiver(product.url, [key(OTHER_SECRET), key(SECRET)], 4)
    await to.send(ID, BODY)
    await to.close()
    [message] = product.messages
    assert [one.split(",")[0] for one in message.headers["webhook-signature"].split(" ")] == ["v1", "v1"]
    assert message.verified(SECRET) == message.verified(OTHER_SECRET)
    with pytest.raises(WebhookVerificationError):
        message.verified("whsec_" + base64.b64encode(bytes(24)).decode())


async def test_a_changed_body_does_not_verify(product: Backend, receiver: Receiver) -> None:
    await receiver.send(ID, BODY)
    [message] = product.messages
    with pytest.raises(WebhookVerificationError):
        Message(message.path, message.headers, message.body.replace(b"live", b"dead")).verified()


async def test_a_user_and_password_in_the_url_are_sent_as_such(product: Backend) -> None:
    to = Receiver(product.url.replace("http://", "http://ada:pass-1f@"), [key(SECRET)], 4)
    await to.send(ID, BODY)
    await to.close()
    [message] = product.messages
    assert message.headers["authorization"] == "Basic " + base64.b64encode(b"ada:pass-1f").decode()


# Taken


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_every_success_is_one(product: Backend, receiver: Receiver, code: int) -> None:
    product.answer = lambda _: status(code)
    await receiver.send(ID, BODY)


async def test_a_connection_is_used_again(product: Backend, receiver: Receiver) -> None:
    product.answer = lambda _: status(200, b"thank you")
    for _ in range(3):
        await receiver.send(ID, BODY)
    assert (len(product.messages), len(product.connections)) == (3, 1)


async def test_an_answer_whose_body_has_a_gib_is_taken_and_not_read(product: Backend, receiver: Receiver) -> None:
    product.answer = lambda _: its.endless_body
    await receiver.send(ID, BODY)
    assert product.sent_bytes < 64 << 20  # what the sockets' buffers hold


@pytest.mark.usefixtures("short_limit")
async def test_an_answer_that_never_ends_is_taken_by_its_status(product: Backend, receiver: Receiver) -> None:
    product.answer = lambda _: its.dripping_body
    await receiver.send(ID, BODY)
    product.answer = lambda _: status(200)
    await receiver.send(ID, BODY)
    assert len(product.connections) == 2


async def test_no_cookie_of_the_receiver_is_kept(product: Backend, receiver: Receiver) -> None:
    """One would pin us to one of its servers, and of many the header would grow."""
    product.answer = lambda _: status(200, Set_Cookie="balancer=7; Path=/")
    for _ in range(2):
        await receiver.send(ID, BODY)
    assert ["cookie" in message.headers for message in product.messages] == [False, False]


# Not taken


@pytest.mark.parametrize("code", [400, 401, 404, 409, 500, 502])
async def test_every_other_status_is_a_refusal(product: Backend, receiver: Receiver, code: int) -> None:
    product.answer = lambda _: status(code, b"secret words of the receiver")
    refused = await refusal(receiver)
    assert (refused.reason, refused.retry_after, receiver.quiet_for) == (f"answered {code}", None, None)
    assert not receiver.gone.is_set()


async def test_a_redirect_is_not_followed(product: Backend, receiver: Receiver) -> None:
    product.answer = lambda message: status(302, Location="/elsewhere") if message.path == "/hooks/" else status(200)
    assert (await refusal(receiver)).reason == "answered 302"
    assert [message.path for message in product.messages] == ["/hooks/"]


async def test_gone_is_remembered(product: Backend, receiver: Receiver) -> None:
    product.answer = lambda _: status(410)
    assert (await refusal(receiver)).reason == "answered 410"
    assert receiver.gone.is_set()


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize("answer", [its.never, its.dripping_headers])
async def test_an_answer_that_does_not_begin_in_time_is_not_waited_for(
    product: Backend, receiver: Receiver, answer: its.Answer
) -> None:
    product.answer = lambda _: answer
    assert (await refusal(receiver)).reason == "no answer in time"


async def test_what_is_no_http_is_a_refusal(product: Backend, receiver: Receiver) -> None:
    product.answer = lambda _: its.no_http
    assert (await refusal(receiver)).reason == "RemoteProtocolError"


async def test_a_receiver_that_is_not_there_is_named_without_its_address() -> None:
    to = Receiver("http://ada:pass-1f@127.0.0.1:1/secret-path", [key(SECRET)], 4)
    refused = await refusal(to)
    await to.close()
    assert (refused.reason, str(refused)) == ("ConnectError", "ConnectError")
    assert "1f" not in repr(to) + repr(refused)


# Later


def in_(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        (lambda: "120", 120, 120),
        (lambda: "0", 0, 0),
        (lambda: "999999999999999999999", 3600, 3600),
        (lambda: in_(60), 50, 60),
        (lambda: in_(-60), 0, 0),
        (lambda: in_(1e7), 3600, 3600),
        (lambda: "Fri, 31 Dec 9999 23:59:59 -2359", 3600, 3600),
    ],
    ids=["seconds", "now", "too many seconds", "date", "past", "far date", "after the last date"],
)
async def test_it_is_left_alone_for_as_long_as_it_says_and_an_hour_at_the_most(
    product: Backend, receiver: Receiver, code: int, retry_after: object, least: int, most: int
) -> None:
    assert callable(retry_after)
    product.answer = lambda _: status(code, Retry_After=retry_after())
    pause = (await refusal(receiver)).retry_after
    assert pause is not None
    assert least <= pause.total_seconds() <= most
    quiet = receiver.quiet_for
    assert (quiet is None) == (most == 0)
    assert quiet is None or least - 5 < quiet.total_seconds() <= most


@pytest.mark.parametrize(
    "retry_after",
    [
        *("soon", "-1", "1.5", "", "²", "Wed, 99 Nov 2026 99:99:99 GMT"),
        *("Wed, 21 Oct 99999999999 07:28:00 GMT", "Wed, 21 Oct 2026 99999999999:28:00 GMT"),
        "Wed, 21 Oct 2026 07:28:00 +99999999999",
    ],
)
async def test_what_says_no_time_is_as_if_it_were_not_there(
    product: Backend, receiver: Receiver, retry_after: str
) -> None:
    product.answer = lambda _: status(429, Retry_After=retry_after)
    assert (await refusal(receiver)).retry_after is None
    assert receiver.quiet_for is None


async def test_of_two_pauses_the_longer_counts(product: Backend, receiver: Receiver) -> None:
    for seconds in ("60", "5"):
        product.answer = lambda _, seconds=seconds: status(429, Retry_After=seconds)
        await refusal(receiver)
    assert receiver.quiet_for is not None
    assert receiver.quiet_for > timedelta(seconds=50)


# TLS


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[Backend]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path / "certificate.pem"))
    with backend(tls=context) as running:
        yield running


async def test_a_certificate_that_nobody_trusts_is_refused(over_tls: Backend) -> None:
    to = Receiver(over_tls.url, [key(SECRET)], 4)
    assert (await refusal(to)).reason == "ConnectError"
    await to.close()
    assert over_tls.messages == []


async def test_a_certificate_of_an_authority_that_this_machine_trusts_is_taken(
    over_tls: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    to = Receiver(over_tls.url, [key(SECRET)], 4)
    await to.send(ID, BODY)
    await to.close()
    assert [message.id for message in over_tls.messages] == [str(ID)]
