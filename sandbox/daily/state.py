"""What the stand-in knows: rooms, meetings, recordings and webhooks, in memory and in one JSON file.

Times are unix seconds with millisecond precision. What happens is told through `State.emit`.
"""

import heapq
import itertools
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from .model import JSON, Connection, Event, Meeting, Recording, Room, Webhook, event_id, new_id, now
from .odd import Oddities
from .settings import Settings

SAVE_EVERY = 1.0
SAVING_SHARE = 20  # a save may take one second of so many


class State:
    """Everything that is remembered, with the indexes that keep each question as cheap with 5,000 rooms as with one.

    `open_meetings` has the room's running call, `running` its recordings that have not ended.
    """

    def __init__(self, path: Path | None, settings: Settings) -> None:
        self.path, self.settings, self.odd = path, settings, Oddities()
        self.domain_id = new_id()
        self.rooms: dict[str, Room] = {}
        self.meetings: dict[str, Meeting] = {}
        self.recordings: dict[str, Recording] = {}
        self.webhooks: dict[str, Webhook] = {}
        self.meetings_of: dict[str, list[Meeting]] = defaultdict(list)
        self.recordings_of: dict[str, dict[str, Recording]] = defaultdict(dict)
        self.open_meetings: dict[str, Meeting] = {}
        self.listener: Callable[[Event], None] = lambda _: None
        self.quiet = False
        self.changed = True
        self._next_save = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        if path and path.exists():
            self._load(json.loads(path.read_text()))

    def add_meeting(self, meeting: Meeting) -> None:
        self.meetings[meeting.id] = meeting
        self.meetings_of[meeting.room].append(meeting)
        if meeting.end_time is None:
            self.open_meetings[meeting.room] = meeting

    def add_recording(self, recording: Recording) -> None:
        self.recordings[recording.id] = recording
        self.recordings_of[recording.room_name][recording.id] = recording

    def running(self, room: str) -> list[Recording]:
        return [one for one in self.recordings_of.get(room, {}).values() if one.end_ts is None]

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Acts at that time or soon after; whether there is still anything to do is for the action to see."""
        heapq.heappush(self._timers, (moment, next(self._order), action))

    def advance(self) -> None:
        """Does what has become due."""
        moment = now()
        while self._timers and self._timers[0][0] <= moment:
            heapq.heappop(self._timers)[2]()
            self.changed = True

    def emit(
        self, type: str, id: str, room: str, payload: JSON, label: str | None = None, stamp: int | None = None
    ) -> None:
        """Tells of the record `id`; `label` and `stamp` make the event's id, where they are not `id` and the second."""
        self.changed = True
        if self.quiet:
            return
        event_ts = now()
        message = {
            "version": "1.0.0",
            "type": type,
            "id": event_id(type, label or id, int(event_ts) if stamp is None else stamp),
            "payload": self.odd.shown(payload, type.split(".")[0], id, room, "events"),
            "event_ts": event_ts,
        }
        self.listener(Event(type, id, room, message))

    def save(self) -> None:
        """Writes the file if anything changed; a reader sees the old one or the new one, never a half."""
        if not self.changed or self.path is None:
            return
        self.changed, began = False, time.monotonic()
        content = {
            "domain_id": self.domain_id,
            "rooms": list(self.rooms.values()),
            "meetings": list(self.meetings.values()),
            "recordings": list(self.recordings.values()),
            "webhooks": list(self.webhooks.values()),
        }
        draft = self.path.with_name(self.path.name + ".new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content, default=_kept))
        os.replace(draft, self.path)
        took = time.monotonic() - began
        self._next_save = began + max(SAVE_EVERY, SAVING_SHARE * took)

    def save_if_due(self) -> None:
        if time.monotonic() >= self._next_save:
            self.save()

    def _load(self, saved: JSON) -> None:
        self.domain_id = saved["domain_id"]
        self.rooms = {row["name"]: Room(**row) for row in saved["rooms"]}
        for row in saved["meetings"]:
            connections = [Connection(**connection) for connection in row["connections"]]
            self.add_meeting(Meeting(**row | {"connections": connections}))
        for row in saved["recordings"]:
            self.add_recording(Recording(**row))
        kept = saved.get("webhooks", [])  # files of before have one "webhook", which is registered anew
        self.webhooks = {row["uuid"]: Webhook(**row) for row in kept}
        self.changed = False


def _kept(thing: object) -> JSON:
    return {name: value for name, value in vars(thing).items() if name != "inside"}
