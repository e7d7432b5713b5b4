"""The write-ahead log as the file system shows it: how long it is, and whether it is still there."""

from __future__ import annotations

import os

from jobify.exceptions import StorageUnavailableError

__all__ = ("Log",)


class Log:
    """The log of the database at ``path``. It stays the same file for as long as anybody has the database open, unless
    somebody deletes both."""

    def __init__(self, path: str) -> None:
        self._database = path
        self._path = f"{path}-wal"
        self.forget()

    def forget(self) -> None:
        """The database is not open here any more."""
        self._file: int | None = None
        self._is_gone = False

    def size(self) -> int | None:
        """Its bytes; None if it is not the file that was looked at last."""
        found = self._stat()
        return None if found is None or found.st_ino != self._file else found.st_size

    def look(self) -> None:
        """Remember which file it is; or see that this is another one, or none. To be called while a connection is open
        and cannot be closed."""
        found = self._stat()
        if self._file is None:
            self._file = None if found is None else found.st_ino
        else:
            self._is_gone = found is None or found.st_ino != self._file

    def require(self) -> None:
        """StorageUnavailableError if what is written here is not in the file at ``path`` any more."""
        if self._is_gone:
            raise StorageUnavailableError(
                f"The database {self._database!r} was deleted or replaced while this process used it, and would keep "
                "nothing of this. Start the process again."
            )

    def _stat(self) -> os.stat_result | None:
        try:
            return os.stat(self._path)
        except OSError:
            return None
