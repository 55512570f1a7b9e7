"""What a run does, chosen from its seed alone: operations on sessions, faults at Daily, and kills."""

from dataclasses import dataclass
from random import Random
from typing import Any

POSTGRES = "postgres"
# How often each operation is chosen, of a hundred. `create` apart, each is about a session that was created earlier.
WEIGHTS = {
    "create": 13,
    "create again": 4,
    "token": 9,
    "join": 26,
    "leave": 18,
    "start": 15,
    "stop": 7,
    "delete": 6,
    "cancel": 2,
}
STUDENTS = 6
RECENT = 12
"""Operations meet among so many sessions, so that they meet often."""
FAULTS_PER_OPERATION = 0.6
CALLS = (
    ("POST", "/rooms"),
    ("GET", "/rooms/*"),
    ("DELETE", "/rooms/*"),
    ("POST", "/rooms/*/recordings/start"),
    ("POST", "/rooms/*/recordings/start"),
    ("POST", "/rooms/*/recordings/stop"),
    ("GET", "/recordings"),
    ("GET", "/recordings/*"),
    ("GET", "/meetings"),
    ("GET", "/webhooks"),
)
FAULTS = (
    *("status", "status", "rate_limit", "delay", "hang", "lost_answer", "lost_answer", "nobody_in_call"),
    *("webhook_drop", "webhook_drop", "webhook_duplicate", "webhook_reorder"),
)


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

    @property
    def role(self) -> str:
        return "instructor" if self.user == self.session.instructor else "student"


@dataclass(frozen=True)
class Kill:
    after: int
    """How many operations have begun before it."""
    victims: tuple[str, ...]
    delay: float
    down: float
    """Seconds until they are started again."""


@dataclass(frozen=True)
class Plan:
    seed: int
    operations: list[Operation]
    kills: list[Kill]


def make(seed: int, operations: int, kills: int, postgres_kills: int, servers: int) -> Plan:
    """`postgres_kills` of the `kills` end PostgreSQL, the others a server process each."""
    random = Random(seed)
    planned = list(_operations(random, seed, operations))
    victims = _victims(random, kills - postgres_kills, postgres_kills, servers)
    step = operations / (len(victims) + 1)
    # The last ones come while operations are still under way.
    moments = sorted(int(step * (i + random.random())) for i in range(len(victims)))
    chosen = zip(moments, victims, strict=True)
    return Plan(seed, planned, [Kill(at, who, random.uniform(0, 0.6), random.uniform(0, 1)) for at, who in chosen])


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
    return Operation(kind, session, user, random.random() < 0.25, fault)


def _student(session: PlannedSession, number: int) -> str:
    """One in each session has an id that is longer than Daily takes."""
    name = f"student-{session.number}-{number}"
    return name if number else f"{name}-with-an-id-longer-than-36-characters"


def _session(random: Random, seed: int, number: int) -> PlannedSession:
    body: dict[str, Any] = {
        "courseId": f"course-{random.randrange(1000)}",
        "startsAt": f"2030-01-{random.randrange(1, 29):02}T{random.randrange(24):02}:00:00.{random.randrange(999):03}Z",
        "recordingEnabled": random.random() < 0.9,
    }
    if random.random() < 0.5:
        body["maxParticipants"] = random.randrange(50, 200)
    key = f"create-{seed}-{number}" if random.random() < 0.6 else None
    return PlannedSession(number, f"instructor-{random.randrange(5)}", body, key)


def _fault(random: Random) -> dict[str, Any]:
    fault: dict[str, Any] = {"fault": random.choice(FAULTS), "times": random.choice((1, 1, 2, 4))}
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


def _victims(random: Random, server_kills: int, postgres_kills: int, servers: int) -> list[tuple[str, ...]]:
    victims: list[tuple[str, ...]] = [(POSTGRES,)] * postgres_kills
    while server_kills > 0:
        together = servers if server_kills >= servers and random.random() < 0.3 else 1
        victims.append(tuple(f"server-{i}" for i in random.sample(range(servers), together)))
        server_kills -= together
    random.shuffle(victims)
    return victims
