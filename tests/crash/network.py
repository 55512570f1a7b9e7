"""The network between a server and what it depends on: TCP proxies in this process, which can go silent."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

HOST = "127.0.0.1"
CHUNK = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


class Link:
    """One server's way to PostgreSQL or Daily. While it is cut, nothing gets through and nothing is refused: whoever
    sends or connects hears nothing. What was sent meanwhile arrives afterwards, as TCP would send it again."""

    def __init__(self, connect: Connect) -> None:
        self.port = 0
        self._connect = connect
        self._open = asyncio.Event()
        self._open.set()

    async def listen(self) -> None:
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]

    def set_open(self, open: bool) -> None:
        if open:
            self._open.set()
        else:
            self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self._open.wait()
            far_reader, far_writer = await self._connect()
            ways = [self._pass(reader, far_writer), self._pass(far_reader, writer)]
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*ways)
            far_writer.close()
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side ends: then so does the other."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        await self._open.wait()
        writer.close()


class Network:
    """All links, on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def link_to_socket(self, path: str) -> Link:
        return self._started(Link(lambda: asyncio.open_unix_connection(path)))

    def link_to_port(self, port: int) -> Link:
        return self._started(Link(lambda: asyncio.open_connection(HOST, port)))

    def set_open(self, link: Link, open: bool) -> None:
        self._loop.call_soon_threadsafe(link.set_open, open)

    def close(self) -> None:
        self._run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _started(self, link: Link) -> Link:
        self._run(link.listen())
        return link

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@contextlib.contextmanager
def running_network() -> Iterator[Network]:
    network = Network()
    try:
        yield network
    finally:
        network.close()


async def _end_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
