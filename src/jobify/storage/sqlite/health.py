"""The vital signs of a database: which processes live, what waits for too long, which schedules have stopped.

Made for probes, which run every few seconds and must not disturb. Nothing is written: the file is opened read-only, and
one that no process has open without making its companions ``-wal`` and ``-shm`` (SQLite would make them for a reader).
Nothing waits for longer than a limit: neither for a lock nor for a statement that has much to read.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import quote

from jobify.exceptions import StorageError, StorageUnavailableError, StorageVersionError
from jobify.storage.sqlite.errors import explain
from jobify.storage.sqlite.layout import Layout, read_layout
from jobify.storage.sqlite.liveness import Liveness
from jobify.storage.sqlite.locks import OwnerLocks
from jobify.storage.sqlite.owners import owners_in
from jobify.storage.sqlite.schema import migrations
from jobify.storage.sqlite.statements import decode_rows, sql
from jobify.storage.vitals import StoppedSchedule, Vitals, WaitingJob, parked_call
from jobify.types import Microseconds

__all__ = ("read_vitals",)

_STEPS: Final = 2000
"""Steps of SQLite's machine between two readings of the clock."""


def read_vitals(path: str, *, now: Microseconds, timeout: float, queues: Sequence[str] | None = None) -> Vitals:
    """Read the vital signs. ``queues``: only jobs of these. ``timeout``: seconds for all of it.

    StorageError: there is no such file, it is not a database of this package, or of another version; it is damaged, or
    was not read in time.
    """
    if not os.path.isfile(path):
        raise StorageUnavailableError(f"There is no database file {path!r}.")
    if os.path.exists(f"{path}-wal"):
        return _read(path, "mode=ro", now=now, timeout=timeout, queues=queues)
    try:  # no process has it open, so that nothing changes in it
        return _read(path, "mode=ro&immutable=1", now=now, timeout=timeout, queues=queues)
    except StorageError:
        if not os.path.exists(f"{path}-wal"):
            raise
    return _read(path, "mode=ro", now=now, timeout=timeout, queues=queues)  # a process has opened it just then


def _read(path: str, mode: str, *, now: Microseconds, timeout: float, queues: Sequence[str] | None) -> Vitals:
    chosen = None if queues is None else json.dumps(list(queues))
    with _connection(path, mode, timeout) as connection:
        layout = read_layout(lambda statement: connection.execute(statement).fetchone())
        _check(layout, path)

        def row(name: str, *parameters: Any) -> Any:
            return connection.execute(layout.statement(sql(name)), parameters).fetchone()

        ready = row("oldest_ready", chosen, chosen)
        overdue = row("oldest_overdue", now, chosen, chosen)
        owners = row("owners")[0]
        (stopped,) = row("stopped_schedules")
        (parked,) = row("parked_calls", chosen, chosen)
        (paused,) = row("paused_queues")
    liveness = Liveness(OwnerLocks(f"{path}-owners", path), path)
    waiting = [WaitingJob._make(row) for row in (ready, overdue) if row is not None]
    return Vitals(
        read_at=now,
        owners=owners_in(owners, liveness.is_alive),
        oldest=min(waiting, key=lambda job: job.due_at, default=None),
        stopped=[StoppedSchedule._make(row) for row in decode_rows(stopped)],
        paused=decode_rows(paused),
        parked=[parked_call(*row) for row in decode_rows(parked)],
    )


@contextmanager
def _connection(path: str, mode: str, timeout: float) -> Iterator[sqlite3.Connection]:
    deadline = time.monotonic() + timeout
    try:
        address = f"file:{quote(os.fsencode(path))}?{mode}"
        with closing(sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            connection.text_factory = lambda text: text.decode("utf-8", errors="replace")
            yield connection
    except sqlite3.Error as error:
        if time.monotonic() > deadline:
            raise StorageUnavailableError(f"The database {path!r} was not read within {timeout:g} seconds.") from error
        raise explain(error, path) from error


def _check(layout: Layout, path: str) -> None:
    version, newest = layout.version, len(migrations())
    if not layout.is_ours:
        raise StorageError(f"{path!r} is not a database of Jobify.")
    if version > newest:
        raise StorageVersionError(
            f"The database {path!r} has schema version {version}; this release knows {newest}. Update Jobify."
        )
    if version < newest:
        raise StorageError(
            f"The database {path!r} has schema version {version}, and this release needs {newest}. A worker of this "
            "release, or jobify db migrate, brings it up to date."
        )
