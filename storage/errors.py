"""What callers of the storage can meet, in our words; the one seam where the drivers' errors are turned into them.

StorageError
├── StorageUnavailable   PostgreSQL cannot be reached, went away, took too long, or takes no writes
│   └── StorageConflict  PostgreSQL undid the transaction for the sake of another one; it can be repeated
├── StorageOverloaded    every connection of the pool stayed in use
└── StorageUnsuitable    what is there will never do, however often it is asked
StorageDefect            PostgreSQL refused a statement of ours: a fault in the code
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

CONFLICTS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
READ_ONLY = psycopg.errors.ReadOnlySqlTransaction
"""On such a connection nothing will ever be written: what it leads to is not, or no longer, the primary."""
ATTEMPTS = "All failures were:"


class StorageError(Exception):
    pass


class StorageUnavailable(StorageError):
    """The message is the cause in PostgreSQL's or libpq's words, with the SQLSTATE where there is one."""


class StorageConflict(StorageUnavailable):
    pass


class StorageOverloaded(StorageError):
    pass


class StorageUnsuitable(StorageError):
    pass


class StorageDefect(Exception):
    """Tells the error, and where the code met it; not its DETAIL, which shows what rows contain."""


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except exc.TimeoutError as error:
        raise StorageOverloaded(str(error)) from error
    except (exc.OperationalError, exc.InterfaceError, psycopg.OperationalError, OSError, READ_ONLY) as error:
        if isinstance(getattr(error, "orig", error), CONFLICTS):
            raise StorageConflict(cause(error)) from error
        raise StorageUnavailable(cause(error)) from error
    except (exc.PendingRollbackError, exc.ResourceClosedError) as error:
        raise StorageUnavailable("the connection was lost in the middle of a transaction") from error
    except (exc.DBAPIError, psycopg.Error) as error:
        if getattr(error, "connection_invalidated", False):
            raise StorageUnavailable(cause(error)) from error
        raise StorageDefect(_defect(error)).with_traceback(error.__traceback__) from None


def cause(error: Exception) -> str:
    """What PostgreSQL, or whoever stands before it, says, on one line. No such text has a statement's values in it."""
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.Error) and original.diag.message_primary:
        return f"{original.sqlstate} {original.diag.message_primary}"
    _, _, attempts = str(original).rpartition(ATTEMPTS)  # one host's failure, or those of all
    return " ".join(attempts.split()) or "no answer in time"


def _defect(error: Exception) -> str:
    original = getattr(error, "orig", error)
    if not isinstance(original, psycopg.Error):
        return type(original).__name__
    diag = original.diag
    places = filter(None, (diag.table_name, diag.column_name, diag.constraint_name))
    return " ".join([original.sqlstate or "", type(original).__name__, *places]).strip()
