"""What is asked of whom: the cases, and for each target the way to it and the processes that pay for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

from benchmarks import load
from benchmarks.data import FEW, MANY, STUDENTS, Data
from benchmarks.stage import Stage
from live_sessions.v1 import service_pb2 as rpc
from sandbox.ports import HOST

SERVICE = f"/{rpc.DESCRIPTOR.services_by_name['LiveSessions'].full_name}/"
BODY = b'{"courseId":"course-1","startsAt":"2030-01-01T10:00:00Z","recordingEnabled":true,"maxParticipants":50}'
GROWTH_ROUNDS = 3
Requests = Callable[[], bytes]


@dataclass(frozen=True)
class Runner:
    """One way to one target. `groups` are those of Stage.groups that work for it; the first is the target itself."""

    who: str
    connect: Callable[[int], load.Connect]
    """With so many in flight."""
    requests: Requests
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    name: str
    in_flight: tuple[int, ...]
    runners: tuple[Runner, ...]
    rounds: int = 1 << 30
    """At most; for those that take long, or have no target."""
    warm_up: int = 1 << 30
    """Requests at most."""


@dataclass(frozen=True)
class Callers:
    """Whose tokens are sent."""

    students: list[bytes]
    instructor: bytes


def callers(stage: Stage) -> Callers:
    names = [f"student-{number}" for number in range(STUDENTS)]
    students = [stage.stack.token(id=name, name=name.title(), role="student").encode() for name in names]
    return Callers(students, stage.stack.token(id="bench", name="Bench", role="instructor").encode())


def cases(stage: Stage, who: Callers) -> list[Case]:
    data = stage.data
    server = stage.stack.grpc_targets[0]
    return [
        Case(
            "get-grpc",
            (1, 16, 256),
            (
                _grpc("ours", server, "GetLiveSession", _name(data), "server"),
                _grpc("bare", stage.bare_target, "GetLiveSession", _name(data), "bare"),
                _grpc("unbatched", stage.unbatched_target, "GetLiveSession", _name(data), "unbatched"),
            ),
        ),
        Case("get-rest", (1, 16, 64, 256), _rest_and_express(stage, lambda: _get(data))),
        Case("token-rest", (1, 16, 256), _rest_and_express(stage, lambda: _join(data, who.students))),
        Case("list-10-rest", (1, 16, 256), _rest(stage, lambda: _list(data, FEW)), rounds=2),
        Case("list-1000-rest", (1, 16), _rest_and_express(stage, lambda: _list(data, MANY))),
        Case("list-1000-rest", (256,), _rest_and_express(stage, lambda: _list(data, MANY)), rounds=2, warm_up=8),
        Case("create-rest", (1, 16, 256), _rest(stage, lambda: _create(who.instructor)), rounds=2),
        _growth(stage, "get", 64, "GetLiveSession", _name, _get),
        _growth(stage, "list-10", 64, "GetInstructorLiveSessions", _few, lambda data: _list(data, FEW)),
        _growth(stage, "list-1000", 16, "GetInstructorLiveSessions", _many, lambda data: _list(data, MANY)),
    ]


def _rest(stage: Stage, requests: Callable[[], Requests]) -> tuple[Runner, ...]:
    rest = stage.stack.ports.rest
    return (
        Runner("ours", lambda _: load.http1(HOST, rest), requests(), ("server", "envoy", "postgres")),
        Runner("peer", lambda _: load.http1(HOST, stage.peer_port), requests(), ("peer", "postgres")),
    )


def _rest_and_express(stage: Stage, requests: Callable[[], Requests]) -> tuple[Runner, ...]:
    """Express where Node is installed."""
    port, groups = stage.express_port, ("express", "postgres")
    express = Runner("express", lambda _: load.http1(HOST, port), requests(), groups)
    return _rest(stage, requests) + ((express,) if stage.express else ())


def _growth(
    stage: Stage,
    name: str,
    busy: int,
    method: str,
    message: Callable[[Data], Requests],
    request: Callable[[Data], Requests],
) -> Case:
    """The same read on the large and on the small database: ours without Envoy, to which size makes no difference."""
    ours = (
        _grpc("ours", stage.stack.grpc_targets[0], method, message(stage.data), "server"),
        _grpc("ours, small", stage.small_target, method, message(stage.small), "small-server"),
    )
    large, small = stage.peer_port, stage.small_peer_port
    peer = (
        Runner("peer", lambda _: load.http1(HOST, large), request(stage.data), ("peer", "postgres")),
        Runner("peer, small", lambda _: load.http1(HOST, small), request(stage.small), ("small-peer", "postgres")),
    )
    return Case(f"growth-{name}", (1, busy), ours + peer, rounds=GROWTH_ROUNDS)


def _grpc(who: str, target: str, method: str, requests: Requests, group: str) -> Runner:
    groups = (group,) if group == "bare" else (group, "postgres")
    return Runner(who, lambda in_flight: load.grpc(target, SERVICE + method, in_flight), requests, groups)


# Messages: field 1 is a string in each of them.


def _name(data: Data) -> Requests:
    return lambda: _field_1(data.name())


def _few(data: Data) -> Requests:
    return lambda: _field_1(data.instructor(FEW))


def _many(data: Data) -> Requests:
    return lambda: _field_1(data.instructor(MANY))


def _field_1(value: bytes) -> bytes:
    return b"\x0a" + bytes((len(value),)) + value


# HTTP/1.1 requests


def _get(data: Data) -> Requests:
    return lambda: b"GET /sessions/" + data.name() + b" HTTP/1.1\r\nhost: bench\r\n\r\n"


def _list(data: Data, sessions: int) -> Requests:
    return lambda: b"GET /sessions/instructor/" + data.instructor(sessions) + b" HTTP/1.1\r\nhost: bench\r\n\r\n"


def _create(token: bytes) -> Requests:
    head = b"POST /sessions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer " + token
    request = head + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    return lambda: request


def _join(data: Data, students: list[bytes]) -> Requests:
    """Class after class, every student joins once."""

    def all() -> Iterator[bytes]:
        while True:
            yield from joins(data.new_class(), students)

    return all().__next__


def joins(room_name: str, students: list[bytes]) -> list[bytes]:
    """Each student's request to join the room, once."""
    head = b"POST /sessions/" + room_name.encode() + b"/token HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer "
    return [head + token + b"\r\ncontent-length: 0\r\n\r\n" for token in students]


def once(requests: list[bytes]) -> Requests:
    return cycle(requests).__next__
