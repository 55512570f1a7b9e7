"""Does what the plan says in several threads, as clients would: what is not acknowledged is sent again."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx

from tests.crash.callers import Answer, Callers
from tests.crash.journal import Journal
from tests.crash.plan import UNHOOKED, Operation, Plan
from tests.crash.watchers import Watchers

THREADS = 8
PATIENCE = 90.0
"""Seconds after which a caller gives up, which a create with an Idempotency-Key never does before."""
ENDED = "Session has ended"
NOBODY = "http://127.0.0.1:9/other"
"""Where another application's webhook leads."""
# Records of another application that say too little, and events of its own making.
ODD: tuple[dict[str, Any], ...] = (
    {"kind": "recording", "set": {"start_ts": None}},
    {"kind": "recording", "set": {"status": 7}, "remove": ["room_name"]},
    {"kind": "participant", "set": {"user_id": "a\0b", "join_time": None, "joined_at": None}},
    {"kind": "meeting", "remove": ["start_time", "start_ts"]},
)
EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "participant.joined", "payload": {"room": "elsewhere", "session_id": None}},
    {"type": "recording.started", "id": 7, "payload": {"recording_id": "nobody's"}, "event_ts": "soon"},
    {"type": "something.else", "id": "odd|1\0", "payload": []},
)
REMOVED = "Not authorized to join session"
"""How it begins."""
# What a caller may be told of a session that exists and is theirs, by operation.
REFUSALS = {
    "create": {ENDED},
    "create again": {ENDED},
    "press record": {ENDED},
    "token": {ENDED, REMOVED},
    "join": {ENDED, REMOVED},
    "start": {ENDED, "Recording cannot start until someone has joined the session"},
    "stop": {"This session has not been recorded"},
    "remove": {ENDED},
    "readmit": {"Participant not found"},
    "permit": {ENDED, "Participant not found"},
    "mute": {ENDED},
    "resize": {ENDED},
}


