"""`python -m server`: serves; its commands prepare and repair.

python -m server                        serve until SIGTERM
python -m server migrate [--check]      bring the database to the present; or tell whether it matches the tables
python -m server register-webhook       make Daily send its events to LIVE_SESSIONS_PUBLIC_URL
python -m server reconcile [--dry-run]  one pass of the reconciler; prints what differs between our rows and Daily
"""

import argparse
import logging
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime

import uvloop

from server import app
from server.errors import ServiceError
from server.rpc.serving import CannotListen
from server.settings import InvalidSettings, Settings, load
from server.upkeep.reconciler import LOOK_BACK, Reconciler
from server.upkeep.repairs import differences
from server.usecases import webhooks
from storage import migrations
from storage.errors import StorageError


def main() -> int:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = load()
        if arguments.command == "migrate":
            _migrate(settings, only_check=arguments.check)
        else:
            uvloop.run(_command(arguments, settings))
    except (InvalidSettings, CannotListen, ServiceError, StorageError) as problem:
        print(f"live-sessions: {str(problem).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server", description="Live class sessions over gRPC")
    commands = parser.add_subparsers(dest="command")
    migrate = commands.add_parser("migrate", help="bring the database to the present")
    migrate.add_argument("--check", action="store_true", help="only tell whether the database matches the tables")
    commands.add_parser("register-webhook", help="make Daily send its events to LIVE_SESSIONS_PUBLIC_URL")
    reconcile = commands.add_parser("reconcile", help="one pass over what differs between our rows and Daily")
    reconcile.add_argument("--dry-run", action="store_true", help="print what differs, change nothing")
    return parser.parse_args()


def _migrate(settings: Settings, *, only_check: bool) -> None:
    database_url = settings.database_url.get_secret_value()
    (migrations.check if only_check else migrations.upgrade)(database_url)


def _command(arguments: argparse.Namespace, settings: Settings) -> Coroutine[None, None, None]:
    if arguments.command == "register-webhook":
        return _register_webhook(settings)
    if arguments.command == "reconcile":
        return _reconcile(settings, dry_run=arguments.dry_run)
    return app.serve(settings)


async def _register_webhook(settings: Settings) -> None:
    if settings.daily_webhook_secret is None or settings.public_url is None:
        raise InvalidSettings("LIVE_SESSIONS_DAILY_WEBHOOK_SECRET and LIVE_SESSIONS_PUBLIC_URL are required")
    async with app.dependencies(settings) as (_, daily):
        await webhooks.register(daily, settings.daily_webhook_secret.get_secret_value(), settings.public_url)
    print(f"Daily sends its events to {settings.public_url}{webhooks.PATH}")


async def _reconcile(settings: Settings, *, dry_run: bool) -> None:
    found = 0
    async with app.dependencies(settings) as (store, daily):
        reconciler = Reconciler(store, daily)
        async for repair in differences(store, daily, datetime.now(UTC) - LOOK_BACK):
            found += 1
            print(f"{repair.kind}: {repair.room_name} {repair.reason}")
            if not dry_run:
                await reconciler.repair(repair)
    print(f"{found} differences")


if __name__ == "__main__":
    sys.exit(main())
