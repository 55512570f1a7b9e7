"""`live-sessions`, or `python -m server`: serves; its commands prepare and repair.

live-sessions [serve]                serve until SIGTERM
live-sessions migrate [--check]      bring the database to the present; or tell whether it matches the tables
live-sessions register-webhook       make Daily send its events to LIVE_SESSIONS_PUBLIC_URL
live-sessions due                    what waits to be done, how much of it and since when
live-sessions deliveries [--failed]  the newest webhooks to LIVE_SESSIONS_EVENTS_URL, or those that were given up;
    --replay ID | --replay-since TIME   have the running servers send one, or all of them since then, once more
"""

import argparse
import contextlib
import sys
from collections.abc import Coroutine
from datetime import datetime
from importlib.metadata import version
from uuid import UUID

import uvloop

from server import app, logs
from server.errors import ServiceError
from server.rpc.serving import CannotListen
from server.settings import InvalidSettings, Settings, load
from server.upkeep import deliveries, webhook
from storage import migrations
from storage.errors import StorageDefect, StorageError
from storage.model import DeliveryRow
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
        return 0
    except (InvalidSettings, CannotListen, ServiceError, StorageError) as problem:
        told = str(problem).splitlines()[0]
    except StorageDefect as problem:  # of a command; a server waits for its schema
        told = f"{problem}: `migrate --check` tells whether the schema fits"
    print(f"live-sessions: {told}", file=sys.stderr)
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="live-sessions", description="Live class sessions over gRPC")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('live-sessions')}")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve until SIGTERM; what is done without a command, too")
    migrate = commands.add_parser("migrate", help="bring the database to the present")
    migrate.add_argument("--check", action="store_true", help="only tell whether the database matches the tables")
    commands.add_parser("register-webhook", help="make Daily send its events to LIVE_SESSIONS_PUBLIC_URL")
    commands.add_parser("due", help="what waits to be done, how much of it and since when")
    sent = commands.add_parser("deliveries", help="the newest webhooks to LIVE_SESSIONS_EVENTS_URL")
    sent.add_argument("--failed", action="store_true", help="only those that were given up")
    replay = sent.add_mutually_exclusive_group()
    replay.add_argument("--replay", metavar="ID", type=UUID, help="have this one sent again")
    replay.add_argument("--replay-since", metavar="TIME", type=_time, help="have all since then sent again")
    return parser.parse_args()


def _time(text: str) -> datetime:
    with contextlib.suppress(ValueError):
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time
    raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-12-26T15:00:00Z")


def _migrate(settings: Settings, *, only_check: bool) -> None:
    database_url = settings.database_url.get_secret_value()
    (migrations.check if only_check else migrations.upgrade)(database_url)


def _command(arguments: argparse.Namespace, settings: Settings) -> Coroutine[None, None, None]:
    if arguments.command == "register-webhook":
        return _register_webhook(settings)
    if arguments.command == "due":
        return _due(settings)
    if arguments.command == "deliveries":
        return _deliveries(arguments, settings)
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


async def _deliveries(arguments: argparse.Namespace, settings: Settings) -> None:
    async with app.service(settings) as service:
        if arguments.replay:
            await deliveries.send_again(service, arguments.replay)
            print("1 will be sent again")
        elif arguments.replay_since:
            count = await deliveries.send_again_since(service, arguments.replay_since, only_failed=arguments.failed)
            print(f"{count} will be sent again")
        else:
            for row in await deliveries.latest(service, only_failed=arguments.failed):
                print(_line(row))


def _line(row: DeliveryRow) -> str:
    def at(time: datetime) -> str:
        return time.isoformat(timespec="seconds")

    if row.delivered_at:
        state = f"delivered {at(row.delivered_at)}"
    elif row.due_at:
        state = f"due {at(row.due_at)}"
    else:
        state = "failed"
    why = f": {row.error}" if row.error else ""
    told = f"{row.id} {at(row.at)} {row.type} session={row.room_name} revision={row.revision}"
    return f"{told} attempts={row.attempts} {state}{why}"


if __name__ == "__main__":
    sys.exit(main())
