"""Webhooks of one deployment: tried again, fairly, by several servers, by those that are killed, and no more once the
receiver says so."""

import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sandbox.ports import HOST, free_port
from server.upkeep.deliveries import AT_ONCE, JITTER, PAUSES
from tests import backend as its
from tests.backend import SECRET, Backend, Message, backend, status
from tests.clients import eventually
from tests.outbox import Outbox, outbox
from tests.scraping import Target
from tests.servers import Server, serving

STOPPED = "deliveries stop until the next start: the receiver answered 410"


@pytest.fixture(scope="module")
def own() -> Iterator[Outbox]:
    with outbox() as there:
        yield there


@pytest.fixture
def product() -> Iterator[Backend]:
    with backend() as running:
        yield running


@pytest.fixture
def server(own: Outbox, product: Backend, tmp_path: Path) -> Iterator[Server]:
    with serving(own.settings(product), tmp_path / "server.log") as running:
        yield running


def of(room: str, answer: its.Answer, others: its.Answer | None = None) -> Callable[[Message], its.Answer]:
    """The messages of one session are answered so, and all others at once."""
    return lambda message: answer if message.session == room else others or status(200)


# Tried again


@pytest.mark.usefixtures("server")
def test_what_is_taken_is_sent_once(own: Outbox, product: Backend) -> None:
    room = own.session()
    own.change(room, 5)
    eventually(lambda: all(row["done"] for row in own.rows(room)))
    assert len(product.of(room)) == 6
    assert [(row["attempts"], row["due_at"], row["error"]) for row in own.rows(room)] == [(1, None, None)] * 6
    assert sorted(message.id for message in product.of(room)) == sorted(str(row["id"]) for row in own.rows(room))


@pytest.mark.usefixtures("server")
def test_what_was_refused_is_sent_again_after_five_seconds_under_the_same_id(own: Outbox, product: Backend) -> None:
    refusals = [status(500)]
    product.answer = lambda _: refusals.pop() if refusals else status(200)
    room = own.session()
    row = eventually(lambda: row if (row := own.row(room))["error"] else {})
    assert (row["attempts"], row["error"], row["done"]) == (1, "answered 500", False)
    assert timedelta(seconds=4) < row["due_in"] <= timedelta(seconds=6)

    eventually(lambda: own.row(room)["done"])
    first, second = product.of(room)
    assert (first.id, first.body) == (second.id, second.body)
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) >= 4
    assert second.verified() == first.verified()
    assert (own.row(room)["attempts"], own.row(room)["error"]) == (2, None)


@pytest.mark.usefixtures("server")
def test_the_pauses_grow(own: Outbox, product: Backend) -> None:
    product.answer = lambda _: status(500)
    rooms = [own.session() for _ in PAUSES]
    for tries, (room, pause) in enumerate(zip(rooms, PAUSES, strict=True)):
        own.is_due(room, attempts=tries)
        row = eventually(lambda room=room: row if (row := own.row(room))["error"] else {})
        assert row["attempts"] == tries + 1
        assert pause - timedelta(seconds=3) < row["due_in"] <= pause * (1 + JITTER)


