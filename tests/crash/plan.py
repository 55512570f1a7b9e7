"""What a run does, chosen from its seed alone: operations on sessions, faults at Daily, and blows to processes."""

from dataclasses import dataclass
from random import Random
from typing import Any

POSTGRES = "postgres"
# How often each operation is chosen, of a hundred. `create` and `other` apart, each is about a session that was created
# earlier. `other` is another application on the domain; `unhook` spoils our webhook at Daily.
WEIGHTS = {
    "create": 13,
    "create again": 4,
    "token": 7,
    "join": 25,
    "leave": 17,
    "start": 14,
    "stop": 6,
    "delete": 4,
    "cancel": 2,
    "press record": 4,
    "press stop": 2,
    "remove": 4,
    "come back": 5,
    "readmit": 1,
    "permit": 3,
    "mute": 1,
    "resize": 3,
    "other": 1.6,
    "unhook": 0.4,
}
# Seconds, short enough for the rules of a class's life to act within a run.
LIFETIMES = {"EMPTY_TIMEOUT": 10, "NO_SHOW_TIMEOUT": 45, "MAX_DURATION": 90, "CLOSING_TIME": 5}
STUDENTS = 6
RECENT = 12
"""Operations meet among so many sessions, so that they meet often."""
LONGEST = 40.0
"""Seconds that a blow may last, which is longer than any lease."""
FAULTS_PER_OPERATION = 0.6
CALLS = (
    ("POST", "/rooms"),
    ("GET", "/rooms/*"),
    ("POST", "/rooms/*"),
    ("DELETE", "/rooms/*"),
    ("GET", "/rooms/*/presence"),
    ("POST", "/rooms/*/eject"),
    ("POST", "/rooms/*/recordings/start"),
    ("POST", "/rooms/*/recordings/start"),
    ("POST", "/rooms/*/recordings/stop"),
    ("GET", "/recordings"),
    ("GET", "/recordings/*"),
    ("GET", "/meetings"),
    ("GET", "/meetings/*"),
    ("GET", "/webhooks"),
    ("POST", "/webhooks/*"),
)
FAULTS = (
    *("status", "status", "rate_limit", "delay", "hang", "lost_answer", "lost_answer", "nobody_in_call"),
    *("webhook_drop", "webhook_drop", "webhook_duplicate", "webhook_reorder", "webhook_delay"),
)
UNHOOKED: tuple[dict[str, Any] | None, ...] = (
    {"state": "FAILED"},
    {"state": "INACTIVE"},
    {"eventTypes": ["meeting.ended"]},
    None,
)
"""What becomes of our webhook at Daily; None: it is gone."""


@dataclass(frozen=True)
class PlannedSession:
    number: int
    instructor: str
    body: dict[str, Any]
    key: str | None


@dataclass(frozen=True)
class Operation:
    kind: str
    session: PlannedSession
    user: str
    """Who does it: the instructor, or for `token`, `join` and `leave` also a student."""
    over_grpc: bool
    fault: dict[str, Any] | None
    """Set at Daily just before."""
    whom: str
    """The student whom `remove`, `come back`, `readmit` and `permit` are about."""

    @property
    def role(self) -> str:
        return "instructor" if self.user == self.session.instructor else "student"


@dataclass(frozen=True)
class Blow:
    """`kill`: SIGKILL, and started again after `seconds`. `freeze`: SIGSTOP, and SIGCONT after them. `cut`: all that
    comes from PostgreSQL and Daily, or goes there, is held up for so long."""

    kind: str
    after: int
    """How many operations have begun before it."""
    victims: tuple[str, ...]
    delay: float
    seconds: float


@dataclass(frozen=True)
class Number:
    """Of blows; `postgres` of the `kills` end PostgreSQL, the others a server process each."""

    kills: int = 0
    postgres: int = 0
    freezes: int = 0
    cuts: int = 0


@dataclass(frozen=True)
class Plan:
    seed: int
    operations: list[Operation]
    blows: list[Blow]
    daily: dict[str, Any]
    """How Daily behaves: settings of the stand-in."""


def make(seed: int, operations: int, number: Number, servers: int) -> Plan:
    random = Random(seed)
    planned = list(_operations(random, seed, operations))
    blows = list(_blows(random, number, servers, operations))
    return Plan(seed, planned, blows, _daily(random))


