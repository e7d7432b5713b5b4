"""Room in the write-ahead log, made ahead of the commits that use it.

A commit that is flushed waits longer where it makes the log longer: the file system flushes the new length in its own
journal, too. After a checkpoint the log is written from its beginning again, over bytes that are there; but before the
first one, which many processes never reach, each commit appends. So when a commit has come to the end of the log, zeros
are appended to it, three times as many as it has bytes. SQLite takes them for the end of the log, like what an older
turn has left.

Nothing that SQLite has written can be hit: zeros are written behind the end of the file only, and under SQLite's lock
for writing, without which no process appends to the log or truncates it.

Measured on ext4, a flush of 8 KB takes 0.24 ms where the file grows, and 0.14 ms where it does not.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import Final

from jobify.storage.sqlite.file_identity import FileIdentity

__all__ = ("LogRoom",)

_LEAST: Final = 65_536
_MOST: Final = 1_048_576
"""Bytes that are appended at once."""
_ENOUGH: Final = 32_768
"""Bytes: with so many left, nothing is appended."""
_ZEROS: Final = bytes(65_536)
_LOG_HEAD: Final = 32
_FRAME_HEAD: Final = 24


class LogRoom:
    """Appends to the log of one database, up to a length of ``limit``."""

    def __init__(self, identity: FileIdentity, limit: int) -> None:
        self._identity = identity
        self._limit = limit
        self.size = 0
        """How long the log was when it was looked at: while it stays so, commits find room."""

    def make(self, writer: sqlite3.Connection) -> None:
        """Append to the log if it is used to its end. Call outside of a transaction. What fails is tried again."""
        number, size = self._identity.descriptors.log, self._identity.log_size
        if number is None or size >= self._limit or self._left(size) >= _ENOUGH:
            self.size = size
            return
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:  # another process writes
            return
        try:
            self.size = self._append(number)
        finally:
            writer.execute("ROLLBACK")

    def _append(self, number: int) -> int:
        """Append zeros, unless another process just has; how long the log is then."""
        size = os.fstat(number).st_size
        if not 0 <= self._left(size) < _ENOUGH:
            return size
        end = min(size + min(max(3 * size, _LEAST), _MOST), self._limit)
        try:
            for start in range(size, end, len(_ZEROS)):
                os.pwrite(number, _ZEROS[: end - start], start)
        except OSError:  # what room there is on the disk is for others
            with suppress(OSError):
                os.ftruncate(number, size)
            return size
        return end

    def _left(self, size: int) -> int:
        """Bytes behind the last frame of a log of this size. Without knowing, there is enough."""
        checkpoint = self._identity.descriptors.checkpoint()
        if checkpoint is None:
            return _ENOUGH
        return size - _LOG_HEAD - checkpoint.frames * (checkpoint.page_size + _FRAME_HEAD)
