"""The descriptors that SQLite has open on a database.

They are read from and locked here, never opened and never closed. (``log_room`` appends to the log.)

A process must not open the database file a second time. POSIX locks belong to the process and the file, so closing
*any* descriptor of the file drops the locks that SQLite holds through its own. Looking at the file is safe with
``stat``; reading it is safe through the descriptor that SQLite has, and the kernel lists those (``/proc/self/fd``).

**A second lock.** The same rule is a hazard when a task copies the database: the copy closes its descriptor, and from
then on other processes take the file for unused. The last of them to close it deletes the log, and what
is committed here afterwards is written into a deleted file. Linux has locks that belong to the open file instead of
the process (``F_OFD_SETLK``). :meth:`Descriptors.lock` puts one of those beside each of the two locks that SQLite holds
for as long as it is connected: the shared lock on the database, and the one on the shared memory that says that it is
in use. They are shared locks, too, so they block nothing. :meth:`Descriptors.unlock` removes them before SQLite closes
the file, because the last one to close it needs the exclusive lock to copy the log into the database. A storage that
was replaced keeps them: SQLite then cannot copy an old log over a new database.

Where the kernel has neither (other systems), nothing is borrowed and callers compare paths instead.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ("Checkpoint", "Descriptors", "FileId", "borrowed", "changes_of", "full_size")

FileId: TypeAlias = tuple[int, int]
"""Device and inode."""

_OPEN_FILES: Final = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None

_DATABASE_RANGE: Final = (0x4000_0002, 510)
"""Where SQLite locks a database, shared while it is connected (``SHARED_FIRST`` and ``SHARED_SIZE`` in os_unix.c)."""
_MEMORY_RANGE: Final = (128, 1)
"""Where it locks the shared memory, shared while it is connected (``UNIX_SHM_DMS``)."""

_SAMPLES: Final = 64
_SAMPLE: Final = 2048
"""Pages of the database that are compared, and the bytes of each."""


class Checkpoint(NamedTuple):
    """What the shared memory says of the log (``WalIndexHdr`` and ``WalCkptInfo`` in wal.c)."""

    salts: bytes
    page_size: int
    frames: int
    """Pages in the log that are in use."""
    copied: int
    """How many of them are in the database, too."""
    attempted: int
    """As many are being copied."""

    @property
    def is_under_way(self) -> bool:
        return self.attempted > self.copied

    def position(self) -> tuple[bytes, int, int]:
        """Differs before and after a checkpoint."""
        return self.salts, self.copied, self.attempted


class Descriptors:
    """What SQLite has open of one database; each is None where it cannot be found."""

    __slots__ = ("_file", "_lockable", "database", "log", "memory")

    def __init__(
        self,
        file: FileId | None = None,
        databases: Sequence[int] = (),
        log: int | None = None,
        memory: int | None = None,
    ) -> None:
        self._file = file
        self.database = databases[-1] if databases else None
        self.log = log
        self.memory = memory
        self._lockable: list[tuple[int, tuple[int, int]]] = [(number, _DATABASE_RANGE) for number in databases]
        if memory is not None:
            self._lockable.append((memory, _MEMORY_RANGE))

    # -- reading -------------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """How far the log is copied; None if it cannot be known."""
        if self.memory is None:
            return None
        try:
            data = os.pread(self.memory, 136, 0)
            page_size, frames = struct.unpack_from("=HI", data, 14)
            (copied,) = struct.unpack_from("=I", data, 96)
            (attempted,) = struct.unpack_from("=I", data, 128)
        except (OSError, struct.error):
            return None
        return Checkpoint(data[32:40], 65_536 if page_size == 1 else page_size, frames, copied, attempted)

    def log_goes_on(self) -> bool:
        """Whether the next write appends to the log. One that is copied as a whole starts again, with a flush."""
        checkpoint = self.checkpoint()
        return checkpoint is not None and checkpoint.copied < checkpoint.frames

    def is_log_whole(self) -> bool:
        """Whether the log is the one that the shared memory tells of."""
        checkpoint, number = self.checkpoint(), self.log
        try:
            return checkpoint is not None and number is not None and os.pread(number, 8, 16) == checkpoint.salts
        except OSError:
            return False

    def head(self, path: str) -> tuple[bytes, int]:
        """The head of the database file, empty if it cannot be read here; and its size."""
        with suppress(OSError):
            if self.database is not None:
                found = os.fstat(self.database)
                if (found.st_dev, found.st_ino) == self._file:
                    return os.pread(self.database, 100, 0), found.st_size
        with suppress(OSError):
            return b"", os.stat(path).st_size
        return b"", 0

    def fingerprint(self, head: bytes, size: int) -> int:
        """Of the head, and of pages from all over the database."""
        if self.database is None or not head:
            return 0
        found = zlib.crc32(head)
        step = max(_SAMPLE, size // _SAMPLES // _SAMPLE * _SAMPLE)
        with suppress(OSError):
            for start in range(0, size, step):
                found = zlib.crc32(os.pread(self.database, _SAMPLE, start), found)
        return found

    # -- locks ---------------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Hold the two locks also for the open files. Does nothing where they are held already."""
        self._apply("F_RDLCK")

    def unlock(self) -> None:
        """Leave the database to the locks of SQLite."""
        self._apply("F_UNLCK")

    def _apply(self, kind: str) -> None:
        if fcntl is None or _SET_LOCK is None:
            return
        for number, (start, length) in self._lockable:
            flock = struct.pack("hhqqi4x", getattr(fcntl, kind), os.SEEK_SET, start, length, 0)
            with suppress(OSError):  # a file system without such locks, or a descriptor that was just closed
                fcntl.fcntl(number, _SET_LOCK, flock)


def borrowed(database: FileId, log: FileId | None, memory: FileId | None) -> Descriptors:
    """The descriptors that this process has on these files."""
    found: dict[FileId, list[int]] = {}
    wanted = {database, log, memory}
    for number, file in _open_files().items():
        if file in wanted:
            found.setdefault(file, []).append(number)

    def one(file: FileId | None) -> int | None:
        numbers = found.get(file) if file is not None else None
        return numbers[-1] if numbers else None

    return Descriptors(database, found.get(database, ()), one(log), one(memory))


def _open_files() -> Mapping[int, FileId]:
    try:
        numbers = [int(name) for name in os.listdir(_OPEN_FILES)]
    except OSError:
        return {}
    files = {}
    for number in numbers:
        with suppress(OSError):  # that of the listing itself
            found = os.fstat(number)
            files[number] = (found.st_dev, found.st_ino)
    return files


def full_size(head: bytes) -> int:
    """Bytes of the database by its own head: a ``VACUUM`` makes the file no shorter than that."""
    page_size = int.from_bytes(head[16:18], "big")
    return int.from_bytes(head[28:32], "big") * (65_536 if page_size == 1 else page_size)


def changes_of(head: bytes) -> int:
    """How often a database was changed, as its head counts: other processes may count more, and never less."""
    return int.from_bytes(head[24:28], "big")
