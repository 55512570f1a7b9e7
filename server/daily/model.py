"""Daily's answers as small frozen nouns, and how each is read. Times are aware, in UTC, with whole milliseconds."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from server.daily.wire import (
    Item,
    Unreadable,
    given_id,
    later,
    mapping,
    name_of,
    optional_seconds,
    optional_time,
    text,
    time_of,
    user_of,
)

logger = logging.getLogger(__name__)

DEFAULT_INSTANCE = UUID("c3df927c-f738-4471-a2b7-066fa7e95a6b")
"""The instance of a recording that was started by Daily's own button."""

Noun = TypeVar("Noun")


@dataclass(frozen=True, slots=True)
class RecordingAtDaily:
    id: str
    room_name: str
    status: str
    """`in-progress`, `finished` or `canceled`."""
    started_at: datetime
    duration: int | None
    """Whole seconds; None while in progress."""
    s3_key: str | None

    @property
    def ended_at(self) -> datetime | None:
        return None if self.duration is None else self.started_at + timedelta(seconds=self.duration)


@dataclass(frozen=True, slots=True)
class AccessLink:
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Stay:
    """One device's stay in a meeting, as Daily records it."""

    connection_id: str
    user_id: str
    """Inside Daily; that of the connection where Daily names no user."""
    user_name: str | None
    joined_at: datetime
    left_at: datetime | None
    """None while the meeting goes on: until then Daily does not tell who has left it."""


@dataclass(frozen=True, slots=True)
class MeetingRecord:
    id: str
    room_name: str
    started_at: datetime
    ended_at: datetime | None
    """None while the meeting goes on."""
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody who is inside a room now, as far as Daily's presence knows."""

    connection_id: str
    user_id: str
    user_name: str | None
    joined_at: datetime | None


@dataclass(frozen=True, slots=True)
class WebhookAtDaily:
    uuid: str
    url: str
    state: str
    """`ACTIVE`, or anything else when it needs repair."""
    event_types: frozenset[str]


def readable(what: str, items: Sequence[object], read: Callable[[Item], Noun]) -> list[Noun]:
    """The items that can be read; each other one costs a line of the log and nothing else."""
    found = []
    for item in items:
        try:
            found.append(read(mapping(item)))
        except Unreadable as problem:
            logger.warning("left out %s that cannot be read: %s, id=%s", what, problem, _named(item))
    return found


def recording(item: Item) -> RecordingAtDaily:
    duration = optional_seconds(item, "duration")
    return RecordingAtDaily(
        id=given_id(item, "id"),
        room_name=text(item.get("room_name")) or "",
        status=text(item.get("status")) or "in-progress",
        started_at=time_of(item.get("start_ts")),
        duration=None if duration is None else int(duration),
        s3_key=text(item.get("s3key")),
    )


def access_link(item: Item) -> AccessLink:
    url = item.get("download_link")
    if not isinstance(url, str) or not url:
        raise Unreadable("no download_link")
    return AccessLink(url, time_of(item.get("expires")))


def meeting(item: Item) -> MeetingRecord:
    started_at = time_of(item.get("start_time"))
    ended_at = None if item.get("ongoing") is True else _end(item, started_at)
    people = item.get("participants")
    stays = readable("a stay", people if isinstance(people, list) else [], lambda person: _stay(person, ended_at))
    return MeetingRecord(given_id(item, "id"), given_id(item, "room"), started_at, ended_at, tuple(stays))


def _end(item: Item, started_at: datetime) -> datetime:
    duration = optional_seconds(item, "duration")
    if duration is None:
        raise Unreadable("no duration, and over")
    return later(started_at, duration)


def _stay(person: Item, meeting_ended_at: datetime | None) -> Stay:
    """Where Daily knows no end of it, a stay ended with its meeting."""
    id = given_id(person, "participant_id")
    joined_at, duration = time_of(person.get("join_time")), optional_seconds(person, "duration")
    left_at = meeting_ended_at
    if meeting_ended_at is not None and duration is not None:
        left_at = later(joined_at, duration)
    user = user_of(person, "user_id", id)
    return Stay(id, user, name_of(person, "user_name", user), joined_at, left_at)


def present(item: Item) -> Present:
    id = given_id(item, "id")
    joined_at = optional_time(item, "joinTime")
    user = user_of(item, "userId", id)
    return Present(id, user, name_of(item, "userName", user), joined_at)


def webhook(item: Item) -> WebhookAtDaily:
    types = item.get("eventTypes")
    return WebhookAtDaily(
        uuid=given_id(item, "uuid"),
        url=str(item.get("url") or ""),
        state=str(item.get("state") or ""),
        event_types=frozenset(map(str, types if isinstance(types, list) else [])),
    )


def _named(item: object) -> str:
    """What can be said of it in one line."""
    names = ("id", "participant_id", "uuid")
    id = next((item[name] for name in names if item.get(name)), None) if isinstance(item, dict) else None
    return ascii(id)[:100]
