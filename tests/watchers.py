"""Those who follow sessions in tests: over gRPC in a thread of their own, and over REST as server-sent events."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import grpc
import httpx
from google.protobuf.json_format import MessageToDict

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from tests.clients import bearer, eventually, http_client


class Watcher:
    """Follows from its making on, until its stream ends or it goes away."""

    def __init__(self, stub: LiveSessionsStub, room: str, token: str | None = None, after: int = 0) -> None:
        self.told: list[pb.LiveSessionEvent] = []
        self.error: grpc.RpcError | None = None
        request = rpc.WatchLiveSessionRequest(session_name=room, after_revision=after)
        self._call = stub.WatchLiveSession(request, metadata=bearer(token) if token else ())
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._call:
                self.told.append(event)
        except grpc.RpcError as error:
            self.error = error

    @property
    def revisions(self) -> list[int]:
        """Of what was told, heartbeats apart."""
        return [event.revision for event in self.told if not event.HasField("heartbeat")]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [state(event) for event in self.told if not event.HasField("heartbeat")]

    @property
    def last(self) -> int:
        """What to come back with."""
        return max((event.revision for event in self.told), default=0)

    def reached(self, revision: int) -> bool:
        return self.last >= revision

    def code(self, seconds: float = 15) -> grpc.StatusCode:
        """How the stream ended."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"open after {seconds} s"
        return self._call.code()

    def leave(self) -> None:
        self._call.cancel()
        self._thread.join(10)

    def opened(self) -> "Watcher":
        eventually(lambda: self.told or not self._thread.is_alive())
        assert self.told, self.error
        return self


@contextmanager
def following(stub: LiveSessionsStub, room: str, token: str | None = None, after: int = 0) -> Iterator[Watcher]:
    """One who has been told the first thing; they go away in the end."""
    watcher = Watcher(stub, room, token, after)
    try:
        yield watcher.opened()
    finally:
        watcher.leave()


def state(event: pb.LiveSessionEvent) -> tuple[str, str]:
    """What an event is about and, in a word, how that is now."""
    kind = str(event.WhichOneof("event"))
    it = MessageToDict(getattr(event, kind))
    if kind != "participant":
        return kind, str(it["status"])
    where = (
        "removed" if it.get("wasKicked") else "left" if "leftAt" in it else "inside" if "joinedAt" in it else "outside"
    )
    return it["userId"], where


def events(text: str) -> list[tuple[int | None, dict[str, Any]]]:
    """The id and the data of server-sent events."""
    found = []
    for block in filter(None, text.split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((int(fields["id"]) if "id" in fields else None, json.loads(fields["data"])))
    return found


def stream_of(url: str, path: str, headers: dict[str, str], until: int) -> tuple[httpx.Response, str]:
    """A stream's answer, and its text up to the event with this revision."""
    with http_client(url) as client, client.stream("GET", path, headers=headers) as answer:
        text = ""
        for part in answer.iter_text():
            text += part
            if any(data["revision"] >= until for _, data in events(text[: text.rfind("\n\n") + 2])):
                break
        return answer, text


class Follower:
    """Follows for good: comes back with the last revision whenever a stream ends for any reason but OK."""

    def __init__(self, stub: LiveSessionsStub, room: str, token: str | None = None) -> None:
        self.told: list[pb.LiveSessionEvent] = []
        self.endings: list[tuple[grpc.StatusCode, str]] = []
        self._stub, self._room, self._token = stub, room, token
        self._gone = Event()
        self._call: Any = None
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        last = 0
        while not self._gone.is_set():
            request = rpc.WatchLiveSessionRequest(session_name=self._room, after_revision=last)
            self._call = self._stub.WatchLiveSession(request, metadata=bearer(self._token) if self._token else ())
            try:
                for event in self._call:
                    last = event.revision or last
                    self.told.append(event)
                return
            except grpc.RpcError as error:
                if not self._gone.is_set():
                    self.endings.append((error.code(), error.details() or ""))

    @property
    def revisions(self) -> list[int]:
        return [event.revision for event in self.told if not event.HasField("heartbeat")]

    def leave(self) -> None:
        self._gone.set()
        self._call.cancel()
        self._thread.join(10)


@contextmanager
def followers(stub: LiveSessionsStub, room: str, token: str, count: int) -> Iterator[list[Follower]]:
    everybody = [Follower(stub, room, token) for _ in range(count)]
    try:
        eventually(lambda: all(one.told for one in everybody))
        yield everybody
    finally:
        for one in everybody:
            one.leave()
