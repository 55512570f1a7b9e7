"""A stand-in of the tests' own, the receiver that its webhook calls, and what is said about their answers."""

import json
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt

from sandbox.ports import free_port
from tests.clients import DailyControl, eventually

KEY = "an-api-key-of-the-sandbox-domain-64-characters-long-0123456789ab"
SECRET = "NQrSA5z0FkJ44QPrFerW7uCc5kdNLv3l2FDEKDanL1U="
JSON = dict[str, Any]


class Daily(DailyControl):
    """A running stand-in: `api` is Daily's API with the key, `control` the /sandbox surface without."""

    def __init__(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        super().__init__(httpx.Client(base_url=url, trust_env=False))
        key = {"Authorization": f"Bearer {KEY}"}
        self.api = httpx.Client(base_url=f"{url}/v1", headers=key, trust_env=False)
        self.control = httpx.Client(base_url=f"{url}/sandbox", trust_env=False)

    def room(self, **body: Any) -> str:
        return self.api.post("/rooms", json=body).raise_for_status().json()["name"]

    def token(self, **claims: Any) -> str:
        domain_id = self.api.get("/").json()["domain_id"]
        return jwt.encode({"iat": int(time.time()), "d": domain_id, **claims}, KEY, algorithm="HS256")

    def enter(self, room: str, **claims: Any) -> httpx.Response:
        return self.control.post(f"/rooms/{room}/join", json={"token": self.token(r=room, **claims)})

    def entered(self, room: str, **claims: Any) -> str:
        """The session id of somebody who joined."""
        return self.enter(room, **claims).raise_for_status().json()["session_id"]

    def record(self, room: str, **body: Any) -> str:
        """Starts a recording and answers its id."""
        self.api.post(f"/rooms/{room}/recordings/start", json=body).raise_for_status()
        return self.of_room(room)["recordings"][-1]["id"]

    def recording(self, recording_id: str) -> JSON:
        return self.api.get(f"/recordings/{recording_id}").raise_for_status().json()

    def listed(self, path: str, **query: Any) -> list[JSON]:
        """The data of one of Daily's lists."""
        return self.api.get(path, params=query).raise_for_status().json()["data"]


class Receiver:
    """The service's webhook endpoint: keeps what it gets, answers `status`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.got: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    def events(self, count: int) -> list[JSON]:
        return [json.loads(self.got.get(timeout=5)[1]) for _ in range(count)]


@contextmanager
def running(*options: str) -> Iterator[Daily]:
    with free_port() as port:
        command = [sys.executable, "-m", "sandbox.daily", f"--port={port}", f"--api-key={KEY}", *options]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        daily = Daily(port)
        try:
            eventually(lambda: answers(daily))
            yield daily
        finally:
            process.terminate()
            process.wait(timeout=5)


def answers(daily: Daily) -> bool:
    try:
        return daily.control.get("/calls").status_code == 200
    except httpx.ConnectError:
        return False


def types(events: list[JSON]) -> list[str]:
    return [event["type"] for event in events]


def is_error(response: httpx.Response, status: int, error: str, info: str) -> bool:
    body = response.json()
    assert (response.status_code, body["error"]) == (status, error), body
    assert info in body["info"]
    return True
