"""Attendance: who was there, when and for how much of the class, as an array and as a table for spreadsheets."""

import csv
import io
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.daily.model import iso
from sandbox.stack import Stack
from server.usecases.report import merged
from tests.clients import DailyControl, Rest, bearer, eventually, said
from tests.tokens import signed

ME = "reporting-instructor"
HEADER = ["userId", "name", "role", "joinedAt", "leftAt", "duration", "share", "stays"]
SECOND = timedelta(seconds=1)
Stay = tuple[datetime, datetime | None]


class Class:
    """A session and the people in its room; names are those of their tokens."""

    def __init__(self, rest: Rest, daily: DailyControl) -> None:
        self._rest, self._daily = rest, daily
        self.name = str(rest.create(ME)["roomName"])

    def join(self, user: str, role: str = "student", name: str | None = None) -> str:
        headers = {"Authorization": f"Bearer {self._rest.token(user, role, name)}"}
        token = self._rest.call("POST", f"/sessions/{self.name}/token", headers=headers).json()["token"]
        return str(self._daily.join(self.name, token)["session_id"])

    def leave(self, stay: str) -> None:
        self._daily.leave(self.name, stay)

    def truth(self) -> dict[str, list[tuple[str, str | None]]]:
        """By user: when each of their connections joined and left, as Daily knows it."""
        found: dict[str, list[tuple[str, str | None]]] = {}
        for stay in self._daily.of_room(self.name)["connections"]:
            left = stay["left_at"]
            found.setdefault(stay["user_id"], []).append((iso(stay["joined_at"]), None if left is None else iso(left)))
        return found

    def attendance(self) -> list[dict[str, Any]]:
        return list(said(self._rest.call("GET", f"/sessions/{self.name}/attendance", ME))[1])

    def known(self) -> dict[str, tuple[str, str | None]]:
        """By user: when they first joined and last left, as attendance has it."""
        return {one["userId"]: (one["joinedAt"], one.get("leftAt")) for one in self.attendance()}

    def settled(self) -> None:
        """Waits until attendance has what Daily knows."""

        def outline() -> dict[str, tuple[str, str | None]]:
            return {
                user: (stays[0][0], None if None in (ends := [left for _, left in stays]) else max(filter(None, ends)))
                for user, stays in self.truth().items()
            }

        eventually(lambda: self.known() == outline(), 60)

    def table(self) -> list[list[str]]:
        answer = self._rest.call("GET", f"/sessions/{self.name}/attendance.csv", ME)
        assert answer.status_code == 200, answer.text
        return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


@pytest.fixture
def lesson(rest: Rest, daily: DailyControl) -> Class:
    return Class(rest, daily)


def seconds(one: dict[str, Any]) -> float:
    """Of the stays that are over."""
    moments = [(datetime.fromisoformat(s["joinedAt"]), datetime.fromisoformat(s["leftAt"])) for s in one["stays"]]
    return sum((left - joined).total_seconds() for joined, left in moments)


# Who was there


def test_who_came_and_went_has_one_record_with_all_stays(lesson: Class) -> None:
    lesson.leave(lesson.join("sam", name="Sam Ple"))
    time.sleep(1.1)
    lesson.leave(lesson.join("sam", name="Sam Ple"))
    lesson.settled()
    [one] = lesson.attendance()
    assert list(one) == ["userId", "name", "role", "joinedAt", "leftAt", "duration", "share", "stays"]
    assert (one["userId"], one["name"], one["role"]) == ("sam", "Sam Ple", "student")
    assert [(stay["joinedAt"], stay["leftAt"]) for stay in one["stays"]] == lesson.truth()["sam"]
    assert one["duration"] == int(seconds(one))


def test_two_devices_at_once_are_one_stay(lesson: Class) -> None:
    phone, laptop = lesson.join("sam"), lesson.join("sam")
    time.sleep(1.1)
    lesson.leave(phone)
    time.sleep(1.1)
    lesson.leave(laptop)
    lesson.settled()
    [one] = lesson.attendance()
    (first, _), (_, last) = lesson.truth()["sam"]
    assert [(stay["joinedAt"], stay["leftAt"]) for stay in one["stays"]] == [(first, last)]
    assert one["duration"] == int(seconds(one))


