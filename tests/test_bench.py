"""The benchmark's pieces: the peer is an equal and no straw man, and the load generator counts what it sends."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import psycopg
import pytest

from benchmarks import bare as bare_server
from benchmarks import cases, events, upkeep, watching
from benchmarks.events import Events
from benchmarks.figures import Slice, Slices, Target, targets
from benchmarks.load import Load, http1
from benchmarks.load import grpc as grpc_load
from benchmarks.stage import bare, express, peer
from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.ports import HOST, free_port
from sandbox.process import Workspace, stop_together
from sandbox.stack import Stack
from tests.clients import EXAMPLE, Rest, http_client


@pytest.fixture(scope="module")
def others(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of bare, and the port of the peer on the stack's own database."""
    workspace = Workspace(tmp_path_factory.mktemp("bench"))
    workspace.claim()
    with free_port() as bare_port, free_port() as port:
        target = f"{HOST}:{bare_port}"
        both = bare(workspace, target), peer(workspace, "peer", port, stack.environment)
        try:
            for process in both:
                process.spawn()
            for process in both:
                process.wait_ready()
            yield target, port
        finally:
            stop_together(*both)
            workspace.release()


@pytest.fixture
def peer_http(others: tuple[str, int]) -> Iterator[httpx.Client]:
    with http_client(f"http://{HOST}:{others[1]}") as client:
        yield client


def as_bearer(rest: Rest, id: str, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {rest.token(id, role)}"}


def comparable(session: dict[str, Any]) -> dict[str, Any]:
    """Times as times: the peer prints them as pydantic does."""
    return {
        key: datetime.fromisoformat(value) if key.endswith("At") and value else value for key, value in session.items()
    }


def test_the_peer_answers_a_session_as_we_do(rest: Rest, peer_http: httpx.Client) -> None:
    ours = rest.create("bench-ada")
    theirs = peer_http.get(f"/sessions/{ours['roomName']}").json()
    assert comparable(theirs) == comparable(ours)


def test_the_peer_and_we_know_the_same_sessions_to_be_missing(rest: Rest, peer_http: httpx.Client) -> None:
    ours, theirs = rest.call("GET", "/sessions/ls-nowhere"), peer_http.get("/sessions/ls-nowhere")
    assert (theirs.status_code, theirs.json()) == (ours.status_code, ours.json()) == (500, "Session not found")


def test_the_peer_lists_an_instructors_sessions_as_we_do(rest: Rest, peer_http: httpx.Client) -> None:
    for day in (2, 1, 3):
        rest.create("bench-grace", startsAt=f"2026-01-0{day}T10:00:00.500Z")
    ours = rest.call("GET", "/sessions/instructor/bench-grace").json()
    theirs = peer_http.get("/sessions/instructor/bench-grace").json()
    assert len(ours) == 3
    assert list(map(comparable, theirs)) == list(map(comparable, ours))


def test_a_session_that_the_peer_creates_is_one_of_ours(rest: Rest, peer_http: httpx.Client) -> None:
    created = peer_http.post("/sessions", json=EXAMPLE, headers=as_bearer(rest, "bench-lin", "instructor"))
    assert created.status_code == 201
    assert comparable(rest.get(created.json()["roomName"])) == comparable(created.json())


def test_the_peers_tokens_and_participants_are_ours(
    rest: Rest, peer_http: httpx.Client, database: psycopg.Connection
) -> None:
    path = f"/sessions/{rest.create()['roomName']}/token"
    ours = rest.call("POST", path, "bench-ours", "student").json()["token"]
    theirs = peer_http.post(path, headers=as_bearer(rest, "bench-theirs", "student")).json()["token"]

    claims = [jwt.decode(token, options={"verify_signature": False}) for token in (ours, theirs)]
    assert [(each["u"], each["ud"]) for each in claims] == [("bench-ours",) * 2, ("bench-theirs",) * 2]
    assert all(each["exp"] - each["iat"] == 6 * 3600 for each in claims)
    same = [{key: each[key] for key in each.keys() - {"u", "ud", "iat", "exp"}} for each in claims]
    assert same[0] == same[1]
    query = "SELECT role, daily_user_id = user_id FROM participants WHERE user_id IN ('bench-ours', 'bench-theirs')"
    assert database.execute(query).fetchall() == [("student", True)] * 2


@pytest.fixture
def express_http(stack: Stack, tmp_path: Path) -> Iterator[httpx.Client]:
    workspace = Workspace(tmp_path)
    workspace.claim()
    with free_port() as port:
        process = express(workspace, port, stack.environment)
        if process is None:
            pytest.skip("no Express: node and npm, or its packages, are not to be had")
        process.start()
        try:
            with http_client(f"http://{HOST}:{port}") as client:
                yield client
        finally:
            process.stop()
            workspace.release()


def test_express_answers_as_we_do(rest: Rest, express_http: httpx.Client) -> None:
    session = rest.create("bench-express")
    name, listed = session["roomName"], "/sessions/instructor/bench-express"
    assert express_http.get(f"/sessions/{name}").json() == session
    assert express_http.get(listed).json() == rest.call("GET", listed).json() == [session]
    missing = express_http.get("/sessions/ls-nowhere")
    assert (missing.status_code, missing.json()) == (500, "Session not found")

    path = f"/sessions/{name}/token"
    theirs = express_http.post(path, headers=as_bearer(rest, "bench-same", "student")).json()["token"]
    ours = rest.call("POST", path, "bench-same", "student").json()["token"]
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in (ours, theirs)]
    assert claims[1]["exp"] - claims[1]["iat"] == 6 * 3600
    same = [{key: each[key] for key in each.keys() - {"iat", "exp"}} for each in claims]
    assert same[0] == same[1]
    assert express_http.post(path, headers={"Authorization": "Bearer forged"}).status_code == 401


