"""`python -m sandbox.daily --api-key KEY [--state FILE]`: serves it on 127.0.0.1 until SIGTERM or Ctrl-C."""

import argparse
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import create_app
from .faults import Faults
from .settings import Settings


class Protocol(HttpToolsProtocol):
    """Lets a handler reach its connection (`request.state.transport`), so that a fault can drop it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class Server(uvicorn.Server):
    """Stops at once even while calls hang."""

    def __init__(self, config: uvicorn.Config, faults: Faults) -> None:
        super().__init__(config)
        self._faults = faults

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._faults.clear()
        await super().shutdown(sockets)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.daily", description=__doc__)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--domain", default="sandbox")
    parser.add_argument("--state", type=Path, help="JSON file, created when missing; without it nothing is kept")
    parser.add_argument("--origin", action="append", default=[], help="whose pages may join and leave; repeatable")
    parser.add_argument("--limits", action="store_true", help="refuse what is over Daily's rate limits")
    options = parser.parse_args()
    app = create_app(options.api_key, options.domain, options.state, Settings(limits=options.limits), options.origin)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=options.port,
        http=Protocol,
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        Server(config, app.state.faults).run()


if __name__ == "__main__":
    main()
