"""Where a storage keeps its jobs, in words for people."""

from __future__ import annotations

from jobify.storage.base import Storage

__all__ = ("location_of",)


def location_of(storage: Storage) -> str:
    """The absolute path of the database; of a storage that has none, what it says of itself."""
    if storage.is_in_memory:
        return "in the memory of this process"
    database = getattr(storage, "database", None)
    return database if isinstance(database, str) else repr(storage)