def test_the_peer_refuses_a_token_that_we_refuse(rest: Rest, peer_http: httpx.Client) -> None:
    path, headers = f"/sessions/{rest.create()['roomName']}/token", {"Authorization": "Bearer forged"}
    assert peer_http.post(path, headers=headers).status_code == 401
    assert rest.call("POST", path, headers=headers).status_code == 401


def test_bare_answers_a_session_out_of_memory(others: tuple[str, int]) -> None:
    with grpc.insecure_channel(others[0]) as channel:
        answer: pb.LiveSession = LiveSessionsStub(channel).GetLiveSession(rpc.GetLiveSessionRequest(session_name="any"))
    assert answer == bare_server.SESSION


async def test_the_generator_sends_exactly_what_it_is_told_and_sees_failures(rest: Rest, stack: Stack) -> None:
    name = rest.create()["roomName"].encode()
    for names, failed in (([name], 0), ([name, b"ls-nowhere"], 50)):
        http = cases.once([b"GET /sessions/%s HTTP/1.1\r\nhost: bench\r\n\r\n" % one for one in names])
        calls = cases.once([b"\x0a%c%s" % (len(one), one) for one in names])
        method = cases.SERVICE + "GetLiveSession"
        for connect, requests in (
            (http1(HOST, stack.ports.rest), http),
            (grpc_load(stack.grpc_targets[0], method, 16), calls),
        ):
            load = Load(connect, 16, requests)
            await load.open()
            result = await load.run(total=100)
            load.close()
            assert (result.requests, result.failed) == (100, failed)


async def test_the_stream_of_events_is_taken_and_applied(rest: Rest, stack: Stack) -> None:
    room = rest.create("bench-events")["roomName"]
    made = Events(stack.environment["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"], stack.grpc_targets[0])
    load = Load(made.connect(16), 16, made.of_class(room, 30).__next__)
    await load.open()
    result = await load.run(total=60)
    load.close()
    assert (result.requests, result.failed) == (60, 0)
    events.finish(stack.database_url)

    people = rest.call("GET", f"/sessions/{room}/participants", "bench-events").json()
    assert len({person["userId"] for person in people}) == 30
    assert all(person["joinedAt"] and person["leftAt"] for person in people)


