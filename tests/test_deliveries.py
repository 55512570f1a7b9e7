"""What the product's back end is told of a class, as receivers read it: the same that REST answers."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from sandbox.stack import Stack
from tests.backend import SECRET, Backend, Message, backend
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack

ME = "told-instructor"


@pytest.fixture(scope="module")
def product() -> Iterator[Backend]:
    with backend() as running:
        yield running


@pytest.fixture(scope="module")
def told_stack(product: Backend) -> Iterator[Stack]:
    """A sandbox whose environment says where to deliver."""
    with ExitStack() as started:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LIVE_SESSIONS_EVENTS_URL", product.url)
            environment.setenv("LIVE_SESSIONS_EVENTS_SECRET", SECRET)
            running = started.enter_context(new_stack())
        yield running


@pytest.fixture(scope="module")
def rest(told_stack: Stack) -> Iterator[Rest]:
    with http_client(told_stack.rest_url) as http:
        yield Rest(told_stack, http)


@pytest.fixture(scope="module")
def daily(told_stack: Stack) -> Iterator[DailyControl]:
    with http_client(told_stack.daily_url or "") as client:
        yield DailyControl(client)


def told(product: Backend, room: str, type: str) -> Message:
    """The session's message of this type with the greatest revision; they come in any order."""
    every = eventually(lambda: [message for message in product.of(room) if message.content["type"] == type])
    return max(every, key=lambda message: int(message.content["data"]["revision"]))


def same(one: Any, other: Any) -> bool:
    """Also in the order of the fields."""
    return json.dumps(one) == json.dumps(other)


def without_file(recording: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recording.items() if name != "s3Key"}


def test_a_message_has_its_type_its_time_and_its_data(rest: Rest, product: Backend) -> None:
    session = rest.create(ME, courseId='Größe "7"')
    message = told(product, session["roomName"], "session.created")
    content = message.verified()
    assert list(content) == ["type", "timestamp", "data"]
    assert content["timestamp"] >= session["createdAt"]
    assert len(content["timestamp"]) == len("2025-12-26T15:00:00.000Z")
    assert list(content["data"].items()) == [
        ("revision", 1),
        ("sessionName", session["roomName"]),
        ("session", session),
    ]


def test_a_session_is_told_as_rest_shows_it(rest: Rest, product: Backend) -> None:
    session = rest.create(ME)
    room = session["roomName"]
    assert session["endsAt"] is None
    assert same(told(product, room, "session.created").content["data"]["session"], session)

    updated = rest.call("PATCH", f"/sessions/{room}", ME, json={"maxParticipants": 0, "recordingEnabled": False}).json()
    assert "maxParticipants" not in updated
    assert same(told(product, room, "session.updated").content["data"]["session"], updated)

    ended = rest.call("DELETE", f"/sessions/{room}", ME).json()
    assert same(told(product, room, "session.ended").content["data"]["session"], ended)


def test_a_participant_is_told_as_rest_shows_them(rest: Rest, daily: DailyControl, product: Backend) -> None:
    room = rest.create(ME)["roomName"]
    path = f"/sessions/{room}/participants"
    token = rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"]

    def sam() -> dict[str, Any]:
        [one] = rest.call("GET", path, ME).json()
        return dict(one)

    def is_told(type: str) -> bool:
        return same(told(product, room, type).content["data"]["participant"], sam())

    stay = daily.join(room, token)
    assert is_told("participant.joined")
    rest.call("PATCH", f"{path}/sam", ME, json={"micAllowed": False})
    assert is_told("participant.updated")
    daily.leave(room, stay["session_id"])
    assert is_told("participant.left")
    rest.call("POST", f"{path}/sam/remove", ME)
    assert is_told("participant.removed")
    rest.call("POST", f"{path}/sam/readmit", ME)
    assert is_told("participant.readmitted")


