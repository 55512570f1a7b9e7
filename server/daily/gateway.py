"""The one way to Daily: each request waits for its turn in the deployment's budget, is sent with the key, and is sent
again where that is safe. Only here and in `server.receiver` is httpx known."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from tenacity.stop import stop_base

from server import deadline, metrics, tracing
from server.daily.errors import DailyRefused, DailyUnavailable, DailyUnreadable
from server.daily.sharing import Sharing
from server.daily.turns import COMMIT_MARGIN, Budget, Priority, Turns
from storage.budgets import Rate

REQUEST_TIMEOUT = 5.0
LARGEST_ANSWER = 32 << 20
"""Bytes: far more than a page of anything has."""
ATTEMPTS = 4
MAX_RETRY_AFTER = 30.0
ID = re.compile("^(/[^/]+)/[^/]+")
# Daily takes 100 requests in 5 s, 50 in 30 s, and 5 in 5 s. Of ours, any such time holds 94, 47 and 5, and no more than
# Daily takes if some are a third of a second late: they do not arrive as evenly apart as they were sent.
RATES = {
    "default": Rate(interval=0.06, burst=10),
    "deletes": Rate(interval=0.73, burst=5),
    "recordings": Rate(interval=0.73, burst=5),
    "starts": Rate(interval=1.1, burst=0),
}

Answer = httpx.Response

_background: ContextVar[bool] = ContextVar("background", default=False)


@contextmanager
def upkeep() -> Iterator[None]:
    """What is read inside comes after what callers read."""
    token = _background.set(True)
    try:
        yield
    finally:
        _background.reset(token)


class Gateway:
    def __init__(self, api_url: str, api_key: str, budget: Budget) -> None:
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=20)
        headers = {"Authorization": f"Bearer {api_key}"}
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._http = httpx.AsyncClient(base_url=api_url, headers=headers, limits=limits, cookies=no_cookies)
        self._turns = {endpoints: Turns(endpoints, rate.interval, budget) for endpoints, rate in RATES.items()}
        self._sharing = Sharing()

    async def close(self) -> None:
        await self._http.aclose()

    async def get(
        self, path: str, *, endpoints: str = "default", accept: tuple[int, ...] = (), **query: object
    ) -> Answer:
        """The answer, if it is a success or one of `accept`. One request serves all who ask the same at one time, and
        may have been sent a moment before the last of them asked. A query of None is left out. Raises DailyRefused,
        DailyUnavailable."""
        priority = Priority.UPKEEP if _background.get() else Priority.READ
        params = {name: str(value) for name, value in query.items() if value is not None}

        async def read() -> Answer:
            return await self.send("GET", path, priority, endpoints=endpoints, accept=accept, params=params)

        try:
            async with asyncio.timeout(deadline.remaining() - COMMIT_MARGIN):
                return await self._sharing((priority, path, *sorted(params.items())), read)
        except TimeoutError:
            raise DailyUnavailable(f"no answer to GET {path} in time", taken=False) from None

    async def send(
        self,
        method: str,
        path: str,
        priority: Priority,
        *,
        endpoints: str = "default",
        accept: tuple[int, ...] = (),
        repeatable: bool = True,
        **request: Any,
    ) -> Answer:
        """The answer, if it is a success or one of `accept`. What is not repeatable is sent again only where it
        certainly was not taken. Raises DailyRefused, DailyUnavailable."""
        retries = AsyncRetrying(
            retry=retry_if_exception(_is_passing if repeatable else _is_not_taken),
            wait=wait_exponential_jitter(multiplier=0.1, max=2, jitter=0.1),
            stop=stop_after_attempt(ATTEMPTS) | _OutOfTime(),
            reraise=True,
        )
        taken = False
        async for attempt in retries:
            with attempt:
                try:
                    return await self._send_in_turn(method, path, priority, endpoints, accept, request)
                except DailyUnavailable as problem:
                    taken = problem.taken = taken or problem.taken
                    raise
        raise AssertionError

    async def _send_in_turn(
        self,
        method: str,
        path: str,
        priority: Priority,
        endpoints: str,
        accept: tuple[int, ...],
        request: dict[str, Any],
    ) -> Answer:
        """In its next turn again when Daily had too much."""
        turns = self._turns[endpoints]
        while True:
            sent_at = await turns.wait(priority)
            answer = await self._send_once(method, path, request)
            if answer.status_code == 429:
                await turns.refused(sent_at, _retry_after(answer))
                continue
            turns.accepted()
            if answer.is_success or answer.status_code in accept:
                return answer
            if answer.status_code >= 500:
                raise DailyUnavailable(f"{method} {path}: Daily answered {answer.status_code}", taken=True)
            raise DailyRefused(answer.status_code, _info(answer))

    async def _send_once(self, method: str, path: str, request: dict[str, Any]) -> Answer:
        timeout = min(REQUEST_TIMEOUT, deadline.remaining() - COMMIT_MARGIN)
        if timeout <= 0:
            raise DailyUnavailable(f"no time left for {method} {path}", taken=False)
        endpoint, began, outcome = f"{method} {_template(path)}", time.monotonic(), "cancelled"
        try:
            with tracing.part(f"Daily {endpoint}"):
                async with asyncio.timeout(timeout):  # httpx's own is that of each part of the answer
                    answer = await self._answer(method, path, timeout, request)
                tracing.note({"http.response.status_code": answer.status_code}, failed=answer.status_code >= 500)
            outcome = _outcome(answer)
            return answer
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            outcome = "unreachable"
            raise DailyUnavailable(f"{method} {path}: {type(error).__name__}", taken=False) from None
        except (httpx.HTTPError, TimeoutError) as error:
            outcome = "timeout" if isinstance(error, httpx.TimeoutException | TimeoutError) else "broken"
            raise DailyUnavailable(f"{method} {path}: {type(error).__name__}", taken=True) from None
        except DailyUnreadable:
            outcome = "broken"
            raise
        finally:
            metrics.DAILY_REQUESTS.labels(endpoint, outcome).inc()
            metrics.DAILY_SECONDS.labels(endpoint).observe(time.monotonic() - began)

    async def _answer(self, method: str, path: str, seconds: float, request: dict[str, Any]) -> Answer:
        """With its body. What cannot be reached is known before all time is over, as it has taken nothing then."""
        timeout = httpx.Timeout(seconds, connect=0.9 * seconds, pool=0.9 * seconds)
        async with self._http.stream(method, path, timeout=timeout, **request) as answer:
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > LARGEST_ANSWER:
                    raise DailyUnreadable(f"{method} {path}: Daily's answer is larger than {LARGEST_ANSWER} bytes")
        headers = [(name, value) for name, value in answer.headers.multi_items() if name != "content-encoding"]
        return Answer(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


class _OutOfTime(stop_base):
    """Stops when the deadline would pass while waiting for the next attempt."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        return deadline.remaining() - retry_state.upcoming_sleep < 2 * COMMIT_MARGIN


def content(answer: Answer) -> Any:
    """Raises DailyUnreadable for what is no JSON."""
    try:
        return answer.json()
    except (ValueError, RecursionError):
        raise DailyUnreadable(f"Daily answered {answer.request.url.path} with something else than JSON") from None


def _template(path: str) -> str:
    """The path without its id, which is always the second part."""
    return ID.sub(r"\1/{id}", path)


def _outcome(answer: Answer) -> str:
    """`ok`, `not_found`, `limited`, `refused` or `failed`."""
    if answer.is_success:
        return "ok"
    if answer.status_code >= 500:
        return "failed"
    return {404: "not_found", 429: "limited"}.get(answer.status_code, "refused")


def _is_passing(problem: BaseException) -> bool:
    return isinstance(problem, DailyUnavailable)


def _is_not_taken(problem: BaseException) -> bool:
    return isinstance(problem, DailyUnavailable) and not problem.taken


def _retry_after(answer: Answer) -> float | None:
    try:
        seconds = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 < seconds <= MAX_RETRY_AFTER else None


def _info(answer: Answer) -> str:
    """What Daily says of an error, whatever body it has."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return ""
    return str(body.get("info") or body.get("error") or "")[:1000] if isinstance(body, dict) else ""
