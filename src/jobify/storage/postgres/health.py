"""The vital signs of a schema, for probes. Nothing is written, and nothing waits for longer than a limit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from jobify.exceptions import StorageError, StorageUnavailableError, StorageVersionError
from jobify.storage.postgres.arrays import restored_row
from jobify.storage.postgres.connection import connect
from jobify.storage.postgres.errors import explain
from jobify.storage.postgres.maintenance import database_of
from jobify.storage.postgres.owners import owner_records
from jobify.storage.postgres.schema import applied, migrations
from jobify.storage.postgres.storage import PostgresStorage
from jobify.storage.vitals import StoppedSchedule, Vitals, WaitingJob, parked_call

__all__ = ("read_vitals",)


def read_vitals(storage: PostgresStorage, *, timeout: float, queues: Sequence[str] | None = None) -> Vitals:
    """Read the vital signs. ``queues``: only jobs of these. ``timeout``: seconds for all of it, of which the connection
    takes whole ones.

    StorageError: the server cannot be reached, there is no such schema, or it is of another version; or it was not read
    in time.
    """
    deadline = time.monotonic() + timeout
    where = repr(storage.database)
    try:
        with connect(
            make_conninfo(storage.url, connect_timeout=max(2, math.ceil(timeout))),
            application_name="jobify",
            is_pooled=storage.notify == "poll",
        ) as connection:
            return _read(connection, storage, deadline, None if queues is None else list(queues))
    except psycopg.Error as error:
        if time.monotonic() > deadline or isinstance(error, psycopg.errors.QueryCanceled):
            raise StorageUnavailableError(f"The database {where} was not read within {timeout:g} seconds.") from error
        raise explain(error, where) from error


def _read(
    connection: psycopg.Connection[Any], storage: PostgresStorage, deadline: float, queues: list[str] | None
) -> Vitals:
    database = database_of(storage)

    def rows(name: str, *parameters: object) -> list[Sequence[Any]]:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        connection.execute(f"SET LOCAL statement_timeout = {left}".encode(), prepare=False)
        found = connection.execute(database.sql(name).text.encode(), parameters).fetchall()
        return [restored_row(row) for row in found]

    with connection.transaction():
        _check(applied(connection, database), storage)
        waiting = [WaitingJob._make(row) for name in ("oldest_ready", "oldest_overdue") for row in rows(name, queues)]
        return Vitals(
            read_at=rows("server_time")[0][0],
            owners=owner_records(rows("owners")),
            oldest=min(waiting, key=lambda job: job.due_at, default=None),
            stopped=[StoppedSchedule._make(row) for row in rows("stopped_schedules")],
            paused=[row[0] for row in rows("paused_queues")],
            parked=[parked_call(*row) for row in rows("parked_calls", queues)],
        )


def _check(version: int, storage: PostgresStorage) -> None:
    newest = len(migrations())
    if version == 0:
        raise StorageUnavailableError(f"There is no schema {storage.schema!r} in {storage.database!r}.")
    if version > newest:
        raise StorageVersionError(
            f"The schema {storage.schema!r} of {storage.database!r} has version {version}; this release knows "
            f"{newest}. Update Jobify."
        )
    if version < newest:
        raise StorageError(
            f"The schema {storage.schema!r} of {storage.database!r} has version {version}, and this release needs "
            f"{newest}. A worker of this release, or jobify db migrate, brings it up to date."
        )
