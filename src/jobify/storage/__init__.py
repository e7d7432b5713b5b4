"""Where jobs live: the port (:class:`Storage`) and its implementations.

An implementation is imported at its first use, at the latest by the app that uses it: SQLite alone is a sixth
of what ``from jobify import Jobify`` would have to read.
"""

from typing import TYPE_CHECKING, Any

from jobify.storage.base import Storage

if TYPE_CHECKING:
    from jobify.storage.postgres import PostgresStorage
    from jobify.storage.sqlite import SQLiteStorage

__all__ = ("PostgresStorage", "SQLiteStorage", "Storage")

_HOMES = {"PostgresStorage": "postgres", "SQLiteStorage": "sqlite"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("memory", "postgres", "sqlite"):
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