def test_a_recording_is_told_as_rest_lists_it_without_its_file(
    rest: Rest, daily: DailyControl, product: Backend
) -> None:
    room = rest.recording(ME)["roomName"]

    def recording() -> dict[str, Any]:
        [one] = rest.call("GET", f"/sessions/{room}/recordings", ME).json()
        return dict(one)

    assert same(told(product, room, "recording.started").content["data"]["recording"], recording())
    rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    eventually(lambda: "s3Key" in recording())
    eventually(
        lambda: same(told(product, room, "recording.completed").content["data"]["recording"], without_file(recording()))
    )

    failing = rest.recording(ME)
    daily.fail_recording(failing["recordingId"])
    [failed] = eventually(
        lambda: (
            found
            if (found := rest.call("GET", f"/sessions/{failing['roomName']}/recordings", ME).json())[0]["status"]
            == "failed"
            else []
        )
    )
    assert "failureReason" in failed
    assert same(told(product, failing["roomName"], "recording.failed").content["data"]["recording"], failed)


def test_a_class_is_told_from_its_beginning_to_its_end_with_each_revision_once(
    rest: Rest, daily: DailyControl, product: Backend, told_stack: Stack
) -> None:
    room = rest.create(ME)["roomName"]
    token = rest.call("POST", f"/sessions/{room}/token", "sam", "student").json()["token"]
    stay = daily.join(room, token)
    told(product, room, "participant.joined")
    rest.call("POST", f"/sessions/{room}/start-recording", ME)
    rest.call("POST", f"/sessions/{room}/stop-recording", ME)
    daily.leave(room, stay["session_id"])
    told(product, room, "participant.left")
    rest.call("DELETE", f"/sessions/{room}", ME)
    query = "SELECT session_events.revision, type FROM session_events JOIN sessions ON id = session_id"
    with psycopg.connect(told_stack.database_url, autocommit=True) as database:

        def all_written() -> list[tuple[int, str]]:
            """Once nothing more will come."""
            rows = database.execute(f"{query} WHERE room_name = %s ORDER BY session_events.revision", [room]).fetchall()
            return rows if "session.closed" in [type for _, type in rows] else []

        written = [row for row in eventually(all_written) if row[1] != "session.closed"]
    eventually(lambda: len(product.of(room)) >= len(written))
    messages = sorted((message.content["data"]["revision"], message.content["type"]) for message in product.of(room))
    assert messages == written
    assert {type for _, type in written} >= {
        "session.created", "session.live", "session.ended", "participant.joined", "participant.left",
        "recording.started", "recording.completed",
    }  # fmt: skip
    for message in product.of(room):
        message.verified()
        assert b"http" not in message.body
        assert b"s3" not in message.body


async def test_the_receiver_in_the_docs_takes_what_is_signed_and_keeps_the_latest(
    rest: Rest, product: Backend, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = rest.create(ME)
    created = told(product, session["roomName"], "session.created")
    updated = rest.call("PATCH", f"/sessions/{session['roomName']}", ME, json={"courseId": "other"}).json()
    later = told(product, session["roomName"], "session.updated")

    monkeypatch.setenv("LIVE_SESSIONS_EVENTS_SECRET", SECRET)
    [code] = re.findall(r"```python\n(.*?)```", (repository / "docs/webhooks.md").read_text(), re.DOTALL)
    receiver: dict[str, Any] = {}
    exec(code, receiver)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver["app"]), base_url="http://school") as client:

        async def post(body: bytes, message: Message) -> int:
            return (await client.post("/hooks", content=body, headers=dict(message.headers))).status_code

        assert [await post(message.body, message) for message in (later, created, later)] == [204, 204, 204]
        assert await post(later.body + b" ", later) == 401
    assert receiver["latest"] == {session["_id"]: (2, updated)}


def test_without_a_url_nothing_is_kept_for_delivery(stack: Stack) -> None:
    with http_client(stack.rest_url) as http:
        room = Rest(stack, http).create(ME)["roomName"]
    with psycopg.connect(stack.database_url) as database:
        assert database.execute("SELECT count(*) FROM session_events").fetchone() != (0,)
        assert database.execute("SELECT count(*) FROM deliveries").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM outboxes").fetchone() == (0,)
    assert room
