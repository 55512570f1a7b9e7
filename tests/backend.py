"""The product's back end, to which webhooks are sent: it answers as a test says, and keeps what it got."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GIB = 1 << 30
UNENDING = 600.0


@dataclass(frozen=True)
class Message:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def session(self) -> str:
        return str(self.content["data"]["sessionName"])

    def verified(self, secret: str = SECRET) -> Any:
        """The content, by the library that receivers use; raises WebhookVerificationError."""
        return Webhook(secret).verify(self.body, dict(self.headers))


class Answering(BaseHTTPRequestHandler):
    """One connection, of which the answers below write."""

    protocol_version = "HTTP/1.1"
    backend: "Backend"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = Message(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.backend.received(message, self)

    def log_message(self, *_: object) -> None:
        pass


Answer = Callable[[Answering], None]


@dataclass
class Backend:
    url: str = ""
    messages: list[Message] = field(default_factory=list)
    answer: Callable[[Message], Answer] = lambda _: status(200)
    ended: threading.Event = field(default_factory=threading.Event)
    connections: set[Any] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    sent_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def received(self, message: Message, connection: Answering) -> None:
        with self._lock:
            self.messages.append(message)
            self.connections.add(connection.client_address)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.answer(message)(connection)
        except OSError:  # it was not waited for
            connection.close_connection = True
        finally:
            with self._lock:
                self.at_once -= 1

    def of(self, session: str) -> list[Message]:
        return [message for message in list(self.messages) if message.session == session]

    def types(self, session: str) -> list[str]:
        """In the order of their revisions, each once."""
        told = {message.content["data"]["revision"]: message.content["type"] for message in self.of(session)}
        return [told[revision] for revision in sorted(told)]


@contextmanager
def backend(tls: SSLContext | None = None, port: int = 0) -> Iterator[Backend]:
    told = Backend()
    handler = type("Handler", (Answering,), {"backend": told})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        told.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hooks/"
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        try:
            yield told
        finally:
            told.ended.set()
            server.shutdown()


# How it answers


def status(code: int, text: bytes = b"", **headers: str) -> Answer:
    def answer(to: Answering) -> None:
        to.send_response(code)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.send_header("Content-Length", str(len(text)))
        to.end_headers()
        to.wfile.write(text)

    return answer


def never(to: Answering) -> None:
    to.backend.ended.wait(UNENDING)


def dripping_headers(to: Answering) -> None:
    _drip(to, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)


def dripping_body(to: Answering) -> None:
    to.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    _drip(to, b"x" * 10_000)


def endless_body(to: Answering) -> None:
    """Of a GiB, as fast as it is taken."""
    to.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n".encode())
    part = b"x" * (1 << 16)
    for _ in range(GIB // len(part)):
        to.wfile.write(part)
        to.backend.sent_bytes += len(part)


def no_http(to: Answering) -> None:
    to.wfile.write(b"hello\r\n\r\n")
    to.close_connection = True


def after(seconds: float, then: Answer) -> Answer:
    def answer(to: Answering) -> None:
        time.sleep(seconds)
        then(to)

    return answer


def _drip(to: Answering, text: bytes) -> None:
    for byte in text:
        to.wfile.write(bytes([byte]))
        to.wfile.flush()
        if to.backend.ended.wait(0.05):
            return
