"""Where jobs live: the port (:class:`Storage`) and its implementations."""

from jobify.storage.base import Storage
from jobify.storage.sqlite import SQLiteStorage

__all__ = ("SQLiteStorage", "Storage")
