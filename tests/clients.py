"""What drives the stack in tests: REST callers, gRPC metadata, the stand-in's control surface, and waiting."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any, TypeVar

import httpx
import psycopg
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sandbox.stack import Stack

EXAMPLE = {
    "courseId": "course-uuid-123",
    "startsAt": "2025-12-26T15:00:00.000Z",
    "recordingEnabled": True,
    "maxParticipants": 50,
}
T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 15) -> T:
    """The first truthy thing that `look` returns."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return seen


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Makes the calls at the same moment, each in a thread of its own; their results in the calls' order."""
    barrier = Barrier(len(calls))

    def wait_and(call: Callable[[], T]) -> T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(wait_and, calls))


@contextmanager
def new_stack(workers: int = 1, daily_options: Sequence[str] = (), tls: bool = False) -> Iterator[Stack]:
    # Not in pytest's own temporary directory, which PostgreSQL's user must not enter when the tests run as root.
    with (
        TemporaryDirectory() as data_dir,
        Stack(Path(data_dir), workers=workers, daily_options=daily_options, tls=tls) as running,
    ):
        yield running


def http_client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=20, trust_env=False)


def waiting_for_locks(stack: Stack) -> list[int]:
    """The pids of PostgreSQL's backends that wait for what another has locked."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        return [pid for (pid,) in connection.execute(query)]


def servers_in_use(stack: Stack, admin_url: str | None = None) -> int:
    """How many of its servers Envoy, or the one with that admin interface, finds healthy and has not ejected."""
    answer = httpx.get(f"{admin_url or stack.envoy_admin_url}/clusters?format=json", trust_env=False).json()
    [servers] = [each for each in answer["cluster_statuses"] if each["name"] == "live_sessions"]
    healths = [host["health_status"] for host in servers["host_statuses"]]
    return healths.count({"eds_health_status": "HEALTHY"})


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """gRPC metadata of a caller."""
    return (("authorization", f"Bearer {token}"),)


def error_info(error: Any) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed gRPC call."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.details[0].Unpack(info)
    return info


def said(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body of a REST answer, which is JSON and shows nothing of gRPC."""
    assert answer.headers["content-type"] == "application/json"
    assert [name for name in answer.headers if name.startswith("grpc-")] == []
    return answer.status_code, answer.json()


class Rest:
    """Calls the REST API as one of its users: by user id."""

    def __init__(self, stack: Stack, http: httpx.Client) -> None:
        self._stack = stack
        self._http = http

    def token(self, id: str, role: str = "instructor", name: str | None = None) -> str:
        return self._stack.token(id=id, name=name or id, role=role)

    def call(
        self, method: str, path: str, as_: str | None = None, role: str = "instructor", **request: Any
    ) -> httpx.Response:
        """`as_` is the caller's user id; None is an anonymous call."""
        headers = dict(request.pop("headers", {}))
        if as_ is not None:
            headers["Authorization"] = f"Bearer {self.token(as_, role)}"
        return self._http.request(method, path, headers=headers, **request)

    def create(self, as_: str = "ada", **changes: Any) -> dict[str, Any]:
        """A new session, made from the documented example."""
        answer = self.call("POST", "/sessions", as_, json=EXAMPLE | changes)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def recording(self, as_: str = "ada") -> dict[str, Any]:
        """A new session that is being recorded."""
        session = self.create(as_)
        answer = self.call("POST", f"/sessions/{session['roomName']}/start-recording", as_)
        assert answer.status_code == 200, answer.text
        return session | answer.json()

    def get(self, room_name: str) -> dict[str, Any]:
        answer = self.call("GET", f"/sessions/{room_name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@contextmanager
def daily_control(stack: Stack) -> "Iterator[DailyControl]":
    """The stand-in's control surface; it is reset afterwards."""
    assert stack.daily_url is not None
    with http_client(stack.daily_url) as client:
        control = DailyControl(client)
        yield control
        control.reset()


class DailyControl:
    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def fault(self, fault: str, method: str | None = None, path: str | None = None, **options: Any) -> None:
        body = {"fault": fault, "method": method, "path": path, **options}
        answer = self._client.post(
            "/sandbox/faults", json={k: v for k, v in body.items() if v is not None or k == "times"}
        )
        assert answer.is_success, answer.text

    def clear_faults(self) -> None:
        self._client.delete("/sandbox/faults").raise_for_status()

    def settings(self, **settings: Any) -> None:
        """How Daily behaves, such as listing_lag=6, until `reset`."""
        self._post("settings", settings)

    def odd(self, kind: str, **options: Any) -> None:
        """A record (by `id`, or all in a `room`) shows other fields: `set`, `remove`; `where`: answers or events."""
        self._post("odd", {"kind": kind, **options})

    def others(self, **options: Any) -> dict[str, Any]:
        """Another application's room on the domain, with a call and a recording; `webhook` and `events` as asked."""
        return self._post("others", options)

    def reset(self) -> None:
        """Clears faults and oddities, and takes the settings back."""
        for what in ("faults", "odd", "settings"):
            self._client.delete(f"/sandbox/{what}").raise_for_status()

    def state(self) -> dict[str, Any]:
        return dict(self._client.get("/sandbox/state").json())

    def of_room(self, room_name: str) -> dict[str, Any]:
        """The state of one room alone."""
        return dict(self._client.get("/sandbox/state", params={"room": room_name}).json())

    def calls(self, call: str) -> int:
        """How often Daily was asked, by method and path template, such as "POST /rooms"."""
        return int(self._client.get("/sandbox/calls").json()["calls"].get(call, 0))

    def refused(self) -> dict[str, int]:
        """How often Daily's limits refused a call, by their class."""
        return dict(self._client.get("/sandbox/calls").json()["refused"])

    def rooms(self) -> set[str]:
        return {room["name"] for room in self.state()["rooms"]}

    def recordings(self, room_name: str) -> list[dict[str, Any]]:
        return list(self.of_room(room_name)["recordings"])

    def join(self, room_name: str, meeting_token: str) -> dict[str, Any]:
        return self._post(f"rooms/{room_name}/join", {"token": meeting_token})

    def leave(self, room_name: str, session_id: str) -> dict[str, Any]:
        return self._post(f"rooms/{room_name}/leave", {"session_id": session_id})

    def fill(self, room_name: str, users: int, **options: Any) -> list[str]:
        """Many join at once; with quiet=True no event tells of them. Their session ids."""
        return list(self._post(f"rooms/{room_name}/fill", {"users": users, **options})["session_ids"])

    def press_record(self, room_name: str, session_id: str | None = None) -> dict[str, Any]:
        """Daily's own Record button; the recording that it starts."""
        return self._post(f"rooms/{room_name}/record", {"session_id": session_id} if session_id else {})

    def press_stop(self, room_name: str) -> dict[str, Any]:
        return self._post(f"rooms/{room_name}/record/stop", {})

    def end_recording(self, recording_id: str) -> None:
        """As Daily does by itself when it has run for long."""
        self._post(f"recordings/{recording_id}/end", {})

    def fail_recording(self, recording_id: str) -> None:
        self._post(f"recordings/{recording_id}/fail", {})

    def put_webhook(self, uuid: str, **changes: Any) -> None:
        """Changes a webhook behind the service's back: `state`, `url`, `eventTypes`."""
        self._post(f"webhooks/{uuid}", changes)

    def delete_webhook(self, uuid: str) -> None:
        self._client.delete(f"/sandbox/webhooks/{uuid}").raise_for_status()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(f"/sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())
