"""Two servers of which one is killed: no read or join fails, the other leads, Daily's webhook comes back to life."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sandbox.daily.state import iso
from sandbox.process import Process
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack, servers_in_use, waiting_for_locks

ME = "led-instructor"
CALLS = 100
LEADERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 300851797 AND granted"


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


def leave_its_stop_unfinished(database: psycopg.Connection, room: str) -> None:
    database.execute(
        "UPDATE recordings SET stop_requested_at = now() - interval '1 min'"
        " FROM sessions WHERE sessions.id = session_id AND room_name = %s",
        [room],
    )


def repaired_by(stack: Stack, rest: Rest, room: str) -> list[Process]:
    """Those servers that say to have finished the stop, once the session has ended."""
    eventually(lambda: rest.get(room)["status"] == "ended", 40)
    repair = f"repaired kind='recording to stop' room={room}"
    return eventually(lambda: [server for server in stack.servers if repair in server.log.read_text()])


def test_one_process_leads_and_when_it_is_killed_the_other_goes_on(
    own_stack: Stack, own_rest: Rest, own_database: psycopg.Connection
) -> None:
    room = str(own_rest.recording(ME)["roomName"])
    leave_its_stop_unfinished(own_database, room)
    [leader] = repaired_by(own_stack, own_rest, room)
    [other] = [server for server in own_stack.servers if server is not leader]
    assert own_database.execute(LEADERS).fetchone() == (1,)

    room = str(own_rest.recording(ME)["roomName"])
    leader.kill()
    leave_its_stop_unfinished(own_database, room)
    assert repaired_by(own_stack, own_rest, room) == [other]
    assert own_database.execute(LEADERS).fetchone() == (1,)


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
    own_stack: Stack, own_rest: Rest, own_daily: DailyControl
) -> None:
    name = own_rest.create(ME)["roomName"]
    users = ("sam", "eve", "kim")
    tokens = {user: own_rest.call("POST", f"/sessions/{name}/token", user, "student").json()["token"] for user in users}
    for server in own_stack.servers:
        server.kill()
    stays = {user: own_daily.join(name, tokens[user]) for user in users}
    eventually(lambda: own_daily.state()["webhook"]["state"] == "FAILED")
    sam_left = own_daily.leave(name, stays["sam"]["session_id"])["left_at"]

    for server in own_stack.servers:
        server.start()
    eventually(lambda: own_daily.state()["webhook"]["state"] == "ACTIVE", 40)
    left = {user: own_daily.leave(name, stays[user]["session_id"])["left_at"] for user in users if user != "sam"}
    left["sam"] = sam_left  # told by nobody: found in Daily's records
    wanted = {user: (iso(stays[user]["joined_at"]), iso(left[user])) for user in users}
    eventually(lambda: times(own_rest, name) == wanted, 40)


def times(rest: Rest, room: str) -> dict[str, tuple[str | None, str | None]]:
    """When each participant joined and left."""
    told = rest.call("GET", f"/sessions/{room}/participants", ME).json()
    return {one["userId"]: (one.get("joinedAt"), one.get("leftAt")) for one in told}
