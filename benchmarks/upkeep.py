"""What upkeep costs while nothing is wrong, and how soon it finishes what a crash has left, by how many classes there
are: schools of three sizes beside each other, each with a server process, a PostgreSQL and a Daily of its own, which
keeps to its limits. They are measured at the same time, so that what disturbs one disturbs all."""

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import httpx
import psycopg

from benchmarks.figures import Figure, Target, figure
from benchmarks.meter import Meter
from sandbox.daily.model import Connection, Meeting, Recording, Room
from sandbox.process import SandboxError
from sandbox.stack import Stack

SMALL, LARGE = 100, 5000
SCHOOLS = (0, SMALL, LARGE)
"""Classes that are under way, healthy, live and recorded."""
STUDENTS = 30
"""Who are inside each."""
OVER = 2000
"""Classes of the large school that have ended, and whose rooms are to be closed."""
WINDOW = 60.0
SETTLE = 8.0
BOUND = 20.0
PATIENCE = 120.0

# As the service leaves them. The classes are between 20 and 60 minutes old: each has been looked at once, a quarter of
# an hour after its start, and is due again an hour after that.
FILL = """
TRUNCATE sessions, daily_events CASCADE;
CREATE TEMPORARY TABLE class ON COMMIT DROP AS
SELECT i AS number, gen_random_uuid() AS session, i >= %(live)s AS is_over,
    now() - interval '20 minutes' - i * interval '40 minutes' / (%(live)s + %(over)s + 1) AS began
FROM generate_series(0, %(live)s + %(over)s - 1) AS i;
INSERT INTO sessions (id, course_id, room_name, status, starts_at, ends_at, created_by, recording_enabled,
    max_participants, created_at, room_created_at, live_at, end_requested_at, closes_at, due_at)
SELECT session, 'course', 'ls-bench-' || number, CASE WHEN is_over THEN 'ended' ELSE 'live' END, began,
    CASE WHEN is_over THEN now() END, 'instructor', true, 50, began - interval '1 day', began - interval '1 day',
    began, CASE WHEN is_over THEN now() END, CASE WHEN is_over THEN now() + interval '1 hour' END,
    CASE WHEN is_over THEN now() + interval '1 hour' ELSE began + interval '75 minutes' END
FROM class;
INSERT INTO recordings (id, instance_id, session_id, recording_id, status, made_live, started_at, stopped_at,
    settled_at, duration, created_at, due_at)
SELECT md5('instance-' || number)::uuid, md5('instance-' || number)::uuid, session,
    md5('recording-' || number)::uuid::text, CASE WHEN is_over THEN 'completed' ELSE 'processing' END, false, began,
    CASE WHEN is_over THEN now() END, CASE WHEN is_over THEN now() END, CASE WHEN is_over THEN 1200 END, began,
    CASE WHEN NOT is_over THEN began + interval '370 minutes' END
FROM class;
INSERT INTO meetings (id, session_id, started_at)
SELECT md5('meeting-' || number)::uuid::text, session, began FROM class WHERE NOT is_over;
INSERT INTO participants (session_id, user_id, daily_user_id, role)
SELECT session, 'user-' || i, 'user-' || i, 'student'
FROM class, generate_series(1, %(students)s) AS i WHERE NOT is_over;
INSERT INTO connections (id, session_id, daily_user_id, joined_at)
SELECT md5('stay-' || number || '-' || i)::uuid::text, session, 'user-' || i, began
FROM class, generate_series(1, %(students)s) AS i WHERE NOT is_over;
"""
STOP = """
UPDATE sessions SET end_requested_at = now(), closes_at = now() + interval '5 minutes', due_at = clock_timestamp()
WHERE room_name = %s
"""
CLOSE = "UPDATE sessions SET closes_at = now(), due_at = clock_timestamp() WHERE status = 'ended' AND ends_at < now()"
LOOK_ONCE_AN_HOUR = "UPDATE sessions SET due_at = now() + random() * interval '1 hour' WHERE status = 'live'"


