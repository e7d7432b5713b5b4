"""The file of the write-ahead log: how long it is, and whether it is still the one that others see.

It stays the same file for as long as anybody has the database open, unless somebody deletes the database. SQLite goes
on writing then, into files that nobody can find any more; so whoever looks after the log also looks whether it is that.
"""

from __future__ import annotations

import os

from jobify.exceptions import StorageUnavailableError

__all__ = ("LogFile",)


class LogFile:
    """The log of the database at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._number: int | None = None
        self._is_gone = False

    def forget(self) -> None:
        """This process has closed the database: the next log may be another file."""
        self._number, self._is_gone = None, False

    def size(self) -> int | None:
        """Its bytes; None if it is not the file that was met, or none was: then :meth:`meet` it."""
        log = self._stat()
        return log.st_size if log is not None and log.st_ino == self._number else None

    def meet(self) -> None:
        """Remember which file it is, or that it is another one. Only while the database is open here."""
        log = self._stat()
        if self._number is None:
            self._number = None if log is None else log.st_ino
        else:
            self._is_gone = log is None or log.st_ino != self._number

    def require(self) -> None:
        """StorageUnavailableError if what is written here is not in the file at ``path`` any more."""
        if self._is_gone:
            raise StorageUnavailableError(
                f"The database {self._path!r} was deleted or replaced while this process used it, and would keep "
                "nothing of this. Start the process again."
            )

    def _stat(self) -> os.stat_result | None:
        try:
            return os.stat(f"{self._path}-wal")
        except OSError:
            return None
