"""Where a storage keeps its jobs, in words for people; and how costly it is to look there."""

from __future__ import annotations

from typing import Final

from jobify.exceptions import ConfigurationError
from jobify.storage.base import Storage

__all__ = ("check_is_path", "location_of", "poll_interval")

_NO_PATHS: Final = ("~/", "file:", "sqlite:")


def location_of(storage: Storage) -> str:
    """The absolute path of the database; of a storage that has none, what it says of itself."""
    if storage.is_in_memory:
        return "in the memory of this process"
    database = getattr(storage, "database", None)
    return database if isinstance(database, str) else repr(storage)


def poll_interval(storage: Storage) -> float:
    """Seconds between two looks at what other processes do, at least. 0 where a look costs next to nothing; a storage
    on a server says otherwise by an attribute of this name."""
    return float(getattr(storage, "poll_interval", 0.0))


def check_is_path(path: str) -> None:
    """ConfigurationError for what would be a file or a folder of this very name in the current one."""
    if path.startswith(_NO_PATHS):
        raise ConfigurationError(
            f"database is {path!r}; it must be a path, in which no ~ and no URL is read. Write Path(...).expanduser() "
            "for a ~; a URL is for Jobify(storage='sqlite:///jobs.db')."
        )
