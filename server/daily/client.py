"""Daily.co's REST API in our words: rooms, who is inside, recordings, meetings, the webhook, meeting tokens.

Every request but the start of a recording is safe to send again. All raise DailyRefused, DailyUnavailable and, where
they read an answer, DailyUnreadable; StorageError when the budget of requests cannot be reached."""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

from server.daily import model, tokens
from server.daily.errors import DailyRefused, DailyUnreadable
from server.daily.gateway import Answer, Gateway, content
from server.daily.model import (
    DEFAULT_INSTANCE,
    AccessLink,
    MeetingRecord,
    Present,
    RecordingAtDaily,
    WebhookAtDaily,
)
from server.daily.sharing import Sharing
from server.daily.turns import Budget, Priority
from server.daily.wire import Item, Unreadable, given_id, is_id, mapping
from storage.model import Role

MAX_RECORDING = 6 * 3600
"""Seconds after which Daily ends a recording that nobody stopped."""
NEVER = 4102444800
"""Unix seconds, far away: a room that opens then is shut."""
PAGE = 100
CHUNK = 100
"""People that Daily takes in one request."""
MAX_LINKS = 10_000
LINK_MARGIN = 60.0
"""Seconds of an access link's life that whoever gets it has at least."""

Noun = TypeVar("Noun")
Piece = TypeVar("Piece")


class Start(Enum):
    """What became of the request to record a room."""

    SENT = auto()
    ACTIVE = auto()
    """Something records already, which may be this very instance, and the domain takes no more of the room."""
    NOBODY = auto()
    """Nobody is in the call, as far as Daily has noticed."""


