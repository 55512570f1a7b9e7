"""A primary and its synchronous standby, which can be promoted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import psycopg

from sandbox.postgres import BIN, Postgres
from sandbox.process import Process, Workspace, stop_together
from tests.clients import eventually


class Standby(Postgres):
    """Made from its primary's data as they are when it is first started."""

    def __init__(self, workspace: Workspace, primary: Postgres) -> None:
        super().__init__(workspace)
        self._primary = primary

    def _initialise(self) -> None:
        command = [BIN / "pg_basebackup", "--dbname", self._primary.url, "--pgdata", self.data]
        backup = Process("basebackup", [*command, "--write-recovery-conf", "--checkpoint=fast"], self._workspace)
        self._give_away(self.cwd)
        backup.cwd, backup.uid, backup.gid = self.cwd, self.uid, self.gid
        backup.run()

    def promote(self) -> None:
        """Returns when it takes writes."""
        with psycopg.connect(self.url, autocommit=True) as database:
            assert database.execute("SELECT pg_promote()").fetchone() == (True,)


@contextmanager
def pair() -> Iterator[tuple[Postgres, Standby]]:
    """No commit is acknowledged that the standby does not have."""
    # Not in pytest's own temporary directory, which PostgreSQL's user must not enter when the tests run as root.
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        workspaces = [Workspace(Path(directory)) for directory in (one, other)]
        for workspace in workspaces:
            workspace.claim()
        primary = Postgres(workspaces[0])
        standby = Standby(workspaces[1], primary)
        try:
            primary.start()
            standby.start()
            with psycopg.connect(primary.url, autocommit=True) as database:
                database.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                database.execute("SELECT pg_reload_conf()")
                state = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                eventually(lambda: database.execute(state).fetchone())
            yield primary, standby
        finally:
            stop_together(standby, primary)
            for workspace in workspaces:
                workspace.release()


def socket_of(postgres: Postgres) -> str:
    return f"{directory_of(postgres)}/.s.PGSQL.5432"


def directory_of(postgres: Postgres) -> str:
    [directory] = parse_qs(urlsplit(postgres.url).query)["host"]
    return directory