class Workload:
    def __init__(
        self, plan: Plan, callers: Callers, watchers: Watchers, daily: httpx.Client, before: Callable[[int], None]
    ) -> None:
        """`before` is called with each operation's number and may wait."""
        self.journal = Journal(watched=watchers.watched)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self._plan, self._callers, self._watchers, self._daily, self._before = plan, callers, watchers, daily, before
        self._next = iter(enumerate(plan.operations))
        self._lock = threading.Lock()
        self._rooms: dict[int, str] = {}
        self._created = {operation.session.number: threading.Event() for operation in plan.operations}
        self._tokens: dict[tuple[str, str], str] = {}
        """The latest of each user for each room."""
        self._stays: dict[tuple[str, str], list[str]] = {}

    def run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            for work in [pool.submit(self._work, number) for number in range(THREADS)]:
                work.result()

    def _work(self, thread: int) -> None:
        random = Random(f"{self._plan.seed}-{thread}")
        while True:
            with self._lock:
                number, operation = next(self._next, (0, None))
            if operation is None:
                return
            self._before(number)
            if operation.fault is not None:
                self._daily.post("/sandbox/faults", json=operation.fault).raise_for_status()
                with self._lock:
                    self.faults[operation.fault["fault"]] += operation.fault["times"]
            outcome = self._do(operation, random)
            with self._lock:
                self.outcomes[operation.kind, outcome] += 1

    def _do(self, operation: Operation, random: Random) -> str:
        """The outcome, in a word."""
        session = operation.session.number
        if operation.kind == "create":
            try:
                return self._create(operation, random)
            finally:
                self._created[session].set()
        if operation.kind == "create again":
            return self._create(operation, random) if operation.session.key else "nothing to do"
        if operation.kind == "other":
            return self.appear(random)
        if operation.kind == "unhook":
            return self._unhook(random)
        self._created[session].wait()
        room_name = self._rooms.get(session)
        if room_name is None:
            return "nothing to do"
        return {
            "token": self._token,
            "join": self._join,
            "leave": self._leave,
            "start": self._start,
            "stop": self._stop,
            "delete": self._delete,
            "cancel": self._cancel,
            "press record": self._press_record,
            "press stop": self._press_stop,
            "remove": self._remove,
            "come back": self._come_back,
            "readmit": self._readmit,
            "permit": self._permit,
            "mute": self._mute,
            "resize": self._resize,
        }[operation.kind](operation, room_name, random)

    def _create(self, operation: Operation, random: Random) -> str:
        session = operation.session
        answer = self._insist("create", operation, random, body=session.body, key=session.key)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.creates.append((session, answer.body))
        with self._lock:
            is_new = session.number not in self._rooms
            self._rooms.setdefault(session.number, answer.body["roomName"])
        if is_new:
            self._watchers.follow(answer.body["roomName"], session.instructor)
        return "acknowledged"

    def _token(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("token", operation, random, room_name=room_name)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.tokens.append((room_name, operation.user, operation.role))
        return "acknowledged"

    def _join(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("token", operation, random, room_name=room_name)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.tokens.append((room_name, operation.user, operation.role))
        self._tokens[room_name, operation.user] = answer.body["token"]
        return self.enter(room_name, operation.user)

    def enter(self, room_name: str, user: str) -> str:
        """With the latest token that they got."""
        token = self._tokens.get((room_name, user))
        if token is None:
            return "nothing to do"
        joined = self._daily.post(f"/sandbox/rooms/{room_name}/join", json={"token": token})
        if not joined.is_success:  # the room is gone, shut or full
            return "room gone"
        with self._lock:
            self._stays.setdefault((room_name, user), []).append(joined.json()["session_id"])
        return "acknowledged"

    def _leave(self, operation: Operation, room_name: str, random: Random) -> str:
        with self._lock:
            stays = self._stays.get((room_name, operation.user)) or self._any_stay(room_name)
            stay = stays.pop(0) if stays else None
        if stay is None:
            return "nothing to do"
        left = self._daily.post(f"/sandbox/rooms/{room_name}/leave", json={"session_id": stay})
        return "acknowledged" if left.is_success else "room gone"

    def _any_stay(self, room_name: str) -> list[str]:
        return next((stays for (room, _), stays in self._stays.items() if room == room_name and stays), [])

    def _start(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("start", operation, random, room_name=room_name)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.starts.append((room_name, answer.body["recordingId"]))
        return "acknowledged"

    def _stop(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("stop", operation, random, room_name=room_name)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.stops.append((room_name, answer.body["recordingId"]))
        return "acknowledged"

    def _delete(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("delete", operation, random, room_name=room_name)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.deletes.append(room_name)
        return "acknowledged"

    def _cancel(self, operation: Operation, room_name: str, random: Random) -> str:
        """Daily gives up a recording."""
        recordings = self._daily.get("/sandbox/state").json()["recordings"]
        running = [one["id"] for one in recordings if (one["room_name"], one["status"]) == (room_name, "in-progress")]
        done = [self._daily.post(f"/sandbox/recordings/{id}/fail", json={}).is_success for id in running]
        return "acknowledged" if any(done) else "nothing to do"

    def _press_record(self, operation: Operation, room_name: str, random: Random) -> str:
        """The instructor presses Daily's own button inside the call, which they enter first, if they still can."""
        joined = self._join(operation, room_name, random)
        with self._lock:
            stays = self._stays.get((room_name, operation.user), [])
        if not stays:
            return joined
        pressed = self._daily.post(f"/sandbox/rooms/{room_name}/record", json={"session_id": stays[-1]})
        return "acknowledged" if pressed.is_success else "nothing to do"

    def _press_stop(self, operation: Operation, room_name: str, random: Random) -> str:
        pressed = self._daily.post(f"/sandbox/rooms/{room_name}/record/stop", json={})
        return "acknowledged" if pressed.is_success else "nothing to do"

    def _remove(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("remove", operation, random, room_name=room_name, whom=operation.whom)
        if answer.body is None:
            return self._refused(operation, answer)
        self.journal.removals.append((room_name, operation.whom))
        return "acknowledged"

    def _come_back(self, operation: Operation, room_name: str, random: Random) -> str:
        return self.enter(room_name, operation.whom)

    def _readmit(self, operation: Operation, room_name: str, random: Random) -> str:
        self.journal.readmissions.append((room_name, operation.whom))  # asked for, and perhaps done
        answer = self._insist("readmit", operation, random, room_name=room_name, whom=operation.whom)
        return "acknowledged" if answer.body is not None else self._refused(operation, answer)

    def _permit(self, operation: Operation, room_name: str, random: Random) -> str:
        body = {"micAllowed": random.random() < 0.5, "cameraAllowed": random.random() < 0.5}
        answer = self._insist("permit", operation, random, room_name=room_name, whom=operation.whom, body=body)
        return "acknowledged" if answer.body is not None else self._refused(operation, answer)

    def _mute(self, operation: Operation, room_name: str, random: Random) -> str:
        answer = self._insist("mute", operation, random, room_name=room_name)
        return "acknowledged" if answer.body is not None else self._refused(operation, answer)

    def _resize(self, operation: Operation, room_name: str, random: Random) -> str:
        size = random.randrange(50, 200)
        with self._lock:
            self.journal.sizes.setdefault(room_name, set()).add(size)
        body = {"maxParticipants": size}
        answer = self._insist("resize", operation, random, room_name=room_name, body=body)
        return "acknowledged" if answer.body is not None else self._refused(operation, answer)

    def appear(self, random: Random, **more: Any) -> str:
        """Another application comes, and is seen oddly."""
        body = {"users": ["someone else|1", "jürgen@example.org"], "events": [random.choice(EVENTS)], **more}
        answer = self._daily.post("/sandbox/others", json=body)
        answer.raise_for_status()
        self.journal.others.append(answer.json())
        odd = random.choice(ODD) | {"room": answer.json()["room"]}
        self._daily.post("/sandbox/odd", json=odd).raise_for_status()
        return "acknowledged"

    def _unhook(self, random: Random) -> str:
        """Spoils our webhook behind the service's back."""
        webhooks = self._daily.get("/sandbox/state", params={"room": "nobody's"}).json()["webhooks"]
        ours = [webhook["uuid"] for webhook in webhooks if webhook["url"] != NOBODY]
        change = random.choice(UNHOOKED)
        for uuid in ours:
            path = f"/sandbox/webhooks/{uuid}"
            answer = self._daily.delete(path) if change is None else self._daily.post(path, json=change)
            answer.raise_for_status()
        return "acknowledged" if ours else "nothing to do"

    def _insist(self, verb: str, operation: Operation, random: Random, **request: Any) -> Answer:
        """Sends it until it is answered, as a client that backs off would."""
        end = time.monotonic() + PATIENCE
        wait = 0.1
        while time.monotonic() < end:
            answer = self._callers.call(verb, operation.user, operation.role, over_grpc=operation.over_grpc, **request)
            if answer.body is not None or answer.refusal is not None:
                return answer
            with self._lock:
                self.outcomes[operation.kind, "sent again"] += 1
            time.sleep(wait * random.uniform(0.5, 1))
            wait = min(2, wait * 2)
        return Answer()

    def _refused(self, operation: Operation, answer: Answer) -> str:
        if answer.refusal is None:
            return "given up"
        allowed = set(REFUSALS.get(operation.kind, ()))
        if not operation.session.body["recordingEnabled"]:
            allowed.add("Recording is not enabled for this session")
        if not answer.refusal.startswith(tuple(allowed)):
            self.journal.surprises.append((f"{operation.kind} of session {operation.session.number}", answer.refusal))
        return "refused"
