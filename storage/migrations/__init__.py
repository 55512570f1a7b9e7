"""The database's history; `upgrade` brings a database to the present, `check` tells whether the tables say the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import OperationalError

from storage.errors import StorageError, StorageUnavailable


def upgrade(database_url: str) -> None:
    """Raises StorageError."""
    with _translated():
        command.upgrade(_config(database_url), "head")


def check(database_url: str) -> None:
    """Raises StorageError, also when the migrated database and the tables differ."""
    with _translated():
        command.check(_config(database_url))


def newest() -> str:
    """The revision that this code needs."""
    return str(ScriptDirectory.from_config(_config("")).get_current_head())


@contextmanager
def _translated() -> Iterator[None]:
    """Other than while serving, somebody reads what the driver says."""
    try:
        yield
    except OperationalError as error:
        raise StorageUnavailable(str(error.orig)) from error
    except CommandError as error:
        raise StorageError(str(error)) from error


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["database_url"] = database_url
    return config
