"""Jobs in one SQLite file, for any number of processes of one machine."""

from jobify.storage.sqlite.storage import SQLiteStorage

__all__ = ("SQLiteStorage",)
