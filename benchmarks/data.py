"""What is in the tables while we measure: classes as a school leaves them behind, most of them over, about twenty per
instructor; and instructors with exactly 10 and exactly 1,000 sessions, which lie scattered among the others."""

from random import Random

import psycopg

MANY, FEW = 1000, 10
STUDENTS = 10_000

FILL = """
INSERT INTO sessions (course_id, room_name, status, starts_at, ends_at, created_by, recording_enabled,
    max_participants, created_at, updated_at, room_created_at)
SELECT 'course-' || i / 40, 'ls-' || translate(left(encode(uuid_send(gen_random_uuid()), 'base64'), 22), '+/', '-_'),
    CASE WHEN is_over THEN 'ended' ELSE 'scheduled' END, starts_at, CASE WHEN is_over THEN starts_at + '1 hour' END,
    CASE i % 10
        WHEN 0 THEN 'many-' || (i / 10) % ({rows} / 10 / 1000)
        WHEN 1 THEN 'few-' || (i / 10) % ({rows} / 10 / 10)
        ELSE 'instructor-' || i % ({rows} / 20)
    END,
    i % 2 = 0, 50, starts_at - '7 days'::interval, starts_at, starts_at - '7 days'::interval
FROM generate_series(0, {rows} - 1) AS i,
LATERAL (SELECT timestamptz '2026-01-01 08:00Z' + i * interval '1 second' AS starts_at, i % 10 <> 5 AS is_over) AS times
"""


class Data:
    """A filled database; `rows` is a multiple of 10,000."""

    def __init__(self, database_url: str, rows: int, seed: int = 1) -> None:
        self._random = Random(seed)
        self.url, self.rows = database_url, rows

    def fill(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as database:
            database.execute("TRUNCATE sessions CASCADE")
            database.execute(FILL.format(rows=self.rows).encode())
            database.execute("VACUUM (ANALYZE) sessions")
            database.execute("CHECKPOINT")

    def read_names(self) -> None:
        """All room names in one piece, for a million strings would be ten times as large."""
        with psycopg.connect(self.url) as database:
            rows = database.execute("SELECT room_name, status FROM sessions").fetchall()
        self._names = "".join(name for name, _ in rows).encode()
        self._width = len(self._names) // len(rows)
        self._coming = [name for name, status in rows if status == "scheduled"]
        self._random.shuffle(self._coming)

    def name(self) -> bytes:
        """Of any session."""
        at = int(self._random.random() * self.rows) * self._width
        return self._names[at : at + self._width]

    def new_class(self) -> str:
        """A room that nobody has entered."""
        room_name: str = self._coming.pop()
        return room_name

    def instructor(self, sessions: int) -> bytes:
        """Some instructor with so many sessions."""
        kind = "many" if sessions == MANY else "few"
        return f"{kind}-{int(self._random.random() * (self.rows // 10 // sessions))}".encode()

    def participants(self, room_name: str) -> int:
        query = "SELECT count(*) FROM participants JOIN sessions ON sessions.id = session_id WHERE room_name = %s"
        with psycopg.connect(self.url) as database:
            row = database.execute(query, (room_name,)).fetchone()
        assert row is not None
        return int(row[0])
