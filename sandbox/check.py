"""Checks that need a running part: Envoy accepts its file, and the migrations make what the tables say.

They use the shipped Envoy file and a PostgreSQL that is thrown away.
"""

import signal
import sys
import tempfile
from pathlib import Path

from sandbox import envoy
from sandbox.postgres import Postgres
from sandbox.process import Interrupted, Process, SandboxError, Workspace

SETTINGS = {
    "LIVE_SESSIONS_JWT_SECRET": "nobody signs anything with this secret",
    "LIVE_SESSIONS_DAILY_API_KEY": "nobody calls Daily.co with this key",
}


def main() -> int:
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.append(number))
    try:
        with tempfile.TemporaryDirectory() as directory:
            _check(Workspace(Path(directory), lambda: bool(received)))
    except Interrupted:
        return 1
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _check(workspace: Workspace) -> None:
    workspace.claim()
    with_tls = workspace.path / "envoy.yaml"
    with_tls.write_text(envoy.with_tls())
    for file in (envoy.SHIPPED, with_tls):
        Process("envoy", [envoy.BINARY, "--mode", "validate", "-c", file], workspace).run()
    print("envoy/envoy.yaml is valid, also with TLS")
    postgres = Postgres(workspace)
    try:
        postgres.start()
        settings = SETTINGS | {"LIVE_SESSIONS_DATABASE_URL": postgres.url}
        server = [sys.executable, "-m", "server"]
        Process("migrate", [*server, "migrate"], workspace, settings).run()
        print("the migrations apply")
        Process("migrate-check", [*server, "migrate", "--check"], workspace, settings).run()
        print("the migrations make what the tables say")
    finally:
        postgres.stop()
        workspace.release()


if __name__ == "__main__":
    sys.exit(main())
