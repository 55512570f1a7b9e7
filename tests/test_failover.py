"""Two servers of which one is killed: no read or join fails, the other does what is due, Daily sends events again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sandbox.daily.model import iso
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack, servers_in_use, waiting_for_locks
from tests.due import recorded_times

ME = "led-instructor"
CALLS = 100


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """One whose servers can be killed."""
    with new_stack(workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def own_rest(own_stack: Stack) -> Iterator[Rest]:
    with http_client(own_stack.rest_url) as client:
        yield Rest(own_stack, client)


@pytest.fixture(scope="module")
def own_daily(own_stack: Stack) -> Iterator[DailyControl]:
    with http_client(own_stack.daily_url or "") as client:
        yield DailyControl(client)


@pytest.fixture(scope="module")
def own_database(own_stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(own_stack.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(autouse=True)
def both_serve(own_stack: Stack) -> None:
    for server in own_stack.servers:
        if server.ended:
            server.start()
    eventually(lambda: servers_in_use(own_stack) == len(own_stack.servers), 30)


@pytest.mark.parametrize("killed", [0, 1])
def test_what_is_due_is_done_by_whichever_process_is_left(
    own_stack: Stack, own_rest: Rest, own_database: psycopg.Connection, killed: int
) -> None:
    room = str(own_rest.recording(ME)["roomName"])
    own_stack.servers[killed].kill()
    own_database.execute(
        "UPDATE sessions SET end_requested_at = now(), due_at = clock_timestamp() WHERE room_name = %s", [room]
    )
    eventually(lambda: own_rest.get(room)["status"] == "ended")
    done = f"done kind='end' room={room}"
    eventually(lambda: done in own_stack.servers[1 - killed].log.read_text())


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/token")], ids=["read", "join"])
def test_no_read_and_no_join_fails_when_a_server_is_killed_with_half_of_them(
    own_stack: Stack, own_rest: Rest, own_database: psycopg.Connection, method: str, path: str
) -> None:
    room = own_rest.create(ME)["roomName"]
    with ThreadPoolExecutor(CALLS) as threads:
        with own_database.transaction():
            own_database.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
            calls = [threads.submit(own_rest.call, method, f"/sessions/{room}{path}", ME) for _ in range(CALLS)]
            eventually(lambda: len(waiting_for_locks(own_stack)) >= len(own_stack.servers))
            own_stack.servers[0].kill()
        assert [call.result().status_code for call in calls] == [200] * CALLS


def test_a_webhook_that_daily_gave_up_is_active_again_and_attendance_complete(
    own_stack: Stack, own_rest: Rest, own_daily: DailyControl, own_database: psycopg.Connection
) -> None:
    name = own_rest.create(ME)["roomName"]
    users = ("sam", "eve", "kim")
    tokens = {user: own_rest.call("POST", f"/sessions/{name}/token", user, "student").json()["token"] for user in users}
    for server in own_stack.servers:
        server.kill()
    stays = {user: own_daily.join(name, tokens[user]) for user in users}
    eventually(lambda: own_daily.state()["webhook"]["state"] == "FAILED")
    own_daily.leave(name, stays["sam"]["session_id"])

    for server in own_stack.servers:
        server.start()
    own_database.execute("UPDATE chores SET due_at = clock_timestamp() WHERE id = 'webhook'")
    eventually(lambda: own_daily.state()["webhook"]["state"] == "ACTIVE")
    left = {user: own_daily.leave(name, stays[user]["session_id"])["left_at"] for user in users if user != "sam"}
    wanted = {user: (iso(stays[user]["joined_at"]), iso(left[user])) for user in left}
    wanted["sam"] = recorded_times(own_stack, name, "sam")  # told by nobody: found in Daily's records
    eventually(lambda: times(own_rest, name) == wanted, 60)


def times(rest: Rest, room: str) -> dict[str, tuple[str | None, str | None]]:
    """When each participant joined and left."""
    told = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return {one["userId"]: (one.get("joinedAt"), one.get("leftAt")) for one in told}
