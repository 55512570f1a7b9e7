"""`live-sessions deliveries`: what was and will be sent, and sending it again. No server runs beside it."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from server.upkeep.deliveries import send_again_since
from server.usecases.rules import Lifetimes
from server.usecases.service import Service
from server.works import Works
from storage.store import Store
from tests.backend import backend
from tests.clients import eventually
from tests.outbox import Outbox, outbox
from tests.servers import run, serving


@pytest.fixture(scope="module")
def own() -> Iterator[Outbox]:
    with outbox() as there:
        yield there


@pytest.fixture(autouse=True)
def nothing_yet(own: Outbox) -> None:
    own.database.execute("TRUNCATE sessions CASCADE")


def deliveries(own: Outbox, *arguments: str) -> list[str]:
    told = run("deliveries", *arguments, settings=own.stack.environment)
    assert (told.returncode, told.stderr) == (0, "")
    return told.stdout.splitlines()


def is_delivered(own: Outbox, room: str) -> None:
    own.database.execute(
        "UPDATE deliveries SET due_at = NULL, delivered_at = now(), attempts = 2"
        " WHERE session_id = (SELECT id FROM sessions WHERE room_name = %s)",
        [room],
    )


def has_failed(own: Outbox, room: str) -> None:
    own.database.execute(
        "UPDATE deliveries SET due_at = NULL, attempts = 10, error = 'answered 500'"
        " WHERE session_id = (SELECT id FROM sessions WHERE room_name = %s)",
        [room],
    )


def at(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")


def line(own: Outbox, room: str, rest: str) -> str:
    row = own.row(room)
    return f"{row['id']} {at(row['created_at'])} session.created session={room} revision=1 {rest}"


# Listed


def test_they_are_listed_newest_first_with_what_became_of_them(own: Outbox) -> None:
    delivered, failed, due = own.session(), own.session(), own.session()
    is_delivered(own, delivered)
    has_failed(own, failed)
    assert deliveries(own) == [
        line(own, due, f"attempts=0 due {at(own.row(due)['due_at'])}"),
        line(own, failed, "attempts=10 failed: answered 500"),
        line(own, delivered, f"attempts=2 delivered {at(own.row(delivered)['delivered_at'])}"),
    ]
    assert deliveries(own, "--failed") == [line(own, failed, "attempts=10 failed: answered 500")]


def test_a_list_shows_the_newest_hundred(own: Outbox) -> None:
    room = own.session()
    own.change(room, 149)
    shown = [int(text.split("revision=")[1].split()[0]) for text in deliveries(own)]
    assert shown == list(range(150, 50, -1))


# Sent again


def test_one_is_sent_again_by_the_running_servers_under_its_id(own: Outbox, tmp_path: Path) -> None:
    delivered, other = own.session(), own.session()
    is_delivered(own, delivered)
    is_delivered(own, other)
    id = own.row(delivered)["id"]
    assert deliveries(own, "--replay", str(id)) == ["1 will be sent again"]
    row = own.row(delivered)
    assert (row["attempts"], row["done"], row["error"]) == (0, False, None)

    with backend() as product, serving(own.settings(product), tmp_path / "server.log"):
        eventually(lambda: own.row(delivered)["done"])
    assert [message.id for message in product.messages] == [str(id)]


def test_all_since_some_time_are_sent_again_those_that_failed_alone_where_asked_for(own: Outbox) -> None:
    rooms = [own.session() for _ in range(4)]
    for room in rooms[:2]:
        is_delivered(own, room)
    for room in rooms[2:]:
        has_failed(own, room)
    since = own.row(rooms[1])["created_at"].astimezone(UTC)
    assert deliveries(own, "--failed", "--replay-since", since.isoformat()) == ["2 will be sent again"]
    assert [own.row(room)["due_at"] is not None for room in rooms] == [False, False, True, True]
    assert deliveries(own, "--replay-since", since.isoformat()) == ["3 will be sent again"]
    assert [own.row(room)["due_at"] is not None for room in rooms] == [False, True, True, True]
    assert deliveries(own, "--replay-since", at(datetime.now(UTC) + timedelta(hours=1))) == ["0 will be sent again"]


def test_thousands_are_sent_again_some_at_a_time(own: Outbox) -> None:
    room = own.session()
    own.change(room, 2499)
    has_failed(own, room)
    assert deliveries(own, "--replay-since", "2026-01-01T00:00:00Z") == ["2500 will be sent again"]
    assert deliveries(own, "--failed") == []


async def test_what_comes_while_they_are_made_due_is_not_sent_again(own: Outbox) -> None:
    """It would never end where something comes all the time."""

    class Busy(Store):
        async def run(self, *args: Any, **kwargs: Any) -> Any:
            done = await super().run(*args, **kwargs)
            own.session()
            return done

    for _ in range(3):
        own.session()
    store = Busy(own.stack.database_url, {})
    service = Service(store, daily=None, works=Works(), lifetimes=Lifetimes())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            assert await send_again_since(service, datetime(2026, 1, 1, tzinfo=UTC), only_failed=False) == 3
    finally:
        await store.close()


# What is refused


def test_an_unknown_one_is_named(own: Outbox) -> None:
    id = uuid4()
    told = run("deliveries", "--replay", str(id), settings=own.stack.environment)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"live-sessions: there is no delivery {id}\n")


NO_TIME = "is no time such as 2026-12-26T15:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--replay", "7"], "argument --replay: invalid UUID value: '7'"),
        (
            ["--replay-since", "yesterday"],
            f"argument --replay-since: 'yesterday' {NO_TIME}",
        ),
        (
            ["--replay-since", "2026-12-26T15:00:00"],
            f"argument --replay-since: '2026-12-26T15:00:00' {NO_TIME}",
        ),
        (
            ["--replay", str(uuid4()), "--replay-since", "2026-12-26T15:00:00Z"],
            "argument --replay-since: not allowed with argument --replay",
        ),
    ],
)
def test_what_is_no_id_or_no_time_is_said(own: Outbox, arguments: list[str], problem: str) -> None:
    told = run("deliveries", *arguments, settings=own.stack.environment)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.splitlines()[-1] == f"live-sessions deliveries: error: {problem}"


# Counted, and forgotten


async def test_those_that_wait_are_counted_up_to_a_bound(own: Outbox) -> None:
    room, other = own.session(), own.session()
    own.change(room, 9)
    is_delivered(own, other)
    store = Store(own.stack.database_url, {})
    try:
        async with store.statement() as tx:
            assert (await tx.deliveries.pending(100), await tx.deliveries.pending(5)) == (10, 5)
    finally:
        await store.close()


async def test_they_are_forgotten_after_thirty_days_some_at_a_time(own: Outbox) -> None:
    old, new = own.session(), own.session()
    own.change(old, 2)
    kept = own.database.execute("SELECT min(forget_at - at) FROM session_events").fetchone()
    assert kept is not None
    assert abs(kept[0] - timedelta(days=30)) < timedelta(seconds=1)
    own.database.execute(
        "UPDATE session_events SET forget_at = now() FROM sessions WHERE id = session_id AND room_name = %s", [old]
    )
    store = Store(own.stack.database_url, {})
    try:
        assert (await store.events.forget(2), len(own.rows(old)), len(own.rows(new))) == (2, 1, 1)
        assert (await store.events.forget(2), len(own.rows(old)), len(own.rows(new))) == (1, 0, 1)
    finally:
        await store.close()
