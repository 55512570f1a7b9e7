"""`python -m server due` and `register-webhook`, beside no running server: it would do what is due."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack
from tests.databases import new_database
from tests.due import at_daily
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
OF_OWNER = ("uuid", "url", "hmac", "eventTypes", "state")
REFUSED = (
    'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused'
    " Is the server running on that host and accepting TCP/IP connections?"
)
DUE = "UPDATE {} SET due_at = clock_timestamp() - interval '1 min' WHERE {} = %s RETURNING due_at"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def left(own_stack: Stack) -> list[str]:
    """What its server left when it was killed: the lines in which `due` tells of it."""
    with http_client(own_stack.rest_url) as http:
        rest = Rest(own_stack, http)
        deleted, recorded = rest.create(ME), rest.recording(ME)
    own_stack.servers[0].kill()
    with psycopg.connect(own_stack.database_url, autocommit=True) as database:
        database.execute("UPDATE chores SET due_at = NULL")
        database.execute("UPDATE sessions SET end_requested_at = now(), closes_at = now()")
        database.execute("UPDATE sessions SET status = 'ended', ends_at = now() WHERE id = %s", [deleted["_id"]])
        closing = database.execute(DUE.format("sessions", "id"), [deleted["_id"]]).fetchone()
        end = database.execute(DUE.format("sessions", "id"), [recorded["_id"]]).fetchone()
    return [
        f"end: 1 due since {iso(end)}",
        f"closing: 1 due since {iso(closing)}",
        *(
            f"{line}: 0 due"
            for line in ("session", "moderation", "start", "recording", "meeting", "outbox", "chore", "event")
        ),
    ]


def iso(row: tuple[Any, ...] | None) -> str:
    assert row is not None
    return str(row[0].isoformat(timespec="seconds"))


@pytest.fixture
def own_daily(own_stack: Stack) -> Iterator[DailyControl]:
    with http_client(own_stack.daily_url or "") as client:
        yield DailyControl(client)


# due


def test_due_tells_what_waits_to_be_done_and_since_when(own_stack: Stack, left: list[str]) -> None:
    told = run("due", settings=own_stack.environment)
    assert (told.returncode, told.stdout.splitlines()) == (0, left)


def test_due_does_nothing_of_it(own_stack: Stack, own_daily: DailyControl, left: list[str]) -> None:
    asked = own_daily.state()["calls"]
    assert run("due", settings=own_stack.environment).stdout.splitlines() == left
    assert own_daily.state()["calls"] == asked


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


@pytest.fixture
def no_webhook(own_daily: DailyControl) -> None:
    if webhook := own_daily.state()["webhook"]:
        own_daily.delete_webhook(webhook["uuid"])


def register(stack: Stack, public_url: str) -> None:
    told = run("register-webhook", settings=stack.environment | {"LIVE_SESSIONS_PUBLIC_URL": public_url})
    assert (told.returncode, told.stdout) == (0, f"Daily sends its events to {public_url}/webhooks/daily\n")


@pytest.mark.usefixtures("left", "no_webhook")
def test_register_webhook_creates_the_webhook(own_stack: Stack, own_daily: DailyControl, receiver: str) -> None:
    register(own_stack, receiver)
    webhook = own_daily.state()["webhook"]
    assert (webhook["url"], webhook["state"]) == (f"{receiver}/webhooks/daily", "ACTIVE")
    assert webhook["eventTypes"] == EVENTS
    assert webhook["hmac"] == own_stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]


@pytest.mark.usefixtures("left", "no_webhook")
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


@pytest.mark.usefixtures("left", "no_webhook")
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
        ("due", "DATABASE_URL", "_DATABASE_URL is required"),
    ],
)
def test_a_setting_that_is_missing_is_named_in_one_line(stack: Stack, command: str, missing: str, line: str) -> None:
    settings = {name: value for name, value in stack.environment.items() if name != f"LIVE_SESSIONS_{missing}"}
    told = run(command, settings=settings)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"live-sessions: LIVE_SESSIONS{line}\n")


@pytest.mark.usefixtures("left", "no_webhook")
def test_register_webhook_takes_no_other_applications(own_stack: Stack, own_daily: DailyControl, receiver: str) -> None:
    own_daily.others(webhook=f"{receiver}/theirs")
    before = own_daily.state()["webhook"]
    told = run("register-webhook", settings=own_stack.environment | {"LIVE_SESSIONS_PUBLIC_URL": receiver})
    after = own_daily.state()["webhook"]
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("live-sessions: Daily answered 400: ")
    assert [after[name] for name in OF_OWNER] == [before[name] for name in OF_OWNER]


@pytest.mark.parametrize("command", ["due", "deliveries", "register-webhook"])
def test_a_command_says_in_one_line_that_there_are_no_tables(stack: Stack, command: str) -> None:
    with new_database(stack.database_url) as empty:
        told = run(command, settings=stack.environment | {"LIVE_SESSIONS_DATABASE_URL": empty})
    line = "live-sessions: 42P01 UndefinedTable: `migrate --check` tells whether the schema fits\n"
    assert (told.returncode, told.stdout, told.stderr) == (1, "", line)


@pytest.mark.parametrize(
    ("command", "setting", "there", "line"),
    [
        ("due", "DATABASE_URL", "postgresql://127.0.0.1:1/x", REFUSED),
        ("register-webhook", "DAILY_API_URL", "http://127.0.0.1:1/v1", "GET /webhooks: ConnectError"),
    ],
    ids=["PostgreSQL", "Daily"],
)
def test_a_command_says_in_one_line_what_it_cannot_reach(
    stack: Stack, command: str, setting: str, there: str, line: str
) -> None:
    told = run(command, settings=stack.environment | {f"LIVE_SESSIONS_{setting}": there})
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"live-sessions: {line}\n")
