"""Where jobs live: the port (:class:`Storage`) and its implementations.

An implementation is imported at its first use, at the latest by the app that uses it: SQLite alone is a sixth
of what ``from jobify import Jobify`` would have to read.
"""

from typing import TYPE_CHECKING, Any

from jobify.storage.base import Storage

if TYPE_CHECKING:
    from jobify.storage.sqlite import SQLiteStorage

__all__ = ("SQLiteStorage", "Storage")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in ("SQLiteStorage", "memory", "sqlite"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name != "SQLiteStorage":
        return import_module(f"{__name__}.{name}")
    globals()[name] = value = import_module(f"{__name__}.sqlite").SQLiteStorage
    return value
