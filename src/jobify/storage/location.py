"""Where a storage keeps its jobs, in words for people."""

from __future__ import annotations

from typing import Final

from jobify.exceptions import ConfigurationError
from jobify.storage.base import Storage

__all__ = ("check_is_path", "location_of")

_NO_PATHS: Final = ("~/", "file:", "sqlite:")


def location_of(storage: Storage) -> str:
    """The absolute path of the database; of a storage that has none, what it says of itself."""
    if storage.is_in_memory:
        return "in the memory of this process"
    database = getattr(storage, "database", None)
    return database if isinstance(database, str) else repr(storage)


def check_is_path(path: str) -> None:
    """ConfigurationError for what would be a file or a folder of this very name in the current one."""
    if path.startswith(_NO_PATHS):
        raise ConfigurationError(
            f"database is {path!r}; it must be a path, in which no ~ and no URL is read. Write Path(...).expanduser() "
            "for a ~; a URL is for Jobify(storage='sqlite:///jobs.db')."
        )
