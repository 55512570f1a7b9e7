"""Many streams of gRPC at once, over a few connections, as thin as `benchmarks.load`: a message is its bytes and a
moment."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from benchmarks.load import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    LoadFailed,
    frame,
    literal,
    string,
)

CANCEL, WIDER = (8).to_bytes(4, "big"), (1 << 24).to_bytes(4, "big")
A_CONNECTION = 250
"""Streams of each connection."""
Told = Callable[[bytes, float], None]
"""A message and when it came."""


class Streams(asyncio.Protocol):
    """The streams of one connection. What is not `reading` takes no more than a stream's first window, 64 KiB."""

    _transport: asyncio.Transport

    def __init__(self, target: str, method: str, told: Told, *, reading: bool = True) -> None:
        self._told, self._reading = told, reading
        first = literal(0x44, method) + literal(0x41, target) + b"\x40" + string("te") + string("trailers")
        self._header_block = b"\x83\x86" + first + literal(0x5F, "application/grpc") + literal(0x7A, "bench")
        self._stream = 1
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._buffer = b""
        self._received = 0
        self.open: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        window = WINDOW if self._reading else 65535
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, b"\x00\x04" + window.to_bytes(4, "big")))
        self._transport.write(frame(WINDOW_UPDATE, 0, 0, (WINDOW - 65535).to_bytes(4, "big")))

    def connection_lost(self, error: Exception | None) -> None:
        for waiting in self._waiting.values():
            waiting.set_exception(LoadFailed(f"the server closed a connection: {error}"))
        self._waiting.clear()

    def begin(self, messages: list[bytes]) -> list[asyncio.Future[None]]:
        """A stream for each request; done when its first message has come."""
        frames, begun = [], []
        for message in messages:
            stream, self._stream = self._stream, self._stream + 2
            body = b"\x00" + len(message).to_bytes(4, "big") + message
            frames += [frame(HEADERS, END_HEADERS, stream, self._header_block), frame(DATA, END_STREAM, stream, body)]
            self._header_block = b"\x83\x86\xc2\xc1\xc0\xbf\xbe"
            self._waiting[stream] = asyncio.get_running_loop().create_future()
            self.open.add(stream)
            begun.append(self._waiting[stream])
        self._transport.write(b"".join(frames))
        return begun

    def hear(self) -> None:
        """Reads on, after all."""
        self._transport.write(b"".join(frame(WINDOW_UPDATE, 0, stream, WIDER) for stream in self.open))

    def cancel(self) -> None:
        """All streams."""
        self._transport.write(b"".join(frame(RST_STREAM, 0, stream, CANCEL) for stream in self.open))
        self.open.clear()

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while at + 9 <= size:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > size:
                break
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            self._take(buffer[at + 3], buffer[at + 4], stream, buffer[at + 9 : end], now)
            at = end
        self._buffer = buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        if kind == DATA:
            if waiting := self._waiting.pop(stream, None):
                waiting.set_result(None)
            self._told(payload, now)
            self._received += len(payload)
            if self._reading and self._received > WINDOW // 2:
                self._transport.write(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
                self._received = 0
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self.open.discard(stream)
            if waiting := self._waiting.pop(stream, None):
                waiting.set_exception(LoadFailed("a stream ended before its first message"))
        elif kind == GOAWAY:
            self._transport.close()
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))


async def connect(target: str, method: str, told: Told, *, reading: bool = True) -> Streams:
    host, _, port = target.rpartition(":")
    loop = asyncio.get_running_loop()
    streams = Streams(target, method, told, reading=reading)
    await loop.create_connection(lambda: streams, host, int(port))
    return streams


async def follow(target: str, method: str, messages: list[bytes], told: Told) -> list[Streams]:
    """A stream for each request, each with its first message."""
    every, begun = [], []
    for start in range(0, len(messages), A_CONNECTION):
        streams = await connect(target, method, told)
        every.append(streams)
        begun += streams.begin(messages[start : start + A_CONNECTION])
    await asyncio.gather(*begun)
    return every
