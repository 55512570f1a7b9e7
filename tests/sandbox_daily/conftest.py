"""One stand-in for all of these tests, put right after each, and a receiver for its webhook."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.sandbox_daily.stand_in import SECRET, Daily, Receiver, running


@pytest.fixture(scope="session")
def stand_in() -> Iterator[Daily]:
    with running() as daily:
        yield daily


@pytest.fixture
def daily(stand_in: Daily) -> Iterator[Daily]:
    yield stand_in
    stand_in.reset()
    for webhook in stand_in.api.get("/webhooks").json():
        stand_in.delete_webhook(webhook["uuid"])


@pytest.fixture
def new_receiver() -> Iterator[Any]:
    servers = []

    def new() -> Receiver:
        server, receiver = _receiver()
        servers.append(server)
        return receiver

    yield new
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver(new_receiver: Any) -> Receiver:
    return new_receiver()


@pytest.fixture
def hook(daily: Daily, receiver: Receiver) -> Receiver:
    """A receiver that is the domain's webhook; its test ping is already taken."""
    body = {"url": receiver.url, "hmac": SECRET}
    daily.api.post("/webhooks", json=body).raise_for_status()
    receiver.got.get(timeout=5)
    return receiver


def _receiver() -> tuple[ThreadingHTTPServer, Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.got.put(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks/daily")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server, received