class Daily:
    def __init__(
        self,
        api_url: str,
        api_key: str,
        budget: Budget,
        *,
        recall_domain: Callable[[str], Awaitable[str | None]],
        remember_domain: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`recall_domain` and `remember_domain` keep the domain's id by a fingerprint of address and key, beyond the
        life of this process."""
        self._api_key = api_key
        self._gateway = Gateway(api_url, api_key, budget)
        self._send, self._get = self._gateway.send, self._gateway.get
        self._fingerprint = hashlib.sha256(f"{api_url}\n{api_key}".encode()).hexdigest()[:32]
        self._recall_domain, self._remember_domain = recall_domain, remember_domain
        self._domain_id: str | None = None
        self._sharing = Sharing()
        self._links: OrderedDict[str, tuple[AccessLink, float]] = OrderedDict()

    async def close(self) -> None:
        await self._gateway.close()

    # Rooms

    async def create_room(
        self, name: str, *, max_participants: int | None, recording: bool, expires_at: datetime | None
    ) -> None:
        """A private room; that it exists already is as good."""
        properties: dict[str, Any] = {}
        if max_participants is not None:
            properties["max_participants"] = max_participants
        if recording:
            properties["enable_recording"] = "cloud"
        if expires_at is not None:
            properties["exp"] = int(expires_at.timestamp())
        room = {"name": name, "privacy": "private", "properties": properties}
        try:
            await self._send("POST", "/rooms", Priority.CREATE, json=room)
        except DailyRefused as refusal:
            # Daily has no error of its own for a name in use, so we look.
            if refusal.status != 400 or not await self._exists(name):
                raise

    async def update_room(
        self, name: str, *, max_participants: int | None, recording: bool, expires_at: datetime | None
    ) -> None:
        """That there is no such room is as good. Who is inside stays, whatever the limit."""
        properties = {
            "max_participants": max_participants,
            "enable_recording": "cloud" if recording else None,
            "exp": None if expires_at is None else int(expires_at.timestamp()),
        }
        change = {"properties": properties}
        await self._send("POST", _path("rooms", name), Priority.CREATE, accept=(404,), json=change)

    async def shut_room(self, name: str) -> None:
        """Nobody can join any more, whatever token they have; who is inside stays. That there is none is as good."""
        change = {"properties": {"nbf": NEVER}}
        await self._send("POST", _path("rooms", name), Priority.STOP, accept=(404,), json=change)

    async def delete_room(self, name: str) -> None:
        """That there is none is as good. Whoever is inside may stay there: eject them first."""
        await self._send("DELETE", _path("rooms", name), Priority.UPKEEP, endpoints="deletes", accept=(404,))

    async def _exists(self, name: str) -> bool:
        return (await self._send("GET", _path("rooms", name), Priority.CREATE, accept=(404,))).status_code == 200

    # Who is inside

    async def presence(self, room_name: str) -> list[Present]:
        """Daily may be half a minute late, and may know some who have gone. That nobody is there is said only where
        Daily says so: DailyUnreadable when there are some, of whom nothing can be read."""
        answer = await self._get(_path("rooms", room_name, "presence"), accept=(404,))
        items = [] if answer.status_code == 404 else _data(answer)
        present = model.readable("somebody present", items, model.present)
        if items and not present:
            raise DailyUnreadable(f"{len(items)} are in {room_name}, and none of them can be read")
        return present

    async def eject(
        self,
        room_name: str,
        connection_ids: Sequence[str] = (),
        user_ids: Sequence[str] = (),
        priority: Priority = Priority.STOP,
    ) -> None:
        """Puts these connections and all of these users out; that they have gone is as good."""
        whom = [{"ids": chunk} for chunk in _chunks(connection_ids)]
        whom += [{"user_ids": chunk} for chunk in _chunks(user_ids)]
        for body in whom:
            await self._send("POST", _path("rooms", room_name, "eject"), priority, accept=(404,), json=body)

    async def update_permissions(self, room_name: str, permissions: Mapping[str, tuple[bool, bool]]) -> None:
        """By connection id: whether its microphone and its camera are allowed."""
        path = _path("rooms", room_name, "update-permissions")
        for chunk in _chunks(list(permissions.items())):
            data = {
                id: {"canSend": tokens.sends(mic_allowed=mic, camera_allowed=camera)} for id, (mic, camera) in chunk
            }
            await self._send("POST", path, Priority.STOP, accept=(404,), json={"data": data})

    # Recordings

    async def start_recording(self, room_name: str, instance_id: UUID) -> Start:
        """Asks once, for a repeated request that was taken would be another answer; only what certainly was not taken
        is sent again. DailyUnavailable tells by `taken` whether Daily may record."""
        body = {"instanceId": str(instance_id), "type": "cloud", "maxDuration": MAX_RECORDING}
        path = _path("rooms", room_name, "recordings", "start")
        try:
            await self._send("POST", path, Priority.START, endpoints="starts", repeatable=False, json=body)
        except DailyRefused as refusal:
            if (start := _start_of(refusal)) is None:
                raise
            return start
        return Start.SENT

    async def stop_recording(self, room_name: str, instance_id: UUID | None) -> bool:
        """Whether there was anything to stop; without an instance, Daily's default one is meant."""
        body = {} if instance_id in (None, DEFAULT_INSTANCE) else {"instanceId": str(instance_id)}
        path = _path("rooms", room_name, "recordings", "stop")
        answer = await self._send("POST", path, Priority.STOP, accept=(400, 404), json=body)
        return answer.is_success

    async def recordings(self, room_name: str) -> list[RecordingAtDaily]:
        """The newest hundred of the room, newest first; one that has just begun may not be listed yet."""
        answer = await self._get("/recordings", endpoints="recordings", limit=PAGE, room_name=room_name)
        return model.readable("a recording", _data(answer), model.recording)

    async def recording(self, recording_id: str) -> RecordingAtDaily | None:
        answer = await self._get(_path("recordings", recording_id), accept=(404,))
        return None if answer.status_code == 404 else _one(answer, model.recording)

    async def access_link(self, recording_id: str) -> AccessLink:
        """One and the same for all who ask, until shortly before it expires."""
        link, good_until = self._links.get(recording_id, (None, 0.0))
        if link is None or time.monotonic() > good_until:
            answer = await self._get(_path("recordings", recording_id, "access-link"))
            link = _one(answer, model.access_link)
            self._links[recording_id] = link, time.monotonic() + _seconds_until(link.expires_at, answer) - LINK_MARGIN
            self._links.move_to_end(recording_id)
            if len(self._links) > MAX_LINKS:
                self._links.popitem(last=False)
        return link

    # Meetings

    async def meeting(self, meeting_id: str) -> MeetingRecord | None:
        answer = await self._get(_path("meetings", meeting_id), accept=(404,))
        return None if answer.status_code == 404 else _one(answer, model.meeting)

    async def meetings(
        self,
        *,
        room_name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
    ) -> tuple[list[MeetingRecord], str | None]:
        """One page of Daily's records of who was in which room, newest first, of meetings that began between `since`
        and `until`, from behind the cursor `after`; and the cursor of the next page."""
        answer = await self._get(
            "/meetings",
            limit=PAGE,
            room=room_name,
            timeframe_start=None if since is None else int(since.timestamp()),
            timeframe_end=None if until is None else int(until.timestamp()),
            starting_after=after,
        )
        items = _data(answer)
        return model.readable("a meeting", items, model.meeting), _cursor(items)

    # The webhook

    async def webhooks(self) -> list[WebhookAtDaily]:
        """All of the domain, other applications' too."""
        return model.readable("a webhook", _data(await self._get("/webhooks")), model.webhook)

    async def save_webhook(self, uuid: str | None, *, url: str, secret: str, event_types: Collection[str]) -> None:
        """Creates one, or updates and re-activates the one with this id. Daily calls the url before it answers."""
        path = "/webhooks" if uuid is None else _path("webhooks", uuid)
        body = {"url": url, "hmac": secret, "eventTypes": sorted(event_types)}
        await self._send("POST", path, Priority.CREATE, json=body)

    # Meeting tokens

    async def meeting_token(
        self, room_name: str, *, user: str, name: str, role: Role, mic_allowed: bool, camera_allowed: bool
    ) -> str:
        """A token as Daily itself would sign it, for this user id (inside Daily) and this room alone."""
        if self._domain_id is None:
            self._domain_id = await self._sharing("domain", self._read_domain_id)
        return tokens.signed(
            self._api_key,
            self._domain_id,
            room_name,
            user=user,
            name=name,
            is_owner=role is Role.INSTRUCTOR,
            mic_allowed=mic_allowed,
            camera_allowed=camera_allowed,
        )

    async def _read_domain_id(self) -> str:
        """Asked of Daily once in the life of a key, so that tokens need no Daily."""
        id = await self._recall_domain(self._fingerprint)
        if id is None:
            id = _one(await self._send("GET", "/", Priority.CREATE), lambda domain: given_id(domain, "domain_id"))
            await self._remember_domain(self._fingerprint, id)
        return id


def _path(*parts: str) -> str:
    """Ids are what Daily made them, and must not lead elsewhere."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _start_of(refusal: DailyRefused) -> Start | None:
    if re.search(r"has an active stream|more than \d+ streaming instance", refusal.info):
        return Start.ACTIVE
    if refusal.status == 404 and "hosting" in refusal.info:
        return Start.NOBODY
    return None


def _one(answer: Answer, read: Callable[[Item], Noun]) -> Noun:
    try:
        return read(mapping(content(answer)))
    except Unreadable as problem:
        raise DailyUnreadable(f"Daily's answer of {answer.request.url.path} cannot be read: {problem}") from None


def _data(answer: Answer) -> list[Any]:
    """The items of a list, which stand alone or beside their total."""
    body = content(answer)
    items = body.get("data") if isinstance(body, dict) else body
    if not isinstance(items, list):
        raise DailyUnreadable(f"Daily's answer of {answer.request.url.path} is no list")
    return items


def _cursor(items: Sequence[object]) -> str | None:
    """The id behind which the next page begins, when this one is full."""
    ids = [item["id"] for item in items if isinstance(item, dict) and is_id(item.get("id"))]
    return ids[-1] if len(items) >= PAGE and ids else None


def _seconds_until(moment: datetime, answer: Answer) -> float:
    """By the clock that answered, for ours may be another."""
    try:
        now = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        now = time.time()
    return moment.timestamp() - now


def _chunks(items: Sequence[Piece]) -> Iterable[list[Piece]]:
    return (list(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK))
