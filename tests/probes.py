"""Where tests reach into what is private: each such place has one name, and stands here."""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Connection
from typing import Any, TypeVar

from jobify import Jobify
from jobify.storage import SQLiteStorage

S = TypeVar("S")

# -- an app that runs --------------------------------------------------------------------------------------------------


def engine_of(app: Jobify) -> Any:
    """What runs the jobs of an app; only while the app runs."""
    assert app._engine is not None, "this app does not run"
    return app._engine


def is_draining(app: Jobify) -> bool:
    """Whether the app has begun to stop, and starts no more jobs."""
    return bool(engine_of(app)._enqueuer.is_draining)


def backends_of(app: Jobify) -> list[Any]:
    """The storages that the engine has opened, each with its gateway."""
    return engine_of(app)._opened


def services_of(app: Jobify) -> list[Any]:
    """The background services of the engine."""
    return engine_of(app)._services


def service_of(app: Jobify, kind: type[S]) -> S:
    """The only service of this kind."""
    (service,) = (service for service in services_of(app) if isinstance(service, kind))
    return service


def events_of(app: Jobify) -> Any:
    """Where the parts of the engine tell each other of changes."""
    return engine_of(app)._events


def dispatchers_of(app: Jobify) -> dict[Any, Any]:
    """What claims jobs, for each storage."""
    return engine_of(app).dispatchers


def timekeepers_of(app: Jobify) -> dict[Any, Any]:
    """What watches the clock, for each storage."""
    return engine_of(app).timekeepers


def attempts_of(app: Jobify) -> Any:
    """The attempts that run."""
    return engine_of(app)._attempts


def slots_of(app: Jobify) -> Any:
    """The slots for jobs, for each run mode."""
    return engine_of(app)._pools


def runners_of(app: Jobify) -> dict[Any, Any]:
    """What carries jobs, for each run mode."""
    return engine_of(app)._runners


def rules_of(app: Jobify) -> Any:
    """The cron rules that the engine has read."""
    return engine_of(app)._rules


def codec_of(app: Jobify) -> Any:
    """What encodes arguments and results."""
    return app._codec


# -- an app as a client ------------------------------------------------------------------------------------------------


def client_of(app: Jobify) -> Any:
    """What enqueues and waits where the app does not run."""
    return app._client


def connection_of(app: Jobify) -> Any:
    """How a client reaches its storage."""
    return client_of(app)._connection


def shared_of(app: Jobify) -> Any:
    """The storage of a client, as it shares it with other users in the process."""
    return connection_of(app)._state.shared


def record_of(app: Jobify, id: str) -> Any:
    """The stored row of a job."""
    return client_of(app).operations.reader.record(id)


def waiters_of(app: Jobify) -> Any:
    """What waits in a client for the end of jobs."""
    return client_of(app)._threads.listener._waiters


# -- a database --------------------------------------------------------------------------------------------------------


def database_of(storage: Any) -> Any:
    """The connections of a storage to its file."""
    return storage._database


def writer_of(storage: SQLiteStorage) -> Connection:
    """The connection that writes."""
    writer = database_of(storage).connections.writer
    assert writer is not None
    return writer


def reader_of(storage: SQLiteStorage) -> Connection:
    """The connection that reads."""
    reader = database_of(storage).connections.reader
    assert reader is not None
    return reader


def owner_rows(storage: SQLiteStorage) -> list[Any]:
    """The stored rows of the processes that have registered."""
    return storage._owners._rows()


def watch_locks_by(storage: SQLiteStorage, clock: Callable[[], float]) -> None:
    """Let ``clock`` say for how long the lock of another process has been watched."""
    storage._owners._liveness._elapsed = clock


def watched_locks(storage: SQLiteStorage) -> Any:
    """The locks of other processes that are being watched."""
    return storage._owners._liveness._watched


# -- child processes ---------------------------------------------------------------------------------------------------


def pool_of(runner: Any) -> Any:
    """The pool of a process runner; only while the runner is open."""
    assert runner._pool is not None, "this runner is not open"
    return runner._pool


def children_of(runner: Any) -> Any:
    """The child processes of a process runner."""
    return pool_of(runner)._children