def test_who_is_inside_is_counted_until_now_and_has_not_left(lesson: Class) -> None:
    lesson.join("ada", "instructor")
    lesson.settled()
    before = lesson.attendance()[0]
    assert "leftAt" not in before
    assert "leftAt" not in before["stays"][0]
    eventually(lambda: lesson.attendance()[0]["duration"] > before["duration"])
    assert lesson.attendance()[0]["share"] == 1


def test_the_share_is_that_of_the_time_since_the_first_join(lesson: Class) -> None:
    lesson.join("ada", "instructor")
    time.sleep(1.5)
    lesson.leave(lesson.join("sam"))
    lesson.settled()
    shares = {one["userId"]: one["share"] for one in lesson.attendance()}
    assert shares["ada"] == 1
    assert 0 <= shares["sam"] < 0.2


def test_who_only_asked_for_a_token_was_not_there(rest: Rest, lesson: Class) -> None:
    rest.call("POST", f"/sessions/{lesson.name}/token", "sam", "student")
    assert lesson.attendance() == []
    assert lesson.table() == [HEADER]


def test_after_the_end_nobodys_duration_grows(rest: Rest, lesson: Class) -> None:
    lesson.join("sam")
    lesson.settled()
    rest.call("DELETE", f"/sessions/{lesson.name}", ME)
    lesson.settled()
    before = lesson.attendance()
    time.sleep(1.1)
    assert lesson.attendance() == before
    assert before[0]["share"] == 1


def test_attendance_is_true_whatever_becomes_of_the_events(daily: DailyControl, lesson: Class) -> None:
    """Doubled, late and lost; what is lost is read from Daily's record of the meeting."""
    daily.fault("webhook_duplicate", times=3)
    first = lesson.join("sam")
    daily.fault("webhook_reorder", type="participant.joined")
    second, third = lesson.join("eve"), lesson.join("sam")
    daily.fault("webhook_drop", type="participant.left", times=1)
    time.sleep(1.1)
    for stay in (first, second, third):
        lesson.leave(stay)
    eventually(lambda: len(lesson.attendance()) == 2, 60)
    truth = {user: (stays[0][0], stays[-1][1] or "") for user, stays in lesson.truth().items()}
    eventually(lambda: all(near(lesson.known()[user], stay) for user, stay in truth.items()), 90)


def near(known: tuple[str, str | None], truth: tuple[str, str]) -> bool:
    """To the second, as Daily's records have it."""
    if known[1] is None:
        return False
    joined, left = (abs(moment(one) - moment(other)) for one, other in zip(known, truth, strict=True))
    return max(joined, left) <= SECOND


def moment(text: str | None) -> datetime:
    assert text is not None
    return datetime.fromisoformat(text)


def test_a_name_is_that_of_the_token_or_dailys_own_and_else_there_is_none(
    stack: Stack, rest: Rest, daily: DailyControl, lesson: Class
) -> None:
    secret = stack.environment["LIVE_SESSIONS_JWT_SECRET"]
    for user in ("nameless", "nameless-" + "x" * 40):
        headers = {"Authorization": f"Bearer {signed(secret, id=user, name=None, role='student')}"}
        token = rest.call("POST", f"/sessions/{lesson.name}/token", headers=headers).json()["token"]
        daily.join(lesson.name, token)
    lesson.join("sam", name="Sam Ple")
    lesson.join("sam", name="Sam Ple the Second")
    daily.join(lesson.name, visitors_token(stack, lesson.name))
    names = {"sam": "Sam Ple the Second", "visitor": "Vi Sitor", "nameless": None, "nameless-" + "x" * 40: None}
    eventually(lambda: len(lesson.attendance()) == len(names))
    assert {one["userId"]: one.get("name") for one in lesson.attendance()} == names