@dataclass(frozen=True)
class Cost:
    """Of one school for a while; requests by the minute, CPU in ms of each second."""

    requests: float
    refused: float
    server: float
    postgres: float


class School:
    def __init__(self, stack: Stack, classes: int) -> None:
        self.stack, self.classes = stack, classes
        self._http = httpx.Client(base_url=f"{stack.daily_url}/sandbox", timeout=30, trust_env=False)
        assert stack.postgres is not None
        self._meter = Meter({"server": stack.servers[0].pid, "postgres": stack.postgres.pid})

    def fill(self) -> None:
        with psycopg.connect(self.stack.database_url) as database:
            fill(database, self.classes, _over(self.classes))
        self.run("VACUUM (ANALYZE)")

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.database_url, autocommit=True) as database:
            cursor = database.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def _requests(self) -> tuple[int, int]:
        """How many Daily has been sent so far, and how many of them its limits refused."""
        counts = self._http.get("/calls").json()
        return sum(counts["calls"].values()), sum(counts["refused"].values())

    def begin(self) -> None:
        """What is done once a minute or more often is due now, in each school."""
        self.run("UPDATE chores SET due_at = clock_timestamp()")
        self._before = self._requests()
        self._meter.start()

    def cost(self, seconds: float) -> Cost:
        used = self._meter.seconds()
        requests, refused = (
            (now - before) / seconds * 60 for now, before in zip(self._requests(), self._before, strict=True)
        )
        return Cost(requests, refused, used["server"] / seconds * 1000, used["postgres"] / seconds * 1000)

    def finish_stop(self, number: int) -> float:
        """Seconds in which upkeep finishes a stop whose intent is committed, and whose process is gone."""
        room, begin = f"ls-bench-{number}", time.monotonic()
        self.run(STOP, room)
        while not self._is_over(room):
            if time.monotonic() - begin > PATIENCE:
                break
            time.sleep(0.1)
        return time.monotonic() - begin

    def _is_over(self, room: str) -> bool:
        [(status,)] = self.run("SELECT status FROM sessions WHERE room_name = %s", room)
        if status != "ended":
            return False
        recordings = self._http.get("/state", params={"room": room}).json()["recordings"]
        return all(recording["end_ts"] is not None for recording in recordings)


def measure(directory: Path, rounds: int) -> dict[str, Any]:
    """The costs of each school, of the large one also while what its classes are asked is due, and the targets."""
    with schools(directory) as every:
        large = every[-1]
        costs = [_costs(every) for _ in range(rounds)]
        large.run(LOOK_ONCE_AN_HOUR)
        asking = [_costs([large])[0] for _ in range(rounds)]
        stops = [large.finish_stop(number) for number in range(rounds)]
        large.run(CLOSE)
        time.sleep(SETTLE)
        busy = [large.finish_stop(rounds + number) for number in range(rounds)]
        rows = [(f"{school.classes:,}", [cost[at] for cost in costs]) for at, school in enumerate(every)]
        rows.append((f"{LARGE:,}, each asked for once an hour", asking))
    found = targets([(cost[1], cost[2]) for cost in costs], stops, busy)
    return {"upkeep": [_row(name, every) for name, every in rows], "targets": [target.as_json() for target in found]}


def targets(pairs: list[tuple[Cost, Cost]], stops: list[float], busy: list[float]) -> list[Target]:
    """`pairs`: the costs of the small and of the large school, at the same time."""
    sizes = f"{LARGE:,} / {SMALL:,} classes"
    among = f"an unfinished stop among {LARGE:,} classes: s until it is finished"
    return [
        Target(f"upkeep: requests to Daily, {sizes}", figure(two.requests / one.requests for one, two in pairs), 1.2),
        Target(f"upkeep: server CPU, {sizes}", figure(two.server / one.server for one, two in pairs), 1.2),
        Target(among, figure(stops), BOUND),
        Target(f"{among}, while {OVER:,} rooms are due to be closed", figure(busy), BOUND),
    ]


