"""What several tests share."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from jobify import Jobify
from jobify.storage import SQLiteStorage
from probes import dispatchers_of

T = TypeVar("T")

PATIENCE = 40.0
"""Seconds after which a test that waits has failed. Nothing takes as long; it is no measurement."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine in an event loop of its own; a hang is a failure that says where."""

    async def limited() -> T:
        async with asyncio.timeout(2.5 * PATIENCE):
            return await main

    return asyncio.run(limited())


async def eventually(condition: Callable[[], object], *, within: float = PATIENCE) -> None:
    """Return when ``condition`` holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.002)


def until(condition: Callable[[], T], what: str = "it", *, within: float = PATIENCE) -> T:
    """What ``condition`` says when that is true, for code that blocks."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.005)
    return found


async def a_while(seconds: float = 0.01) -> None:
    """Give what must not happen the time to happen. On a slow machine a test sees less, and never fails for that."""
    await asyncio.sleep(seconds)


async def soon(waited: Awaitable[T]) -> T:
    """What ``waited`` gives; a failure if it does not end."""
    async with asyncio.timeout(PATIENCE):
        return await waited


async def gone(pid: int) -> None:
    """Return when the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], 60)
        assert ready, "it lives on"
    finally:
        os.close(descriptor)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it ended before the file was opened, or read
        return False


def stop(pid: int) -> None:
    """Stop a child process, and wait until it has stopped: until then it may still take a request."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Some child processes do nothing meanwhile."""
    for pid in pids:
        stop(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# -- the storage of a test ---------------------------------------------------------------------------------------------

_take: Callable[[], str] | None = None
_urls: dict[Path, str] = {}


@contextmanager
def jobs_in(take: Callable[[], str]) -> Iterator[Collection[str]]:
    """In this block the jobs are in PostgreSQL: ``take`` gives the URL of a database for each directory. Those that it
    has given so far."""
    global _take  # tests call durable() without passing on where
    _take = take
    try:
        yield _urls.values()
    finally:
        _take = None
        _urls.clear()


def durable(directory: Path, *, is_new: bool = False, **options: Any) -> Any:
    """A new storage object for the jobs of this directory, as another process has it: a file there, or a database that
    belongs to it, as the fixture ``jobs_on`` says. Options are those of SQLiteStorage. ``is_new``: the storage makes
    the file and its tables."""
    if _take is None:
        path = directory / "jobs.db"
        if not is_new:
            prepare(path)
        return SQLiteStorage(path, synchronous="normal", **options)
    from jobify.storage import PostgresStorage  # imports psycopg, which few tests need

    return PostgresStorage(address(directory))


@contextmanager
def opened(storage: T) -> Iterator[T]:
    """A storage that is open in this block."""
    given: Any = storage
    given.open()
    try:
        yield storage
    finally:
        given.close()


def prepare(path: Path, **options: Any) -> None:
    """Write a file, if there is none, that holds what a storage has made of it: that takes ten times as long."""
    with suppress(FileExistsError), open(path, "xb") as file:
        file.write(_made(**options))


@cache
def _made(**options: Any) -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "jobs.db"
        storage = SQLiteStorage(path, **options)
        storage.open()
        storage.close()
        return path.read_bytes()


def address(directory: Path) -> str:
    """What a user would give to ``Jobify(storage=...)`` for the same jobs: a path or a URL."""
    if _take is None:
        return str(directory / "jobs.db")
    place = directory.resolve()
    if place not in _urls:
        _urls[place] = _take()
    return _urls[place]


def echoing(directory: Path) -> tuple[Jobify, Any]:
    """An app with a task that returns its argument, and that task."""
    app = Jobify(storage=durable(directory))

    @app.task(name="echo")
    async def echo(value: int) -> int:
        return value

    return app, echo


def storage_code(directory: Path) -> str:
    """The same in the code of a program, which has it as ``STORAGE``."""
    if _take is not None:
        return f"STORAGE = {address(directory)!r}\n"
    path = address(directory)
    return f"from jobify.storage import SQLiteStorage\nSTORAGE = SQLiteStorage({path!r}, synchronous='normal')\n"


def execute(storage: Any, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Execute a statement on the tables of a storage past the library; each ``?`` in it is one of the values. The rows
    that it returns; a statement that changes no row is a mistake."""
    if isinstance(storage, SQLiteStorage):
        with closing(sqlite3.connect(storage.database, timeout=PATIENCE)) as file, file:
            found = file.execute(statement, values)
            return found.fetchall() if found.description else _changed(found.rowcount)
    import psycopg

    with psycopg.connect(storage.url, options=f"-c search_path={storage.schema}") as server:
        asked = server.execute(statement.replace("?", "%s").encode(), values)
        return asked.fetchall() if asked.description else _changed(asked.rowcount)


def _changed(count: int) -> list[tuple[Any, ...]]:
    assert count > 0
    return []


def nudge(app: Jobify) -> None:
    """Have the app look at its clock now, and not only within the next second."""
    for dispatcher in dispatchers_of(app).values():
        dispatcher.wake()


MEASURED = {"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}
"""Variables that make every Python process measure its coverage."""


def without_coverage() -> dict[str, str]:
    """The environment of a program whose coverage is not measured."""
    return {name: value for name, value in os.environ.items() if name not in MEASURED}


def finished(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python program that has ended by itself. ``variables`` are added to its environment."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def output(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """What such a program prints, which must not fail."""
    done = finished(*arguments, cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Program:
    """A Python program of its own, in ``directory``, whose lines of output can be waited for. While its coverage is
    measured it has a handler of SIGTERM."""

    def __init__(
        self, directory: Path, code: str, *arguments: str, name: str = "program.py", is_measured: bool = True
    ) -> None:
        path = directory / name
        path.write_text(textwrap.dedent(code))
        command = [sys.executable, "-W", "error", str(path), *arguments]
        variables = dict(os.environ) if is_measured else without_coverage()
        self.process = subprocess.Popen(
            command, cwd=directory, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """The next line that it prints; empty when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def until(self, text: str) -> None:
        """Return when it has printed the line ``text``."""
        while (line := self.line()) != text:
            assert line, f"it ended without saying {text!r}: {self.process.communicate()}"

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.communicate(timeout=60)

    def finish(self) -> str:
        """What it still prints, when it has ended by itself and without an error."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out


def label(value: object) -> str:
    """What to call a test with this value: the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
