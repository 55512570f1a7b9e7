"""HTTP/2 by hand (RFC 9113), for what no gRPC client of a library does: it asks, and tells which frames came."""

import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Self

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = END = 1
END_HEADERS = 4
ACK = 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header_block(headers: Mapping[str, bytes]) -> bytes:
    """Each header as a literal that is not indexed (RFC 7541, 6.2.2)."""
    return b"".join(bytes([0]) + _text(name.encode()) + _text(value) for name, value in headers.items())


def _text(text: bytes) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text


def grpc_headers(path: str, **more: bytes) -> dict[str, bytes]:
    pseudo = {":method": b"POST", ":scheme": b"http", ":path": path.encode(), ":authority": b"x"}
    return pseudo | {"content-type": b"application/grpc", "te": b"trailers"} | more


class Http2:
    """One connection. `window` is how much of an answer may come before the client says more."""

    def __init__(self, address: str, window: int = 65535, tls: ssl.SSLContext | None = None) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self.protocol: str | None = None
        """What ALPN has chosen, with TLS."""
        if tls:
            self._socket = secured = tls.wrap_socket(self._socket, server_hostname=host)
            self.protocol = secured.selected_alpn_protocol()
        self._buffer = b""
        self._next_stream = 1
        self.bytes_of: dict[int, bytes] = defaultdict(bytes)
        self.ended: dict[int, str] = {}
        """How a stream ended: "whole" or "reset"."""
        self.closed = False
        settings = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
        self._send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def call(self, path: str, message: bytes, end: bool = True, **headers: bytes) -> int:
        """The stream of a new unary call, whose request has ended or not."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self._send(
            frame(HEADERS, END_HEADERS, stream, header_block(grpc_headers(path, **headers)))
            + frame(DATA, END_STREAM if end else 0, stream, body)
        )
        return stream

    def open_window(self, stream: int, size: int = 65535) -> None:
        self._send(frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big")))

    def end_request(self, stream: int) -> None:
        self._send(frame(DATA, END_STREAM, stream))

    def await_ends(self, streams: list[int]) -> list[str]:
        """How each of them ended; "lost" where the connection ended before."""
        while not self.closed and not self.ended.keys() >= set(streams):
            self.read()
        return [self.ended.get(stream, "lost") for stream in streams]

    def read(self) -> None:
        """Take in what comes next."""
        received = self._socket.recv(65536)
        self.closed = self.closed or not received
        self._buffer += received
        while len(self._buffer) >= 9 + (size := int.from_bytes(self._buffer[:3], "big")):
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big")
            payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._send(frame(kind, ACK, 0, payload if kind == PING else b""))
        if kind == GOAWAY:
            self.closed = True
        if kind in (DATA, HEADERS):
            self.bytes_of[stream] += payload
            if flags & END_STREAM:
                self.ended.setdefault(stream, "whole")
        if kind == RST_STREAM:
            self.ended.setdefault(stream, f"reset {int.from_bytes(payload)}")

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)