def test_a_school_is_the_same_in_the_tables_and_at_daily(stack: Stack) -> None:
    daily = upkeep.at_daily(3, 2)
    queries = {
        "rooms": "SELECT room_name FROM sessions",
        "recordings": "SELECT recording_id || instance_id FROM recordings",
        "running": "SELECT recording_id FROM recordings WHERE status = 'processing'",
        "meetings": "SELECT id FROM meetings",
        "stays": "SELECT id || daily_user_id FROM connections",
    }
    with psycopg.connect(stack.database_url) as database:
        upkeep.fill(database, 3, 2)
        ours = {noun: sorted(one for (one,) in database.execute(query.encode())) for noun, query in queries.items()}
        live = database.execute("SELECT count(*) FROM sessions WHERE status = 'live' AND due_at > now()").fetchone()
        database.rollback()
    assert live == (3,)
    assert ours == {
        "rooms": sorted(room.name for room in daily["rooms"]),
        "recordings": sorted(one.id + one.instance_id for one in daily["recordings"]),
        "running": sorted(one.id for one in daily["recordings"] if one.status == "in-progress"),
        "meetings": sorted(one.id for one in daily["meetings"]),
        "stays": sorted(stay.session_id + stay.user_id for one in daily["meetings"] for stay in one.connections),
    }
    assert [len(ours[noun]) for noun in queries] == [5, 5, 3, 3, 90]


# The targets


def verdicts(found: list[Target]) -> dict[str, tuple[float, bool]]:
    return {target.name: (target.figure.median, target.holds) for target in found}


def measured(rps: float, p99: float) -> list[Slice]:
    """Two rounds of which one was disturbed a little."""
    return [Slice(1000, 0, rps * share, 1.0, p99 / share, {"server": 100.0}, 10.0) for share in (1.0, 1.0, 0.9)]


@pytest.mark.parametrize(("rps", "p99", "holds"), [(2000, 100, True), (1999, 100.5, False)])
def test_events_have_targets_of_their_own(rps: float, p99: float, *, holds: bool) -> None:
    slices: Slices = {("events-grpc", 64, "ours"): measured(rps, p99)}
    found = verdicts(targets(slices, None, [29.0, 30.0, 31.0] if holds else [30.1]))
    assert found["events-grpc, 64 in flight: accepted/s"] == (rps, holds)
    assert found["events-grpc, 64 in flight: p99 ms"] == (p99, holds)
    assert found["crowd: s until 10,000 joins of one class are told"] == (30.0 if holds else 30.1, holds)


@pytest.mark.parametrize(("ratio", "holds"), [(1.25, True), (1.5, False)])
def test_calls_beside_events_are_compared_with_calls_alone(ratio: float, *, holds: bool) -> None:
    beside = "ours, 500 events/s beside"
    slices: Slices = {("get-beside-events", 64, beside): measured(1000, 10 * ratio)}
    slices["get-beside-events", 64, "ours"] = measured(1000, 10)
    found = verdicts(targets(slices, None, []))
    assert found[f"get-beside-events, 64 in flight: p99, {beside} / ours"] == (ratio, holds)


@pytest.mark.parametrize(("large", "seconds", "holds"), [(1.2, 20.0, True), (1.21, 20.1, False)])
def test_upkeeps_costs_are_compared_at_the_same_time(large: float, seconds: float, *, holds: bool) -> None:
    pairs = [(upkeep.Cost(10, 0, 30, 5), upkeep.Cost(10 * large, 0, 30 * large, 50))]
    found = upkeep.targets(pairs, [seconds], [seconds])
    assert [target.holds for target in found] == [holds] * 4
    assert [round(target.figure.median, 6) for target in found] == [large, large, seconds, seconds]


@pytest.mark.parametrize(("worse", "holds"), [(1.0, True), (1.01, False)])
def test_watchers_are_compared_with_bare_streams_and_with_reads_alone(worse: float, *, holds: bool) -> None:
    found = watching.Found(told=0.5, memory=40, cpu=15, bare_cpu=10, get=0.01, get_beside=0.015, back=10)
    at_most = {"told": 0.5, "memory": 40.0, "cpu": 15.0, "get_beside": 0.015, "back": 10.0}
    for name, value in at_most.items():
        setattr(found, name, value * worse)
    found.deaf_told, found.deaf_memory, found.fickle_memory = 0, 1024, 1024
    judged = [target.holds for target in watching.targets([found])]
    assert judged == [holds] * 5 + [True] * 3