def visitors_token(stack: Stack, room: str) -> str:
    """One that Daily made itself, for somebody whom we have never seen."""
    headers = {"Authorization": f"Bearer {stack.environment['LIVE_SESSIONS_DAILY_API_KEY']}"}
    properties = {"room_name": room, "user_id": "visitor", "user_name": "Vi Sitor"}
    url = f"{stack.daily_url}/v1/meeting-tokens"
    return str(httpx.post(url, json={"properties": properties}, headers=headers, trust_env=False).json()["token"])


# The list


def test_only_the_sessions_instructor_may_see_it(rest: Rest, lesson: Class) -> None:
    message = {"message": f"Not authorized to list attendance of session:{lesson.name}"}
    for path in ("attendance", "attendance.csv"):
        assert said(rest.call("GET", f"/sessions/{lesson.name}/{path}", "another")) == (403, message)
        assert rest.call("GET", f"/sessions/{lesson.name}/{path}").status_code == 401
        assert said(rest.call("GET", f"/sessions/none-such/{path}", ME)) == (404, {"message": "Session not found"})


def test_pages_lead_through_all_of_it(rest: Rest, daily: DailyControl, lesson: Class) -> None:
    daily.fill(lesson.name, 5)
    eventually(lambda: len(lesson.attendance()) == 5)
    seen, path = [], f"/sessions/{lesson.name}/attendance?page_size=2"
    while path:
        answer = rest.call("GET", path, ME)
        seen.append([one["userId"] for one in answer.json()])
        path = answer.links.get("next", {}).get("url", "")
    assert [len(page) for page in seen] == [2, 2, 1]
    assert [user for page in seen for user in page] == [one["userId"] for one in lesson.attendance()]


# The table


NAMES = ['Zoë, "the" 2nd', "=1+1", "+49", "-x", "@sam", "\tTab", "李小龍", "محمد", "Иван;Петров", "a\nb", "'quoted"]


def test_the_table_is_the_list_with_names_of_any_kind_and_nothing_to_run(lesson: Class) -> None:
    for number, name in enumerate(NAMES):
        lesson.join(f"user-{number:02}", name=name)
    lesson.settled()
    header, *rows = lesson.table()
    assert header == HEADER
    listed = lesson.attendance()
    assert [row[:2] for row in rows] == [
        [one["userId"], f"'{one['name']}" if one["name"][0] in "=+-@\t" else one["name"]] for one in listed
    ]
    assert [one["name"] for one in listed] == NAMES
    assert [row[2:5] for row in rows] == [["student", one["joinedAt"], ""] for one in listed]
    assert {row[7] for row in rows} == {"1"}


def test_rest_names_the_file_and_its_kind(rest: Rest, lesson: Class) -> None:
    answer = rest.call("GET", f"/sessions/{lesson.name}/attendance.csv", ME)
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == f'attachment; filename="attendance-{lesson.name}.csv"'
    assert answer.content == b"\xef\xbb\xbf" + ",".join(HEADER).encode() + b"\r\n"


