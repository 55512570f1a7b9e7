"""What callers of the storage can meet, in our words; the one seam where the drivers' errors are turned into them.

StorageError
├── StorageUnavailable   PostgreSQL cannot be reached, went away, or took too long
│   └── StorageConflict  PostgreSQL undid the transaction for the sake of another one; it can be repeated
└── StorageOverloaded    every connection of the pool stayed in use
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

CONFLICTS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class StorageError(Exception):
    pass


class StorageUnavailable(StorageError):
    pass


class StorageConflict(StorageUnavailable):
    pass


class StorageOverloaded(StorageError):
    pass


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except exc.TimeoutError as error:
        raise StorageOverloaded(str(error)) from error
    except (exc.OperationalError, exc.InterfaceError, psycopg.OperationalError, OSError) as error:
        if isinstance(getattr(error, "orig", error), CONFLICTS):
            raise StorageConflict(type(error).__name__) from error
        raise StorageUnavailable(type(error).__name__) from error
    except (exc.PendingRollbackError, exc.ResourceClosedError) as error:
        # The connection was lost in the middle of a transaction.
        raise StorageUnavailable(type(error).__name__) from error
    except exc.DBAPIError as error:
        if error.connection_invalidated:
            raise StorageUnavailable(type(error).__name__) from error
        raise
