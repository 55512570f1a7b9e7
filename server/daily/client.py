"""Daily.co: its REST API over httpx, and the meeting tokens that we sign ourselves. The only module that knows httpx.

Every request is safe to send again (rooms by our name, recordings by our instanceId), so what fails in passing is
retried, never beyond the deadline of the call at hand."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base

from server import deadline
from server.errors import Unavailable
from storage.model import Role

REQUEST_TIMEOUT = 5.0
ATTEMPTS = 4
COMMIT_MARGIN = 0.3
"""Seconds of a call that Daily may not use up, so that its outcome can still be committed."""
START_PATIENCE = 4.0
"""Seconds that a recording may need: for the first person to be seen in the room, and for its id to be listed."""
MAX_RECORDING = 6 * 3600
"""Seconds after which Daily ends a recording that nobody stopped."""
TOKEN_LIFETIME = 6 * 3600
PAGE = 100
MAX_PAGES = 20
"""Pages of a list that one look at it reads at most."""
MAX_USER_ID = 36
# Our ids longer than Daily's limit are replaced by a name-based UUID in this namespace.
USER_IDS = uuid.UUID("6a7d9f2e-0f6b-5d0c-9c1e-5b1f6b0c2a44")


class DailyUnavailable(Unavailable):
    """No answer, or none that says what happened: the request may or may not have had its effect."""


class DailyRefused(Unavailable):
    """Daily said no, and nothing happened."""

    unanswered: DailyUnavailable | None = None
    """An earlier attempt, which may yet have its effect."""

    def __init__(self, status: int, body: Any) -> None:
        error = body if isinstance(body, dict) else {}
        self.status = status
        self.info = str(error.get("info") or error.get("error") or "")
        super().__init__(f"Daily answered {status}: {self.info[:300]}")


class NobodyInRoom(DailyRefused):
    pass


class _NotTaken(DailyUnavailable):
    """The request has no effect: it was not sent, or Daily was too busy for it."""


class _NotListed(DailyUnavailable):
    pass


class _InDoubt(DailyUnavailable):
    pass


@dataclass(frozen=True, slots=True)
class DailyRecording:
    id: str
    room_name: str
    status: str
    """`in-progress`, `finished` or `canceled`."""
    started_at: datetime
    duration: int | None
    s3_key: str | None


@dataclass(frozen=True, slots=True)
class AccessLink:
    url: str
    expires_at: datetime


def user_id(id: str) -> str:
    """The id under which Daily knows one of our users."""
    return id if len(id) <= MAX_USER_ID else str(uuid.uuid5(USER_IDS, id))


def time_of(seconds: float) -> datetime:
    """Daily's unix seconds, cut to milliseconds."""
    return datetime.fromtimestamp(int(float(seconds) * 1000 + 0.5) / 1000, UTC)