def test_an_instructor_or_a_course_may_have_the_tables_name(rest: Rest) -> None:
    for of in ("instructor", "course"):
        answer = rest.call("GET", f"/sessions/{of}/attendance.csv", ME)
        assert said(answer) == (200, [])
        assert "content-disposition" not in answer.headers


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_libreoffice_opens_the_table(rest: Rest, lesson: Class, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        lesson.join(f"user-{number:02}", name=name)
    lesson.settled()
    table = tmp_path / "attendance.csv"
    table.write_bytes(rest.call("GET", f"/sessions/{lesson.name}/{table.name}", ME).content)
    # Opened as UTF-8 with commas, and written again: what comes out is what LibreOffice has understood.
    options = ["--infilter=CSV:44,34,UTF8", "--convert-to", "csv:Text - txt - csv (StarCalc):44,34,UTF8", "--outdir"]
    subprocess.run(["soffice", "--headless", *options, str(tmp_path / "out"), str(table)], check=True, timeout=120)
    with (tmp_path / "out" / table.name).open(newline="", encoding="utf-8-sig") as opened:
        assert [row[:3] for row in csv.reader(opened)] == [row[:3] for row in lesson.table()]


PEOPLE = 10_000


@pytest.fixture(scope="module")
def crowded(rest: Rest) -> str:
    """A session whose participants are written by the test below."""
    return str(rest.create(ME)["roomName"])


def test_ten_thousand_are_listed_in_pages_and_in_one_table(
    rest: Rest, stub: LiveSessionsStub, database: psycopg.Connection, crowded: str
) -> None:
    crowd(database, crowded)
    listed, path = 0, f"/sessions/{crowded}/attendance?page_size=1000"
    while path:
        answer = rest.call("GET", path, ME)
        listed += len(answer.json())
        path = answer.links.get("next", {}).get("url", "")
    assert listed == PEOPLE
    answer = rest.call("GET", f"/sessions/{crowded}/attendance.csv", ME)
    assert answer.content.count(b"\r\n") == PEOPLE + 1
    request = rpc.ExportSessionAttendanceRequest(session_name=crowded)
    table = stub.ExportSessionAttendance(request, metadata=bearer(rest.token(ME)), timeout=10)
    assert (table.data == answer.content, len(table.data) < 4 << 20) == (True, True)


def crowd(database: psycopg.Connection, room: str) -> None:
    """Each with two devices at once, and one that came again."""
    database.execute(
        """
        WITH session AS (SELECT id FROM sessions WHERE room_name = %s), people AS (
            INSERT INTO participants (session_id, user_id, daily_user_id, name, role, created_at)
            SELECT session.id, 'user-' || n, 'user-' || n, 'Name of ' || n, 'student', now() + n * interval '1 ms'
            FROM session, generate_series(1, %s) AS n RETURNING session_id, daily_user_id
        )
        INSERT INTO connections (id, session_id, daily_user_id, joined_at, left_at)
        SELECT gen_random_uuid(), session_id, daily_user_id,
            now() - interval '2 h' + device * interval '10 min', now() - interval '1 h' + device * interval '20 min'
        FROM people, generate_series(0, 2) AS device
        """,
        [room, PEOPLE],
    )


# Merging


START = datetime(2026, 1, 5, 9, tzinfo=UTC)
MOMENTS = st.integers(0, 60).map(lambda second: START + timedelta(seconds=second))
STAYS = st.lists(st.tuples(MOMENTS, st.none() | MOMENTS), max_size=8)


def covered(stays: list[Stay], second: int) -> bool:
    """Whether somebody is inside during this half second after a whole one."""
    at = START + timedelta(seconds=second, milliseconds=500)
    return any(joined <= at and (left is None or at < left) for joined, left in stays)


@given(STAYS)
def test_merged_stays_cover_exactly_what_the_stays_cover(stays: list[Stay]) -> None:
    whole = merged(stays)
    assert [covered(whole, second) for second in range(-1, 62)] == [covered(stays, second) for second in range(-1, 62)]


@given(STAYS)
def test_merged_stays_are_in_order_and_apart(stays: list[Stay]) -> None:
    whole = merged(stays)
    for (_, left), (joined, _) in pairwise(whole):
        assert left is not None
        assert left < joined
    assert all(left is None or left >= joined for joined, left in whole)


@given(STAYS, st.randoms())
def test_the_order_in_which_stays_are_told_makes_no_difference(stays: list[Stay], random: Any) -> None:
    shuffled = list(stays)
    random.shuffle(shuffled)
    assert merged(shuffled) == merged(stays)


@given(STAYS)
def test_each_stay_begins_inside_a_merged_one(stays: list[Stay]) -> None:
    whole = merged(stays)
    assert bool(whole) == bool(stays)
    for joined, _ in stays:
        assert any(start <= joined and (end is None or joined <= end) for start, end in whole)
