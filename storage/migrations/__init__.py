"""The database's history; `upgrade` brings a database to the present, `check` tells whether the tables say the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import IntegrityError, OperationalError

from storage.errors import StorageError, StorageUnavailable, cause, translated
from storage.url import dialled

# What Alembic does not compare: what tells of changes. A trigger's own function is there as long as the trigger is.
TELLING = {
    *("tell_new_session on sessions", "tell_session on sessions"),
    *("tell_new_participant on participants", "tell_participants on participants"),
    *("tell_new_stays on connections", "tell_stays on connections"),
    *("tell_new_recording on recordings", "tell_recording on recordings"),
    *("tell()", "stays()", "stays_changed()", "milliseconds()"),
    *("session_state()", "participant_state()", "recording_state()"),
}
THERE = """
SELECT tgname || ' on ' || relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal AND relnamespace = current_schema()::regnamespace
UNION ALL SELECT proname || '()' FROM pg_proc
WHERE prorettype <> 'trigger'::regtype AND pronamespace = current_schema()::regnamespace
"""


def upgrade(database_url: str) -> None:
    """Raises StorageError."""
    with _translated():
        try:
            command.upgrade(_config(database_url), "head")
        except IntegrityError:  # of an empty database somebody else made the first table at the same moment
            command.upgrade(_config(database_url), "head")


def check(database_url: str) -> None:
    """Raises StorageError, also when the migrated database and the tables differ, or nothing would tell of changes."""
    with _translated():
        command.check(_config(database_url))
    with translated(), psycopg.connect(dialled(database_url)) as database:
        missing = TELLING - {name for (name,) in database.execute(THERE)}
    if missing:
        raise StorageError(f"missing or disabled: {', '.join(sorted(missing))}")


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
