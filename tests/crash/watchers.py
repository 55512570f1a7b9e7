"""Those who follow sessions for as long as a run lasts: instructors over gRPC, by a server itself or through Envoy, and
anybody over REST. Each comes back with the last revision that was not 0, whatever ended the stream."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
from google.protobuf.json_format import ParseDict

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests.clients import bearer
from tests.crash.callers import REFUSALS
from tests.crash.journal import Stream, Watched

SILENCE = 20.0
"""Seconds without so much as a heartbeat, of which there is one every 15, after which a stream is taken for dead."""
PAUSE = 0.5
AGAIN = 5.0
"""Seconds after which who was told the last word looks in again: upkeep may yet learn what became of a recording."""
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 1000)]

Events = Iterator[pb.LiveSessionEvent]


class Refused(Exception):
    """The stream was understood, and will not be given."""


class Broken(Exception):
    """The stream ended, and there is more to come."""


class Follower:
    """Open a stream after a revision, again and again."""

    def __init__(self, watched: Watched, open: Callable[[int], Events], over: threading.Event) -> None:
        self._watched, self._open, self._over = watched, open, over
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        pause = 0.0
        while not self._over.wait(pause * random.uniform(0.5, 1)):
            stream = Stream(self._watched.last)
            self._watched.streams.append(stream)
            pause = PAUSE
            try:
                for event in self._open(stream.after):
                    stream.told.append(event)
                stream.ended, pause = True, AGAIN
            except Refused as refusal:
                self._watched.refusals.append(str(refusal))
            except (Broken, httpx.TransportError):
                pass


class Watchers:
    def __init__(self, stack: Stack) -> None:
        self.watched: list[Watched] = []
        self._stack = stack
        self._http = httpx.Client(base_url=stack.rest_url, timeout=SILENCE, trust_env=False, limits=httpx.Limits())
        self._channels = [grpc.insecure_channel(target, OPTIONS) for target in (stack.grpc_proxy, *stack.grpc_targets)]
        self._proxy, *self._servers = map(LiveSessionsStub, self._channels)
        self._heard: dict[Any, float] = {}
        """When each open call over gRPC last told something."""
        self._over = threading.Event()
        self._watchdog = threading.Thread(target=self._watch_over, daemon=True)
        self._watchdog.start()

    def follow(self, room: str, instructor: str) -> None:
        """For good: the instructor, every second one of them through Envoy, and somebody else."""
        proxied = len(self.watched) % 4 == 0
        me = Watched(room, instructor)
        self._follow(me, lambda after: self._over_grpc(me, proxied, after))
        anybody = Watched(room, None)
        self._follow(anybody, lambda after: self._over_rest(room, after))

    def _follow(self, watched: Watched, open: Callable[[int], Events]) -> None:
        self.watched.append(watched)
        Follower(watched, open, self._over)

    def interrupt(self, silent: float = 0.0) -> None:
        """Ends the streams over gRPC on which nothing was heard for so long."""
        for call, heard in list(self._heard.items()):
            if time.monotonic() - heard >= silent:
                call.cancel()

    def close(self) -> None:
        """Who reads over REST ends with the stack."""
        self._over.set()
        self._watchdog.join()
        self.interrupt()
        for channel in self._channels:
            channel.close()

    def _watch_over(self) -> None:
        while not self._over.wait(1):
            self.interrupt(SILENCE)

    def _over_grpc(self, watched: Watched, proxied: bool, after: int) -> Events:
        stub = self._proxy if proxied else random.choice(self._servers)
        token = self._stack.token(str(watched.instructor), str(watched.instructor), "instructor")
        request = rpc.WatchLiveSessionRequest(session_name=watched.room, after_revision=after)
        call = stub.WatchLiveSession(request, metadata=bearer(token))
        try:
            self._heard[call] = time.monotonic()
            for event in call:
                self._heard[call] = time.monotonic()
                yield event
        except grpc.RpcError as error:
            kind = Refused if error.code() in REFUSALS else Broken
            raise kind(f"{error.code()} {error.details()}") from None
        finally:
            del self._heard[call]

    def _over_rest(self, room: str, after: int) -> Events:
        """Its end tells nothing: who comes back learns by 204 that there is no more."""
        with self._http.stream("GET", f"/sessions/{room}/events", params={"after_revision": after}) as answer:
            if answer.status_code == httpx.codes.NO_CONTENT:
                return
            if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise Refused(f"{answer.status_code} {answer.read().decode()}")
            if answer.is_success:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        yield ParseDict(json.loads(line.removeprefix("data: ")), pb.LiveSessionEvent())
        raise Broken