def _daily(random: Random) -> dict[str, Any]:
    return {
        "limits": True,
        "removal_ends_call": False,
        "listing_lag": round(random.uniform(1, 6), 1),
        "meeting_end_lag": round(random.uniform(0, 20), 1),
        "processing_seconds": round(random.uniform(0.5, 6), 1),
        "min_stay": random.choice((0, 10)),
        "max_webhooks": 2,
        "presence_lag": round(random.uniform(0, 25), 1),
    }


def _operations(random: Random, seed: int, count: int) -> Any:
    sessions: list[PlannedSession] = []
    open_sessions: list[PlannedSession] = []
    recorded: set[int] = set()
    for _ in range(count):
        kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if len(sessions) < 4:
            kind = "create"
        if kind == "create":
            session = _session(random, seed, len(sessions))
            sessions.append(session)
            open_sessions.append(session)
        else:
            # Now and then one that has been stopped or deleted: what is over must stay over.
            session = random.choice((sessions if random.random() < 0.1 else open_sessions or sessions)[-RECENT:])
        if kind == "stop" and session.number not in recorded:
            kind = "start"
        if kind == "start":
            recorded.add(session.number)
        if kind in ("stop", "delete") and session in open_sessions and random.random() < 0.8:
            open_sessions.remove(session)
        yield _operation(random, kind, session)


def _operation(random: Random, kind: str, session: PlannedSession) -> Operation:
    user = session.instructor
    if kind in ("token", "join", "leave") and random.random() < 0.9:
        user = _student(session, random.randrange(STUDENTS))
    fault = _fault(random) if random.random() < FAULTS_PER_OPERATION else None
    return Operation(kind, session, user, random.random() < 0.25, fault, _student(session, random.randrange(STUDENTS)))


def _student(session: PlannedSession, number: int) -> str:
    """One in each session has an id that is longer than Daily takes."""
    name = f"student-{session.number}-{number}"
    return name if number else f"{name}-with-an-id-longer-than-36-characters"


def _session(random: Random, seed: int, number: int) -> PlannedSession:
    """A third of them were to begin long ago, and end when nobody comes."""
    year, day, hour = random.choice((2024, 2030, 2030)), random.randrange(1, 29), random.randrange(24)
    body: dict[str, Any] = {
        "courseId": f"course-{random.randrange(1000)}",
        "startsAt": f"{year}-01-{day:02}T{hour:02}:00:00.{random.randrange(999):03}Z",
        "recordingEnabled": random.random() < 0.9,
    }
    if random.random() < 0.5:
        body["maxParticipants"] = random.randrange(50, 200)
    key = f"create-{seed}-{number}" if random.random() < 0.6 else None
    return PlannedSession(number, f"instructor-{random.randrange(5)}", body, key)


def _fault(random: Random) -> dict[str, Any]:
    fault: dict[str, Any] = {"fault": random.choice(FAULTS), "times": random.choice((1, 1, 2, 4))}
    if fault["fault"] == "webhook_delay":
        fault["seconds"] = round(random.uniform(0.2, 8), 1)
    if fault["fault"].startswith("webhook"):
        return fault
    method, path = random.choice(CALLS)
    if fault["fault"] == "nobody_in_call":
        method, path = "POST", "/rooms/*/recordings/start"
    fault |= {"method": method, "path": path}
    if fault["fault"] == "status":
        fault["status"] = random.choice((500, 503))
    if fault["fault"] == "delay":
        fault["seconds"] = round(random.uniform(0.2, 6), 1)
    return fault


def _blows(random: Random, number: Number, servers: int, operations: int) -> Any:
    """In the order of their times; the last ones come while operations are still under way."""
    chosen: list[tuple[str, tuple[str, ...]]] = [("kill", (POSTGRES,))] * number.postgres
    left = number.kills - number.postgres
    while left > 0:
        together = 2 if left >= 2 and servers >= 2 and random.random() < 0.2 else 1
        chosen.append(("kill", tuple(_server(i) for i in random.sample(range(servers), together))))
        left -= together
    for kind, count in (("freeze", number.freezes), ("cut", number.cuts)):
        chosen += [(kind, (_server(random.randrange(servers)),)) for _ in range(count)]
    random.shuffle(chosen)
    step = operations / (len(chosen) + 1)
    for place, (kind, victims) in enumerate(chosen):
        after, delay = int(step * (place + random.random())), random.uniform(0, 0.6)
        seconds = random.uniform(0, 1) if kind == "kill" else random.uniform(0.2, 1) * min(LONGEST, operations / 5)
        yield Blow(kind, after, victims, delay, seconds)


def _server(number: int) -> str:
    return f"server-{number}"
