"""The load generator: a fixed number of requests in flight, over HTTP/1.1 or gRPC's HTTP/2, to one address.

h2load sends the same body with every request of a run, so that every call would ask for the same room; wrk cannot send
each of 10,000 tokens exactly once. This one does both, and one client for all keeps comparisons fair. It is as thin as
Python allows: requests are bytes joined from ready parts, answers are only cut into frames; 15 to 30 µs of its own CPU
per request, which is shown in the results.

HTTP/1.1 has a connection for each request in flight, kept alive. gRPC has at most four connections, as a service has
that calls another.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

GRPC_CONNECTIONS = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = (1 << 31) - 1
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4


class LoadFailed(Exception):
    """A connection broke: the run says nothing."""


@dataclass
class Result:
    seconds: float = 0.0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Connect = Callable[["Load", int], Awaitable["_Connection"]]
Headers = Callable[[bytes], bytes]
"""What goes with a message beside the headers of every call, each made by `header`."""


class Load:
    """Connections to one address, on which runs follow each other. `requests` gives the next request's own part: the
    whole request for HTTP/1.1, the message for gRPC."""

    def __init__(self, connect: Connect, in_flight: int, requests: Callable[[], bytes]) -> None:
        self._connect = connect
        self._in_flight = in_flight
        self._requests = requests
        self._connections: list[_Connection] = []
        self._waiting = 0
        self._done: asyncio.Future[None] | None = None

    async def open(self) -> None:
        while (missing := self._in_flight - sum(each.slots for each in self._connections)) > 0:
            self._connections.append(await self._connect(self, missing))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def run(self, seconds: float = 1e9, total: int = 1 << 60) -> Result:
        """Sends for so many seconds, or so many requests, and waits for the last answer."""
        self._result = Result()
        self._left = total
        self._done = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        self._end = begin + seconds
        for connection in self._connections:
            connection.start()
        await self._done
        self._result.seconds = time.perf_counter() - begin
        return self._result

    def next(self) -> bytes | None:
        """The next request to send at once, or None when the run is over."""
        if self._left <= 0 or time.perf_counter() >= self._end:
            return None
        self._left -= 1
        self._waiting += 1
        return self._requests()

    def answered(self, sent: float, *, ok: bool) -> None:
        self._result.latencies.append(time.perf_counter() - sent)
        self._result.failed += not ok
        self._waiting -= 1

    def idle(self) -> None:
        """A connection has nothing more to send."""
        if self._done and not self._waiting and not self._done.done():
            self._done.set_result(None)

    def broke(self, why: str) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(LoadFailed(why))


class _Connection(asyncio.Protocol):
    slots = 1
    _transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self._load = load
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._load.broke(f"the server closed a connection: {error}")

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def start(self) -> None:
        raise NotImplementedError


class _Http1(_Connection):
    """One request at a time. An answer ends where its content-length says, or with the last chunk."""

    def start(self) -> None:
        request = self._load.next()
        if request is None:
            self._load.idle()
            return
        self._head = b""
        self._missing: int | None = None
        self._tail = b""
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing is None and not self._tail:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end == 3:
                return
            self._ok = self._head[9:10] == b"2"
            data = self._head[end:]
            length = self._head[:end].lower().find(b"content-length: ")  # Node writes Content-Length
            if length >= 0:
                self._missing = int(self._head[length + 16 : self._head.find(b"\r", length)])
        if self._missing is not None:
            self._missing -= len(data)
            if self._missing > 0:
                return
        else:
            self._tail = (self._tail + data)[-7:] or b" "
            if not self._tail.endswith(b"\r\n0\r\n\r\n"):
                return
        self._load.answered(self._sent, ok=self._ok)
        self.start()


class _Grpc(_Connection):
    """Many calls at once. A call went well when a message came before the end of its stream: an error has none."""

    def __init__(self, load: Load, slots: int, authority: str, method: str, headers: Headers) -> None:
        super().__init__(load)
        self.slots = slots
        self._headers = headers
        self._stream = 1
        self._open: dict[int, float] = {}
        self._messages: set[int] = set()
        self._buffer = b""
        self._received = 0
        first = literal(0x44, method) + literal(0x41, authority) + b"\x40" + string("te") + string("trailers")
        self._header_block = b"\x83\x86" + first + literal(0x5F, "application/grpc") + literal(0x7A, "bench")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        settings = b"\x00\x04" + WINDOW.to_bytes(4, "big")
        widened = (WINDOW - 65535).to_bytes(4, "big")
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, widened))

    def start(self) -> None:
        calls = [self._call() for _ in range(self.slots)]
        self._transport.write(b"".join(calls))
        if not self._open:
            self._load.idle()

    def _call(self) -> bytes:
        message = self._load.next()
        if message is None:
            return b""
        stream = self._stream
        self._stream += 2
        headers = frame(HEADERS, END_HEADERS, stream, self._header_block + self._headers(message))
        # The first call has put its headers into the connection's table; the others point there.
        self._header_block = b"\x83\x86\xc2\xc1\xc0\xbf\xbe"
        self._open[stream] = time.perf_counter()
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        return headers + frame(DATA, END_STREAM, stream, body)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size, out = 0, len(buffer), []
        while at + 9 <= size:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            if end > size:
                break
            if kind == DATA:
                self._messages.add(stream)
                self._received += end - at
            elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                self._load.answered(self._open.pop(stream), ok=kind == HEADERS and stream in self._messages)
                self._messages.discard(stream)
                out.append(self._call())
            elif kind == GOAWAY:
                self._load.broke(f"GOAWAY {buffer[at + 17 : end]!r}")
            elif kind in (SETTINGS, PING) and not flags & ACK:
                out.append(frame(kind, ACK, 0, buffer[at + 9 : end] if kind == PING else b""))
            at = end
        self._buffer = buffer[at:]
        if self._received > WINDOW // 2:
            out.append(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0
        if out:
            self._transport.write(b"".join(out))
            if not self._open:
                self._load.idle()


def http1(host: str, port: int) -> Connect:
    async def connect(load: Load, _: int) -> _Connection:
        return (await asyncio.get_running_loop().create_connection(lambda: _Http1(load), host, port))[1]

    return connect


def grpc(target: str, method: str, in_flight: int, headers: Headers = lambda _: b"") -> Connect:
    host, _, port = target.rpartition(":")
    each = -(-in_flight // GRPC_CONNECTIONS)

    async def connect(load: Load, missing: int) -> _Connection:
        def new() -> _Grpc:
            return _Grpc(load, min(each, missing), target, method, headers)

        return (await asyncio.get_running_loop().create_connection(new, host, int(port)))[1]

    return connect


def header(name: str, value: str) -> bytes:
    """HPACK: one that is another with every request."""
    return b"\x00" + string(name) + string(value)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def string(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def literal(name: int, value: str) -> bytes:
    """HPACK: a header that the connection's table shall remember, its name out of the static table."""
    return bytes((name,)) + string(value)
