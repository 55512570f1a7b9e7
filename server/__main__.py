"""`live-sessions`, or `python -m server`: serves; its commands prepare and repair.

live-sessions [serve]                serve until SIGTERM
live-sessions migrate [--check]      bring the database to the present; or tell whether it matches the tables
live-sessions register-webhook       make Daily send its events to LIVE_SESSIONS_PUBLIC_URL
live-sessions due                    what waits to be done, how much of it and since when
"""

import argparse
import sys
from collections.abc import Coroutine
from importlib.metadata import version

import uvloop

from server import app, logs
from server.errors import ServiceError
from server.rpc.serving import CannotListen
from server.settings import InvalidSettings, Settings, load
from server.upkeep import webhook
from storage import migrations
from storage.errors import StorageError
from storage.queue import Waiting
from storage.store import Transaction


def main() -> int:
    arguments = _arguments()
    try:
        settings = load()
        logs.to_stderr(settings.log_format)
        if arguments.command == "migrate":
            _migrate(settings, only_check=arguments.check)
        else:
            uvloop.run(_command(arguments, settings))
    except (InvalidSettings, CannotListen, ServiceError, StorageError) as problem:
        print(f"live-sessions: {str(problem).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="live-sessions", description="Live class sessions over gRPC")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('live-sessions')}")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve until SIGTERM; what is done without a command, too")
    migrate = commands.add_parser("migrate", help="bring the database to the present")
    migrate.add_argument("--check", action="store_true", help="only tell whether the database matches the tables")
    commands.add_parser("register-webhook", help="make Daily send its events to LIVE_SESSIONS_PUBLIC_URL")
    commands.add_parser("due", help="what waits to be done, how much of it and since when")
    return parser.parse_args()


def _migrate(settings: Settings, *, only_check: bool) -> None:
    database_url = settings.database_url.get_secret_value()
    (migrations.check if only_check else migrations.upgrade)(database_url)


def _command(arguments: argparse.Namespace, settings: Settings) -> Coroutine[None, None, None]:
    if arguments.command == "register-webhook":
        return _register_webhook(settings)
    if arguments.command == "due":
        return _due(settings)
    return app.serve(settings)


async def _register_webhook(settings: Settings) -> None:
    wanted = app.webhook(settings)
    if wanted is None:
        raise InvalidSettings("LIVE_SESSIONS_DAILY_WEBHOOK_SECRET and LIVE_SESSIONS_PUBLIC_URL are required")
    async with app.service(settings) as service:
        await webhook.register(service, wanted)
    print(f"Daily sends its events to {wanted.url}")


async def _due(settings: Settings) -> None:
    async with app.service(settings) as service:
        for line in await service.store.run(_waiting):
            since = "" if line.since is None else f" since {line.since.isoformat(timespec='seconds')}"
            print(f"{line.line}: {line.items} due{since}")


async def _waiting(tx: Transaction) -> list[Waiting]:
    return await tx.queue.waiting()


if __name__ == "__main__":
    sys.exit(main())
