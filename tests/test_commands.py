"""`python -m server reconcile` and `register-webhook`, beside no running server: it would repair first."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack
from tests.passes import at_daily
from tests.servers import run

ME = "commanding-instructor"
EVENTS = [
    "meeting.ended",
    "meeting.started",
    "participant.joined",
    "participant.left",
    "recording.error",
    "recording.ready-to-download",
    "recording.started",
]
TABLES = ("sessions", "participants", "connections", "recordings", "webhook_events")


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def broken(own_stack: Stack) -> list[str]:
    """What its server left when it was killed: the lines in which `reconcile` tells of it."""
    with http_client(own_stack.rest_url) as http:
        rest = Rest(own_stack, http)
        deleted, started, attended = (rest.create(ME) for _ in range(3))
        token = rest.call("POST", f"/sessions/{attended['roomName']}/token", "sam", "student").json()["token"]
    own_stack.servers[0].kill()
    stay = at_daily(own_stack, "POST", f"/sandbox/rooms/{attended['roomName']}/join", token=token).json()["session_id"]
    with psycopg.connect(own_stack.database_url, autocommit=True) as database:
        database.execute(
            "UPDATE sessions SET room_created_at = now() - interval '1 hour',"
            " delete_requested_at = now() - interval '1 min' WHERE id = %s",
            [deleted["_id"]],
        )
        database.execute("UPDATE sessions SET status = 'live' WHERE id = %s", [started["_id"]])
        database.execute(
            "INSERT INTO recordings (session_id, made_live, lease_until, created_at)"
            " VALUES (%s, true, now() - interval '1 min', now() - interval '1 min')",
            [started["_id"]],
        )
    return [
        f"unconfirmed start: {started['roomName']} Daily never started it",
        f"attendance: {attended['roomName']} connection {stay} was not told of in full",
        f"unfinished delete: {deleted['roomName']} it was asked for and not confirmed",
        "3 differences",
    ]


def rows(stack: Stack) -> dict[str, list[object]]:
    with psycopg.connect(stack.database_url) as database:
        return {table: database.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in TABLES}


def calls_that_change(daily: DailyControl) -> dict[str, int]:
    return {call: times for call, times in daily.state()["calls"].items() if not call.startswith("GET ")}


@pytest.fixture
def own_daily(own_stack: Stack) -> Iterator[DailyControl]:
    with http_client(own_stack.daily_url or "") as client:
        yield DailyControl(client)


# reconcile


def test_a_dry_run_tells_every_difference_and_changes_nothing(
    own_stack: Stack, own_daily: DailyControl, broken: list[str]
) -> None:
    before = rows(own_stack), calls_that_change(own_daily)
    told = run("reconcile", "--dry-run", settings=own_stack.environment)
    assert (told.returncode, told.stdout.splitlines()) == (0, broken)
    assert (rows(own_stack), calls_that_change(own_daily)) == before


def test_reconcile_repairs_every_difference_and_then_there_is_none(
    own_stack: Stack, own_daily: DailyControl, broken: list[str]
) -> None:
    told = run("reconcile", settings=own_stack.environment)
    assert (told.returncode, told.stdout.splitlines()) == (0, broken)
    with psycopg.connect(own_stack.database_url) as database:
        statuses = database.execute("SELECT status FROM sessions ORDER BY created_at").fetchall()
        assert statuses == [("ended",), ("scheduled",), ("live",)]
        assert database.execute("SELECT status FROM recordings").fetchall() == [("failed",)]
        assert database.execute("SELECT polled_joined_at IS NOT NULL FROM connections").fetchall() == [(True,)]
    assert len(own_daily.rooms()) == 2

    again = run("reconcile", settings=own_stack.environment)
    assert (again.returncode, again.stdout) == (0, "0 differences\n")


# register-webhook


class Receiver(BaseHTTPRequestHandler):
    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    """The public URL of something that answers Daily with Receiver.status."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def register(stack: Stack, public_url: str) -> None:
    told = run("register-webhook", settings=stack.environment | {"LIVE_SESSIONS_PUBLIC_URL": public_url})
    assert (told.returncode, told.stdout) == (0, f"Daily sends its events to {public_url}/webhooks/daily\n")


@pytest.mark.usefixtures("broken")
def test_register_webhook_creates_the_webhook(own_stack: Stack, own_daily: DailyControl, receiver: str) -> None:
    at_daily(own_stack, "DELETE", f"/v1/webhooks/{own_daily.state()['webhook']['uuid']}")
    register(own_stack, receiver)
    webhook = own_daily.state()["webhook"]
    assert (webhook["url"], webhook["state"]) == (f"{receiver}/webhooks/daily", "ACTIVE")
    assert webhook["eventTypes"] == EVENTS
    assert webhook["hmac"] == own_stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]


@pytest.mark.usefixtures("broken")
def test_register_webhook_re_activates_the_webhook_that_daily_gave_up(
    own_stack: Stack, own_daily: DailyControl, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(own_stack, receiver)
    first = own_daily.state()["webhook"]["uuid"]
    monkeypatch.setattr(Receiver, "status", 500)
    at_daily(own_stack, "POST", "/v1/rooms", name="failing")
    token = at_daily(own_stack, "POST", "/v1/meeting-tokens", properties={"room_name": "failing"}).json()["token"]
    for _ in range(2):
        own_daily.join("failing", token)
    eventually(lambda: own_daily.state()["webhook"]["state"] == "FAILED")

    monkeypatch.undo()
    register(own_stack, receiver)
    webhook = own_daily.state()["webhook"]
    assert (webhook["uuid"], webhook["state"], webhook["failedCount"]) == (first, "ACTIVE", 0)


# What keeps them from it


@pytest.mark.usefixtures("broken")
def test_register_webhook_says_when_daily_cannot_reach_us(own_stack: Stack) -> None:
    told = run("register-webhook", settings=own_stack.environment)
    url = f"{own_stack.rest_url}/webhooks/daily"
    line = f"live-sessions: Daily answered 400: non-200 status code returned from webhook endpoint {url}\n"
    assert (told.returncode, told.stdout, told.stderr) == (1, "", line)


@pytest.mark.parametrize(
    ("command", "missing", "line"),
    [
        ("register-webhook", "DAILY_WEBHOOK_SECRET", "_DAILY_WEBHOOK_SECRET and LIVE_SESSIONS_PUBLIC_URL are required"),
        ("register-webhook", "PUBLIC_URL", "_DAILY_WEBHOOK_SECRET and LIVE_SESSIONS_PUBLIC_URL are required"),
        ("reconcile", "DATABASE_URL", "_DATABASE_URL is required"),
    ],
)
def test_a_setting_that_is_missing_is_named_in_one_line(stack: Stack, command: str, missing: str, line: str) -> None:
    settings = {name: value for name, value in stack.environment.items() if name != f"LIVE_SESSIONS_{missing}"}
    told = run(command, settings=settings)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"live-sessions: LIVE_SESSIONS{line}\n")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"LIVE_SESSIONS_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "live-sessions: OperationalError\n"),
        (
            {"LIVE_SESSIONS_DAILY_API_URL": "http://127.0.0.1:1/v1"},
            "live-sessions: GET /recordings: ConnectError\n",
        ),
    ],
    ids=["PostgreSQL", "Daily"],
)
def test_reconcile_says_in_one_line_what_it_cannot_reach(stack: Stack, changed: dict[str, str], line: str) -> None:
    told = run("reconcile", "--dry-run", settings=stack.environment | changed)
    assert (told.returncode, told.stderr) == (1, line)
