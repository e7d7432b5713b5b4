"""Checks of the arguments of an app. ConfigurationError for an invalid one."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import tzinfo
from inspect import getmro
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from jobify.config import Limits
from jobify.exceptions import ConfigurationError
from jobify.model.clock import Clock, SystemClock
from jobify.model.durations import Duration, check_duration
from jobify.model.retention import Retention
from jobify.model.zones import zone_name
from jobify.storage.base import Storage
from jobify.types import UNSET

__all__ = (
    "checked_clock",
    "checked_limits",
    "checked_renewal",
    "checked_retention",
    "checked_storage",
    "checked_zone",
    "memory_storage",
)

_POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")

_LEAST_MEMORY: Final = 1024 * 1024
"""A smaller limit must be a mistake of the unit: an interpreter alone has ten times as much."""


def checked_zone(tz: Any) -> tzinfo:
    """The zone, UTC by default. It must have a name, because rules are stored with it."""
    zone: tzinfo = ZoneInfo("UTC") if tz is None else tz
    zone_name(zone)
    return zone


def checked_storage(storage: Any) -> Storage:
    """The storage: the given one, one in memory, or the default SQLite file."""
    if storage is False:
        return memory_storage()
    if storage is UNSET or storage is None:
        return _sqlite_storage()
    if isinstance(storage, str) and storage.startswith(_POSTGRES_SCHEMES):
        return _postgres_storage(storage)
    if isinstance(storage, str | os.PathLike):
        return _sqlite_storage(_path_of(storage))
    if not _is_storage(storage):
        raise ConfigurationError(
            f"storage is {storage!r}; it must be a Storage, or False for memory only, or the path of a database file, "
            "or a URL such as sqlite:///jobs.db or postgresql://user@host/database."
        )
    return cast("Storage", storage)


def _sqlite_storage(*path: str | os.PathLike[str]) -> Storage:
    from jobify.storage.sqlite import SQLiteStorage  # when an app is made: see jobify.storage

    return SQLiteStorage(*path)


def _postgres_storage(url: str) -> Storage:
    try:
        from jobify.storage.postgres import PostgresStorage
    except ImportError as error:
        raise ConfigurationError(
            f"A storage on PostgreSQL needs psycopg, which cannot be imported ({error}). "
            "Install it with: pip install 'jobify[postgres]'"
        ) from error
    return PostgresStorage(url)


def memory_storage() -> Storage:
    """A storage that ends with the app."""
    from jobify.storage.memory import MemoryStorage

    return MemoryStorage(keeps_arguments=False)


def _is_storage(storage: Any) -> bool:
    """Whether ``value`` has all members of the port, also if it delegates them to another storage.

    (Since Python 3.12 ``isinstance`` sees only what the class defines.)
    """
    names = {name for part in getmro(Storage) if part.__module__.startswith("jobify.") for name in _members(part)}
    return not isinstance(storage, type) and all(hasattr(storage, name) for name in names)


def _members(protocol: type) -> list[str]:
    return [name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")]


def _path_of(storage: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The path of the database, given as a path or a URL.

    ``sqlite:///jobs.db`` is relative, ``sqlite:////var/lib/jobs.db`` absolute, as with SQLAlchemy.
    """
    if storage == "memory":
        raise ConfigurationError("storage is 'memory', which names a file. Write storage=False for memory only.")
    scheme, separator, rest = str(storage).partition("://")
    if not separator:
        return storage
    if scheme != "sqlite":
        raise ConfigurationError(
            f"storage has the scheme {scheme!r}, which is unknown; write sqlite:///jobs.db or "
            "postgresql://user@host/database."
        )
    if not rest.startswith("/") or len(rest) < 2 or "?" in rest:
        raise ConfigurationError(
            f"storage is {storage!r}; write sqlite:///jobs.db for a file in the current directory, and "
            "sqlite:////var/lib/jobs.db for another one. Options are arguments of SQLiteStorage."
        )
    from urllib.parse import unquote  # only for those who write a URL

    return unquote(rest[1:])


def checked_retention(retention: Any, result_ttl: Duration | None) -> Retention:
    """How long ended jobs are kept."""
    if retention is not None and not isinstance(retention, Retention):
        raise ConfigurationError(f"retention is {retention!r}; it must be a Retention, as in Retention(failed=3600).")
    if retention is not None and result_ttl is not None:
        raise ConfigurationError(
            "result_ttl and retention both say how long successes are kept. Write Retention(complete=...) only."
        )
    if result_ttl is not None:
        return Retention(complete=check_duration(result_ttl, what="result_ttl"))
    return Retention() if retention is None else retention


def checked_limits(concurrency: int, grace: Duration | None, max_crashes: int, retention: Retention) -> Limits:
    """The limits of the app as one value."""
    for name, value in (("concurrency", concurrency), ("max_crashes", max_crashes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} is {value!r}; it must be a whole number of at least 1.")
    return Limits(
        concurrency=concurrency,
        grace=None if grace is None else check_duration(grace, what="grace"),
        retention=retention,
        max_crashes=max_crashes,
    )


def checked_renewal(limits: Limits, max_tasks: int | None, max_memory: int | None, executor: object) -> Limits:
    """``limits`` with those at which child processes are replaced."""
    given: dict[str, Any] = {"max_tasks_per_child": max_tasks, "max_memory_per_child": max_memory}
    for name, least in (("max_tasks_per_child", 1), ("max_memory_per_child", _LEAST_MEMORY)):
        value = given[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            unit = "of tasks, at least 1" if least == 1 else "of bytes, at least 1048576 (1 MiB)"
            raise ConfigurationError(f"{name} is {value!r}; it must be a whole number {unit}.")
        if executor is not None:
            raise ConfigurationError(
                f"{name} is for child processes of the app's own. A processpool_executor decides itself: "
                "ProcessPoolExecutor(max_tasks_per_child=...)."
            )
    return replace(limits, **given)


def checked_clock(clock: Any, storage: Storage) -> Clock:
    """The clock: by default that of the storage, if it is on a server, and else that of the machine."""
    if clock is None:
        return SystemClock() if storage.clock is None else storage.clock
    if isinstance(clock, type) or not (callable(getattr(clock, "now", None)) and hasattr(clock, "monotonic")):
        raise ConfigurationError(
            f"clock is {clock!r}; it must be an object with now() and monotonic(), such as SystemClock()."
        )
    checked: Clock = clock
    return checked