class Daily:
    def __init__(self, api_url: str, api_key: str) -> None:
        self._api_key = api_key
        self._domain_id: str | None = None
        self._reading_domain = asyncio.Lock()
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=20)
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.AsyncClient(base_url=api_url, headers=headers, limits=limits)

    async def close(self) -> None:
        await self._http.aclose()

    # Rooms

    async def create_room(self, name: str, *, max_participants: int | None, recording: bool) -> None:
        """A private room; that it exists already is as good."""
        properties: dict[str, Any] = {}
        if max_participants is not None:
            properties["max_participants"] = max_participants
        if recording:
            properties["enable_recording"] = "cloud"
        try:
            await self._send("POST", "/rooms", json={"name": name, "privacy": "private", "properties": properties})
        except DailyRefused as refusal:
            # Daily has no error of its own for a name in use, so we look.
            if refusal.status != 400 or not await self._exists(name):
                raise

    async def delete_room(self, name: str) -> None:
        await self._send("DELETE", f"/rooms/{name}", accept=(404,))

    async def _exists(self, name: str) -> bool:
        return (await self._send("GET", f"/rooms/{name}", accept=(404,))).status_code == 200

    # Recordings

    async def start_recording(self, room_name: str, instance_id: uuid.UUID) -> None:
        """Returns when Daily records under this instance, also when it did already. Raises NobodyInRoom; but no refusal
        after a request that was not answered."""
        body = {"instanceId": str(instance_id), "type": "cloud", "maxDuration": MAX_RECORDING}
        unanswered = None
        async for attempt in _patiently(NobodyInRoom, _InDoubt):
            with attempt:
                try:
                    await self._send("POST", f"/rooms/{room_name}/recordings/start", json=body)
                except DailyRefused as refusal:
                    unanswered = unanswered or refusal.unanswered
                    if "has an active stream" in refusal.info:
                        return
                    if unanswered:
                        raise _InDoubt(f"{refusal}, after {unanswered}") from None
                    if refusal.status == 404:
                        raise NobodyInRoom(404, {"info": refusal.info}) from None
                    raise

    async def find_recording(self, room_name: str, is_ours: Callable[[DailyRecording], bool]) -> DailyRecording:
        """The newest recording of the room that `is_ours`, for which Daily may need a moment."""
        async for attempt in _patiently(_NotListed):
            with attempt:
                for recording in await self.recordings(room_name=room_name):
                    if is_ours(recording):
                        return recording
                raise _NotListed(f"Daily lists no new recording of {room_name}")
        raise AssertionError

    async def stop_recording(self, room_name: str, instance_id: uuid.UUID | None) -> bool:
        """Whether there was anything to stop; without an instance, Daily's default one is meant."""
        body = {} if instance_id is None else {"instanceId": str(instance_id)}
        answer = await self._send("POST", f"/rooms/{room_name}/recordings/stop", json=body, accept=(400, 404))
        return answer.status_code == 200

    async def recordings(self, *, room_name: str | None = None, after: str | None = None) -> list[DailyRecording]:
        """One page, newest first, from behind the recording `after`."""
        query = {"limit": PAGE, "room_name": room_name, "starting_after": after}
        answer = await self._send("GET", "/recordings", params=_given(query))
        return [_recording(item) for item in answer.json()["data"]]

    async def recording(self, recording_id: str) -> DailyRecording | None:
        answer = await self._send("GET", f"/recordings/{recording_id}", accept=(404,))
        return None if answer.status_code == 404 else _recording(answer.json())

    async def access_link(self, recording_id: str) -> AccessLink:
        answer = (await self._send("GET", f"/recordings/{recording_id}/access-link")).json()
        return AccessLink(answer["download_link"], time_of(answer["expires"]))

    # Meetings and webhooks

    async def meetings(
        self, *, room_name: str | None = None, since: datetime | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """One page of Daily's records of who was in which room, newest first."""
        start = None if since is None else int(since.timestamp())
        query = {"limit": PAGE, "room": room_name, "timeframe_start": start, "starting_after": after}
        answer = await self._send("GET", "/meetings", params=_given(query))
        return list(answer.json()["data"])

    async def webhooks(self) -> list[dict[str, Any]]:
        return list((await self._send("GET", "/webhooks")).json())

    async def save_webhook(self, id: str | None, webhook: dict[str, Any]) -> None:
        """Creates the domain's webhook, or updates and re-activates the one with this id."""
        await self._send("POST", "/webhooks" if id is None else f"/webhooks/{id}", json=webhook)

    # Meeting tokens

    async def domain_id(self) -> str:
        """Read once and kept: with it, tokens need no call to Daily."""
        if self._domain_id is None:
            async with self._reading_domain:
                if self._domain_id is None:
                    self._domain_id = str((await self._send("GET", "/")).json()["domain_id"])
        return self._domain_id

    async def meeting_token(
        self, room_name: str, *, user: str, name: str, role: Role, mic_allowed: bool, camera_allowed: bool
    ) -> str:
        """A token as Daily itself would sign it, for this user id (inside Daily) and this room alone."""
        now = int(time.time())
        claims = {
            "r": room_name,
            "d": await self.domain_id(),
            "ud": user,
            "u": name,
            "o": role is Role.INSTRUCTOR,
            "iat": now,
            "exp": now + TOKEN_LIFETIME,
        }
        if not (mic_allowed and camera_allowed):
            sends = ["v", "sv"] * camera_allowed + ["a", "sa"] * mic_allowed
            claims["p"] = {"cs": ",".join(sends) or False}
        return jwt.encode(claims, self._api_key, algorithm="HS256")

    # The wire

    async def _send(self, method: str, path: str, *, accept: Iterable[int] = (), **request: Any) -> httpx.Response:
        """The answer, if it is a success or one of `accept`. Raises DailyRefused, DailyUnavailable."""
        retries = AsyncRetrying(
            retry=retry_if_exception_type(DailyUnavailable),
            wait=wait_exponential_jitter(multiplier=0.1, max=2, jitter=0.1),
            stop=stop_after_attempt(ATTEMPTS) | _OutOfTime(),
            reraise=True,
        )
        unanswered = None
        async for attempt in retries:
            with attempt:
                try:
                    return await self._send_once(method, path, set(accept), request)
                except _NotTaken:
                    raise
                except DailyUnavailable as problem:
                    unanswered = problem
                    raise
                except DailyRefused as refusal:
                    refusal.unanswered = unanswered
                    raise
        raise AssertionError

    async def _send_once(self, method: str, path: str, accept: set[int], request: dict[str, Any]) -> httpx.Response:
        timeout = min(REQUEST_TIMEOUT, deadline.remaining() - COMMIT_MARGIN)
        if timeout <= 0:
            raise _NotTaken(f"no time left for {method} {path}")
        try:
            answer = await self._http.request(method, path, timeout=timeout, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _NotTaken(f"{method} {path}: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise DailyUnavailable(f"{method} {path}: {type(error).__name__}") from None
        if answer.is_success or answer.status_code in accept:
            return answer
        if answer.status_code == 429:
            raise _NotTaken(f"{method} {path}: Daily answered 429")
        if answer.status_code >= 500:
            raise DailyUnavailable(f"{method} {path}: Daily answered {answer.status_code}")
        raise DailyRefused(answer.status_code, _body(answer))


def _patiently(*errors: type[Exception]) -> AsyncRetrying:
    """Retries for what Daily needs a moment to see, within START_PATIENCE and the deadline."""
    wait = wait_exponential_jitter(multiplier=0.2, max=1, jitter=0.1)
    stop = stop_before_delay(START_PATIENCE) | _OutOfTime()
    return AsyncRetrying(retry=retry_if_exception_type(errors), wait=wait, stop=stop, reraise=True)


class _OutOfTime(stop_base):
    """Stops when the deadline would pass while waiting for the next attempt."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        return deadline.remaining() - retry_state.upcoming_sleep < 2 * COMMIT_MARGIN


def _recording(item: dict[str, Any]) -> DailyRecording:
    duration = item.get("duration")
    return DailyRecording(
        id=str(item["id"]),
        room_name=str(item.get("room_name", "")),
        status=str(item.get("status", "in-progress")),
        started_at=time_of(item["start_ts"]),
        duration=None if duration is None else int(duration),
        s3_key=item.get("s3key"),
    )


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
