"""The database's history; `upgrade` brings a database to the present, `check` tells whether the tables say the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import IntegrityError, OperationalError

from storage.errors import StorageError, StorageUnavailable, cause


def upgrade(database_url: str) -> None:
    """Raises StorageError."""
    with _translated():
        try:
            command.upgrade(_config(database_url), "head")
        except IntegrityError:  # of an empty database somebody else made the first table at the same moment
            command.upgrade(_config(database_url), "head")


def check(database_url: str) -> None:
    """Raises StorageError, also when the migrated database and the tables differ."""
    with _translated():
        command.check(_config(database_url))


def revisions() -> list[str]:
    """All that we know, the newest first."""
    return [script.revision for script in ScriptDirectory(str(Path(__file__).parent)).walk_revisions()]


@contextmanager
def _translated() -> Iterator[None]:
    """Other than while serving, somebody reads what the driver says."""
    try:
        yield
    except OperationalError as error:
        raise StorageUnavailable(cause(error)) from error
    except CommandError as error:
        raise StorageError(str(error)) from error


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["database_url"] = database_url
    return config
