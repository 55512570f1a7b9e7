"""The product's back end at the wire: webhooks signed and posted to it as Standard Webhooks says
(github.com/standard-webhooks). Beside Daily's gateway, only here is httpx known."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from uuid import UUID

import httpx

TIME_LIMIT = 12.0
"""Seconds until the answer has begun: so that what came of it is noted before the lease of the work ends."""
BODY_TIME, BODY_SIZE = 1.0, 4096
"""So much of an answer's body is read, and thrown away: then its connection can be used again."""
MAX_RETRY_AFTER = timedelta(hours=1)


class NotTaken(Exception):
    """The message was refused, or nobody knows; the receiver wants it again after `retry_after`, where it says so."""

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Receiver:
    def __init__(self, url: str, keys: Sequence[bytes], connections: int) -> None:
        self._url, self._keys = url, keys
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(
            timeout=TIME_LIMIT,
            limits=limits,
            headers={"User-Agent": "live-sessions"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none is kept
        )
        self._quiet_until = 0.0
        self.gone = asyncio.Event()
        """Set when it answered 410: it wants nothing any more."""

    async def close(self) -> None:
        await self._http.aclose()

    @property
    def quiet_for(self) -> timedelta | None:
        """How long it still wants to be left alone."""
        seconds = self._quiet_until - time.monotonic()
        return timedelta(seconds=seconds) if seconds > 0 else None

    async def send(self, id: UUID, body: bytes) -> None:
        """Raises NotTaken, whose reason shows nothing of the URL."""
        headers = {"Content-Type": "application/json"} | self._signed(str(id), str(int(time.time())), body)
        request = self._http.build_request("POST", self._url, content=body, headers=headers)
        try:
            async with asyncio.timeout(TIME_LIMIT):
                answer = await self._http.send(request, stream=True)
        except TimeoutError:
            raise NotTaken("no answer in time") from None
        except httpx.HTTPError as error:
            raise NotTaken(type(error).__name__) from None
        await _skip_body(answer)
        if answer.status_code == 410:
            self.gone.set()
        if not answer.is_success:
            raise NotTaken(f"answered {answer.status_code}", self._retry_after(answer))

    def _signed(self, id: str, timestamp: str, body: bytes) -> dict[str, str]:
        signed = f"{id}.{timestamp}.".encode() + body
        digests = [hmac.digest(key, signed, hashlib.sha256) for key in self._keys]
        signature = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
        return {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}

    def _retry_after(self, answer: httpx.Response) -> timedelta | None:
        """Until then nothing else is sent to it either."""
        if answer.status_code not in (429, 503):
            return None
        pause = _pause(answer.headers.get("Retry-After", ""))
        if pause is not None:
            self._quiet_until = max(self._quiet_until, time.monotonic() + pause.total_seconds())
        return pause


async def _skip_body(answer: httpx.Response) -> None:
    """Whatever becomes of it: the status has said all."""
    size = 0
    try:
        with suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(BODY_TIME):
                async for part in answer.aiter_raw():
                    size += len(part)
                    if size > BODY_SIZE:
                        return
    finally:
        await answer.aclose()


def _pause(retry_after: str) -> timedelta | None:
    """From seconds or a date of HTTP; None for neither."""
    if retry_after.isascii() and retry_after.isdecimal():
        return timedelta(seconds=min(int(retry_after[:10]), MAX_RETRY_AFTER.total_seconds()))
    try:
        date = parsedate_to_datetime(retry_after)
        pause = date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)
    except (ValueError, OverflowError):
        return None
    return min(max(pause, timedelta()), MAX_RETRY_AFTER)


def is_url(text: str) -> bool:
    """Whether messages can be sent there."""
    try:
        return bool(httpx.URL(text).host)
    except httpx.InvalidURL:
        return False
