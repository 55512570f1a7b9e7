"""The database's history; `upgrade` brings a database to the present, `check` tells whether the tables say the same."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def upgrade(database_url: str) -> None:
    command.upgrade(_config(database_url), "head")


def check(database_url: str) -> None:
    """Raises alembic.util.CommandError when the migrated database and the tables differ."""
    command.check(_config(database_url))


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["database_url"] = database_url
    return config
