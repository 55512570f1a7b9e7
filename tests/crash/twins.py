"""Two sessions meet the same fault, and a server looks after one of them without the part of upkeep that mends it, or
tells badly of it: the checker must find that one wrong, the other right, and after a restart with all parts both."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from live_sessions.v1 import resources_pb2 as pb
from sandbox.stack import Stack
from tests.clients import DailyControl, eventually, http_client
from tests.crash import checker, facts
from tests.crash.callers import Callers
from tests.crash.crippled import MARKED, course_without
from tests.crash.journal import Journal
from tests.crash.network import running_network
from tests.crash.run import restart
from tests.crash.watchers import Watchers

BOUND = 75.0
"""Seconds in which a session with nothing left out must be right."""
TEACHER = "ada"


class Scene:
    def __init__(self, stack: Stack, daily: DailyControl) -> None:
        self.daily = daily
        self.rooms: dict[str, str] = {}
        """By course."""
        self.watchers = Watchers(stack)
        self._callers = Callers(stack)

    def create(self, course: str) -> str:
        body = {"courseId": course, "startsAt": "2030-01-01T10:00:00.000Z", "recordingEnabled": True}
        answer = self._callers.call("create", TEACHER, "instructor", over_grpc=False, body=body)
        assert answer.body is not None
        return str(self.rooms.setdefault(course, answer.body["roomName"]))

    def call(self, verb: str, room: str) -> bool:
        """Whether it was acknowledged."""
        answer = self._callers.call(verb, TEACHER, "instructor", over_grpc=False, room_name=room)
        return answer.body is not None

    def recorded(self, course: str) -> str:
        """Daily takes five starts in five seconds, and this server does not know it: they are asked for again."""
        room = self.create(course)
        eventually(lambda: self.call("start", room), 30)
        return room

    def enter(self, room: str) -> str:
        token = self._callers.call("token", TEACHER, "instructor", over_grpc=False, room_name=room).body
        assert token is not None
        return str(self.daily.join(room, token["token"])["session_id"])

    def visit(self, room: str) -> None:
        """Somebody was there for more than a second."""
        stay = self.enter(room)
        time.sleep(1.1)
        self.daily.leave(room, stay)

    def followed(self, course: str) -> str:
        """By its instructor and somebody else."""
        room = self.create(course)
        self.watchers.follow(room, TEACHER)
        return room

    def told(self, room: str, enough: Callable[[list[pb.LiveSessionEvent]], bool]) -> None:
        """Waits until their instructor, who began to follow last, was told enough."""
        me = [one for one in self.watchers.watched if (one.room, one.instructor) == (room, TEACHER)][-1]
        eventually(lambda: (told := [event for stream in me.streams for event in stream.told]) and enough(told), BOUND)

    def close(self) -> None:
        self.watchers.close()
        self._callers.close()


def _end(scene: Scene, course: str) -> None:
    """A stop for which Daily had no answer."""
    room = scene.recorded(course)
    scene.daily.fault("status", "POST", f"/rooms/{room}/recordings/stop", status=503, times=4)
    assert not scene.call("stop", room)


def _closing(scene: Scene, course: str) -> None:
    assert scene.call("stop", scene.recorded(course))


def _session(scene: Scene, course: str) -> None:
    """A class that everybody left."""
    scene.visit(scene.create(course))


def _start(scene: Scene, course: str) -> None:
    """A start of which neither any answer nor the event came."""
    room = scene.create(course)
    scene.daily.fault("lost_answer", "POST", f"/rooms/{room}/recordings/start", times=3)
    scene.daily.fault("webhook_drop", type="recording.started", room=room)
    assert not scene.call("start", room)


def _recording(scene: Scene, course: str) -> None:
    """A file of which nobody was told."""
    room = scene.recorded(course)
    scene.daily.fault("webhook_drop", type="recording.ready-to-download", room=room)
    assert scene.call("stop", room)


def _attendance(scene: Scene, course: str) -> None:
    """A visit of which nobody was told."""
    room = scene.create(course)
    for type in ("participant.joined", "participant.left"):
        scene.daily.fault("webhook_drop", type=type, room=room)
    scene.visit(room)


def _eject(scene: Scene, course: str) -> None:
    """Somebody who stays when the class has ended."""
    room = scene.recorded(course)
    scene.enter(room)
    assert scene.call("stop", room)


def _told(scene: Scene, course: str) -> None:
    """A class that somebody attends while it is followed."""
    scene.visit(scene.followed(course))


def _resumed(scene: Scene, course: str) -> None:
    """A stream that breaks off."""
    room = scene.followed(course)
    scene.visit(room)
    scene.told(room, lambda events: events[-1].revision > 1)
    scene.watchers.interrupt()


def _begun(scene: Scene, course: str) -> None:
    """Somebody is inside when others begin to follow."""
    room = scene.followed(course)
    stay = scene.enter(room)
    scene.told(room, lambda events: any(event.HasField("participant") for event in events))
    scene.watchers.follow(room, TEACHER)
    scene.told(room, lambda events: events[-1].revision > 0)
    scene.daily.leave(room, stay)


FAULTS: dict[str, Callable[[Scene, str], None]] = {
    "end": _end,
    "closing": _closing,
    "session": _session,
    "start": _start,
    "recording": _recording,
    "attendance": _attendance,
    "inbox": _session,
    "eject": _eject,
    "first": _told,
    "resume": _resumed,
    "state": _begun,
    "change": _told,
    "owner": _told,
    "last": _told,
}
UNDIVIDED = {"webhook": "webhook", "budget": "Daily"}
"""Parts that are left out for all sessions, and what the violations are then about."""

DONE = {"budget", "eject", "resume", "state", "owner"}
"""What was refused, who was inside and what was told cannot be undone."""


def found_without_parts(data_dir: Path) -> dict[str, set[str]]:
    """The rules that the session of each part broke when its twin was right, and those that are not about a session.
    All are right in the end, or this raises."""
    with running_network() as network, _stack(data_dir) as (stack, daily, scene):
        restart(stack, network, MARKED)
        daily.settings(listing_lag=20.0)  # longer than any call or work waits for a recording
        webhook = daily.state()["webhook"]
        daily.put_webhook(webhook["uuid"], eventTypes=sorted({*webhook["eventTypes"]} - {"recording.error"}))
        with ThreadPoolExecutor(len(FAULTS)) as pool:
            done = [pool.submit(fault, scene, course) for part, fault in FAULTS.items() for course in _twins(part)]
            for one in done:
                one.result()
        marked = {scene.rooms[course_without(part)]: part for part in FAULTS}
        marked |= {subject: part for part, subject in UNDIVIDED.items()}

        def look() -> list[checker.Violation]:
            with http_client(str(stack.daily_url)) as client:
                return checker.check(facts.read(stack, client, Journal(watched=scene.watchers.watched)))

        def twins_are_right() -> list[checker.Violation]:
            found = look()
            return found if {one.subject for one in found} <= marked.keys() else []

        found: dict[str, set[str]] = {part: set() for part in marked.values()}
        for one in eventually(twins_are_right, BOUND):
            found[marked[one.subject]].add(one.rule)
        restart(stack, network, None)
        eventually(lambda: {marked.get(one.subject) for one in look()} <= DONE, BOUND)
        return found


def _twins(part: str) -> tuple[str, str]:
    return course_without(part), f"with {part}"


@contextmanager
def _stack(data_dir: Path) -> Iterator[tuple[Stack, DailyControl, Scene]]:
    with Stack(data_dir, daily_options=["--limits"]) as stack, http_client(str(stack.daily_url)) as client:
        daily = DailyControl(client)
        scene = Scene(stack, daily)
        try:
            yield stack, daily, scene
        finally:
            scene.close()