@contextmanager
def schools(directory: Path) -> Iterator[list[School]]:
    with ExitStack() as running:
        every = []
        for classes in SCHOOLS:
            data = directory / f"upkeep-{classes}"
            shutil.rmtree(data, ignore_errors=True)  # what the run before has left due would be worked on
            data.mkdir(parents=True)
            (data / "daily.json").write_text(json.dumps(at_daily(classes, _over(classes)), default=_plain))
            stack = running.enter_context(Stack(data, daily_options=["--limits"]))
            every.append(School(stack, classes))
            every[-1].fill()
        for school in every:
            _settle(school)
        yield every


def _settle(school: School) -> None:
    """Until the chores that a process begins with are done."""
    end = time.monotonic() + PATIENCE
    while school.run("SELECT id FROM chores WHERE id <> 'forget' AND done_until IS NULL"):
        if time.monotonic() > end:
            raise SandboxError(f"upkeep of {school.classes} classes does not settle")
        time.sleep(0.5)


def _costs(every: list[School]) -> list[Cost]:
    for school in every:
        school.begin()
    begin = time.monotonic()
    time.sleep(WINDOW)
    seconds = time.monotonic() - begin
    return [school.cost(seconds) for school in every]


def _row(name: str, costs: list[Cost]) -> dict[str, Any]:
    values: dict[str, Figure] = {
        what: figure(getattr(cost, what) for cost in costs) for what in ("requests", "refused", "server", "postgres")
    }
    return {"classes": name, **values}


def _over(classes: int) -> int:
    return OVER if classes == LARGE else 0


def fill(database: psycopg.Connection, live: int, over: int) -> None:
    """With so many classes that are live, and that are over."""
    for statement in FILL.split(";")[:-1]:
        database.execute(statement.encode(), {"live": live, "over": over, "students": STUDENTS})


def at_daily(live: int, over: int) -> dict[str, Any]:
    """The same classes in the form of the stand-in's file."""
    now = time.time()
    rooms, meetings, recordings = [], [], []
    for number in range(live + over):
        began, is_over, room = round(now - 1200 - number * 0.3, 3), number >= live, f"ls-bench-{number}"
        rooms.append(Room(_id("room", number), room, "private", began - 86400, {"enable_recording": "cloud"}))
        recordings.append(_recording(number, room, began, is_over))
        if not is_over:
            stays = [_stay(number, student, room, began) for student in range(1, STUDENTS + 1)]
            meetings.append(Meeting(_id("meeting", number), room, began, max_participants=STUDENTS, connections=stays))
    kept = {"rooms": rooms, "meetings": meetings, "recordings": recordings, "webhooks": []}
    return {"domain_id": _id("domain", 0), **kept}


def _stay(number: int, student: int, room: str, began: float) -> Connection:
    id, user = _id("stay", f"{number}-{student}"), f"user-{student}"
    return Connection(room, id, user, user, False, {}, began, None)


def _recording(number: int, room: str, began: float, is_over: bool) -> Recording:
    return Recording(
        id=_id("recording", number),
        room_name=room,
        instance_id=_id("instance", number),
        layout={"preset": "default"},
        started_by=None,
        start_ts=began,
        max_duration=6 * 3600,
        min_idle_timeout=300,
        s3key=f"sandbox/{room}/{number}",
        mtg_session_id=_id("meeting", number),
        max_participants=STUDENTS,
        status="finished" if is_over else "in-progress",
        end_ts=began + 1200 if is_over else None,
        duration=1200 if is_over else None,
    )


def _id(noun: str, number: object) -> str:
    """The same as the one that PostgreSQL makes of it."""
    return str(uuid.UUID(md5(f"{noun}-{number}".encode(), usedforsecurity=False).hexdigest()))


def _plain(thing: object) -> dict[str, Any]:
    return {name: value for name, value in vars(thing).items() if name != "inside"}