def test_after_three_days_it_is_given_up_and_told_of(own: Outbox, product: Backend, server: Server) -> None:
    assert sum(PAUSES, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
    product.answer = lambda _: status(404)
    room = own.session()
    own.is_due(room, attempts=len(PAUSES))
    row = eventually(lambda: row if (row := own.row(room))["due_at"] is None else {})
    assert (row["attempts"], row["done"], row["error"]) == (10, False, "answered 404")
    assert f"delivery given up type=session.created id={row['id']} attempts=10: answered 404" in server.log.read_text()


@pytest.mark.usefixtures("server")
def test_while_the_receiver_wants_to_be_left_alone_nothing_is_sent_and_nothing_is_tried(
    own: Outbox, product: Backend
) -> None:
    product.answer = lambda _: status(503, Retry_After="600")
    busy = own.session()
    row = eventually(lambda: row if (row := own.row(busy))["error"] else {})
    assert timedelta(seconds=590) < row["due_in"] <= timedelta(seconds=600)

    product.answer = lambda _: status(200)
    other = own.session()
    eventually(lambda: own.due_in(other) > 500)
    assert (product.of(other), own.row(other)["attempts"]) == ([], 0)


@pytest.mark.usefixtures("server")
def test_a_defect_of_one_message_keeps_no_other_waiting(own: Outbox) -> None:
    with own.database.transaction():
        odd = own.session()
        own.database.execute(
            'UPDATE session_events SET state = state || \'{"status": "odd"}\' FROM sessions'
            " WHERE sessions.id = session_id AND room_name = %s",
            [odd],
        )
        own.change(odd, 1)
    fine = own.session()
    eventually(lambda: own.row(fine)["done"])
    eventually(lambda: own.rows(odd)[1]["done"])
    assert (own.rows(odd)[0]["done"], own.rows(odd)[0]["error"]) == (False, "a defect of ours")


def test_each_try_is_counted_by_what_came_of_it(own: Outbox, product: Backend, tmp_path: Path) -> None:
    own.database.execute("DELETE FROM sessions")  # none of another test's comes between
    product.answer = lambda _: status(500)
    with free_port() as port:
        settings = own.settings(product) | {"LIVE_SESSIONS_METRICS_ADDRESS": f"{HOST}:{port}"}
        with serving(settings, tmp_path / "server.log"):
            told = Target(f"http://{HOST}:{port}/metrics")
            outcomes = [("delivered",), ("given_up",), ("put_off",)]  # before anything happened
            assert sorted(told.labels("live_sessions_deliveries_total", "outcome")) == outcomes

            def counts(**outcomes: int) -> None:
                eventually(lambda: told.by("outcome", "live_sessions_deliveries_total") == outcomes)

            room = own.session()
            counts(put_off=1)
            assert told.value("live_sessions_deliveries_pending") == 1
            own.is_due(room, attempts=len(PAUSES))
            counts(put_off=1, given_up=1)
            product.answer = lambda _: status(200)
            own.session()
            counts(put_off=1, given_up=1, delivered=1)
            eventually(lambda: told.value("live_sessions_deliveries_pending") == 0)


# Fairly


@pytest.mark.usefixtures("server")
def test_ten_thousand_of_one_session_hold_up_none_of_another(own: Outbox, product: Backend) -> None:
    crowded = own.session()
    product.answer = of(crowded, its.after(0.05, status(200)))
    own.change(crowded, 10_000)
    eventually(lambda: len(product.of(crowded)) > 20)
    alone = own.session()
    eventually(lambda: own.row(alone)["done"])
    assert len(product.of(crowded)) < 1000
    own.database.execute("DELETE FROM sessions WHERE room_name = %s", [crowded])


@pytest.mark.usefixtures("server")
def test_a_session_whose_messages_are_not_answered_holds_up_none_of_another(own: Outbox, product: Backend) -> None:
    slow = own.session()
    product.answer = of(slow, its.never)
    own.change(slow, 100)
    eventually(lambda: product.at_once > 0)
    rooms = [own.session() for _ in range(20)]
    eventually(lambda: all(own.row(room)["done"] for room in rooms))
    assert product.at_once <= 4
    assert len(product.of(slow)) <= 8


@pytest.mark.usefixtures("server")
def test_no_more_than_so_many_are_under_way_at_once(own: Outbox, product: Backend) -> None:
    rooms = [own.session() for _ in range(AT_ONCE // 2)]
    product.answer = lambda _: its.after(0.3, status(200))
    for room in rooms:
        own.change(room, 9)
    eventually(lambda: all(row["done"] for room in rooms for row in own.rows(room)), seconds=60)
    assert 16 < product.most_at_once <= AT_ONCE


# By several, and by one that dies


def test_two_servers_send_each_message_once(own: Outbox, product: Backend, tmp_path: Path) -> None:
    settings = own.settings(product)
    with serving(settings, tmp_path / "1.log"), serving(settings, tmp_path / "2.log"):
        rooms = [own.session() for _ in range(20)]
        for room in rooms:
            own.change(room, 9)
        eventually(lambda: all(row["done"] for room in rooms for row in own.rows(room)), seconds=30)
    ids = [message.id for room in rooms for message in product.of(room)]
    assert (len(ids), len(set(ids))) == (200, 200)


def test_a_server_that_dies_before_it_noted_the_answer_has_it_sent_again_under_the_same_id(
    own: Outbox, product: Backend, tmp_path: Path
) -> None:
    settings, room = own.settings(product), own.session()
    product.answer = lambda _: its.never
    with serving(settings, tmp_path / "first.log") as first:
        [sent] = eventually(lambda: product.of(room))
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(10)
    row = own.row(room)
    assert (row["attempts"], row["done"]) == (1, False)
    assert timedelta() < row["due_in"] <= timedelta(seconds=17)

    product.answer = lambda _: status(200)
    own.is_due(room, attempts=1)
    with serving(settings, tmp_path / "second.log"):
        eventually(lambda: own.row(room)["done"])
    assert [message.id for message in product.of(room)] == [sent.id, sent.id]
    assert own.row(room)["attempts"] == 2


def test_a_server_that_is_stopped_finishes_what_it_has_under_way(own: Outbox, product: Backend, tmp_path: Path) -> None:
    room = own.session()
    product.answer = lambda _: its.after(2, status(200))
    with serving(own.settings(product), tmp_path / "server.log") as server:
        eventually(lambda: product.of(room))
        assert server.stop() == 0
    assert (own.row(room)["done"], len(product.of(room))) == (True, 1)


# No more


def test_after_410_each_server_stops_until_it_is_started_anew(own: Outbox, product: Backend, tmp_path: Path) -> None:
    settings = own.settings(product)
    product.answer = lambda _: status(410)
    with serving(settings, tmp_path / "1.log") as first, serving(settings, tmp_path / "2.log") as second:
        rooms: list[str] = []

        def both_stopped() -> bool:
            rooms.append(own.session())
            return all(STOPPED in server.log.read_text() for server in (first, second))

        eventually(both_stopped)
        product.answer = lambda _: status(200)
        late = own.session()
        eventually(lambda: own.due_in(late) < -2.5)
        assert product.of(late) == []
        assert first.log.read_text().count(STOPPED) == 1
    refused = [row for room in rooms for row in own.rows(room) if row["error"]]
    assert {row["error"] for row in refused} <= {"answered 410"}  # none where the server stopped before it was noted

    with serving(settings, tmp_path / "anew.log"):
        eventually(lambda: own.row(late)["done"])
        eventually(lambda: all(own.row(room)["done"] for room in rooms))


# Nothing is told of the secrets


def test_neither_the_url_nor_the_secret_is_told(own: Outbox, product: Backend, tmp_path: Path) -> None:
    with serving(own.settings(product), tmp_path / "server.log") as server:
        for answer in (status(500), its.no_http, status(302, Location="http://127.0.0.1/elsewhere")):
            product.answer = lambda _, answer=answer: answer
            room = own.session()
            eventually(lambda room=room: own.row(room)["error"])
        told = server.log.read_text()
    assert "delivery put off type=session.created" in told
    for secret in ("pass-1f", "/hooks", SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in told
