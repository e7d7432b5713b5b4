"""Which files were opened, and whether they are still the ones at their paths.

A database is three files: the database itself, the write-ahead log (``-wal``) and the shared memory (``-shm``) through
which processes coordinate. SQLite keeps working on what it has opened, also after it was deleted, moved,
replaced or truncated: commits go into files that no process will find again, or a restored database gets the log of the
old one. So this module knows the files that were opened, and :class:`FileIdentity` checks them around every write and
periodically. Once a difference is seen nothing more is read or written, until the storage is opened again.

**What is compared.** Device and inode of all three. The length of the log and the shared memory, which never shrink
below what is in use. And the content of the database: it changes only when a log is copied into it (a *checkpoint*),
and the shared memory says that one was made. A database whose length or time has changed without a checkpoint, and
whose header and sampled pages differ, was overwritten in place; one that was only touched was not.

**Before a write** the files must be right, so that a process whose database was replaced harms neither the new one nor
its log. A look that is fresh (:data:`_FRESH`) is not repeated. **After a commit**, and before it is acknowledged,
:meth:`FileIdentity.after_write` asks again: what is acknowledged was in the files that are there.

**The price.** Three ``stat`` calls cost more than a commit may. A *glance* costs half of one: the time of the folder
changes whenever a file in it is created, deleted or renamed, and a log that was truncated and written again has a hole.
Two ``fstat`` calls on descriptors that are open anyway (:mod:`~jobify.storage.sqlite.descriptors`) say that nothing has
happened. If something has, in that folder perhaps to other files, a *look* compares everything. File systems keep times
with a granularity of a few milliseconds, so the time of a folder that has changed just now, as by the opening of a
database, says nothing yet: until it does, a glance asks for the three files by their paths.

**On the event loop** even a glance counts. For a millisecond after one (:data:`_GLANCE`), ``after_nonblocking`` asks
only for the time of the folder, and only if a caller relies on what was committed: nothing is acknowledged into files
that are not in their places. A log that is truncated in its place loses what was acknowledged before, despite the check
after a commit; and that the end of a job is lost is noticed a millisecond later.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from jobify.exceptions import StorageCorruptError, StorageReplacedError
from jobify.storage.sqlite.descriptors import Checkpoint, Descriptors, FileId, borrowed, changes_of, full_size
from jobify.storage.sqlite.log_length import LogLength

__all__ = ("FileIdentity", "refuse_orphaned_log")

_FRESH: Final = 0.03
"""Seconds after a look for which a write does not begin with another one; longer where a look takes long."""
_LONGEST_FRESH: Final = 0.1
_PRICE: Final = 30
"""A process that writes without a pause spends at most one part in so many of its time on looks, within that limit.
Beside a busy event loop a look takes milliseconds: after each system call its thread waits for the interpreter."""
_FRESH_FOR_READS: Final = 0.1
_GLANCE: Final = 0.001
"""The same for a glance."""
_SETTLED: Final = 20_000_000
_SETTLED_SECONDS: Final = 2_100_000_000
"""Nanoseconds after which a folder that changes again gets another time; where only full seconds are kept."""

_SHORT_LOG: Final = 16_384
_LOG_HEAD: Final = 24
"""Bytes of the log's head: kind, version, page size, sequence, and the two salts that each new beginning changes."""
_LOG_MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_FRAME_HEAD: Final = 24
_MAGIC: Final = b"SQLite format 3\0"
_SMALLEST: Final = 512
"""Bytes of the smallest database."""
_MEMORY_SIZE: Final = 32_768
"""Bytes of the shared memory at least."""


class FileIdentity:
    """The files of the database that was opened as ``given``, which is the file at ``path``.

    ``begin`` and ``connected`` learn what was opened. StorageReplacedError says that it is not there any more. If the
    log alone is missing, ``save_log`` is called first: what it held is still open here.
    """

    def __init__(self, path: str, given: str, save_log: Callable[[], None]) -> None:
        self._path = path
        self._save_log = save_log
        self._given = given
        self._paths = (given, f"{path}-wal", f"{path}-shm")
        self._lock = threading.Lock()
        self._loss: str | None = None
        self._database: FileId | None = None
        self._folder: int | None = None
        self._length = LogLength()
        self.disconnected()

    def disconnected(self) -> None:
        """Nothing is open any more. Which file the database is stays known."""
        self._log: FileId | None = None
        self._memory: FileId | None = None
        self.descriptors = Descriptors()
        self._size = self._time = self._print = self._changes = 0
        self.log_size = 0
        """Bytes of the log at the last check."""
        self._checkpoint: Checkpoint | None = None
        self._log_head = b""
        self._folder_time = 0
        self._is_settled = False
        self._looked_at = self._fresh_until = 0.0
        self._fresh_for = _FRESH
        self._length.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    # -- opening -------------------------------------------------------------------------------------------------------

    @property
    def is_known(self) -> bool:
        """Whether a database was opened."""
        return self._database is not None

    @property
    def is_lost(self) -> bool:
        """Whether it was seen that the files are not there any more."""
        return self._loss is not None

    def begin(self) -> None:
        """Remember which file the database is. A connection to it is open."""
        found = _stat(self._given)
        if found is None:
            self._lose("is gone")
        self._database = _id(found)

    def before_connecting(self) -> None:
        """The next connection would open the file at the path: it must be the one that was opened before."""
        self.require()
        if self._database is not None and _id(_stat(self._given)) != self._database:
            self._lose("was moved, deleted or replaced")

    def connected(self) -> None:
        """One more connection is open, and has read from the database."""
        with self._lock:
            database, log, memory = (_id(_stat(path)) for path in self._paths)
            self.descriptors = borrowed(self._database or (0, 0), log, memory)
            if database != self._database or log is None or memory is None:
                self._lose("was moved, deleted or replaced")
            self.descriptors.lock()
            if self._folder is None:
                with suppress(OSError):  # Windows, where an open file cannot be deleted
                    self._folder = os.open(os.path.dirname(self._path), os.O_RDONLY)
            self._length.open(self.descriptors.log)
            self._log, self._memory = log, memory
            self.log_size = 0
            self._remember(self.descriptors.checkpoint())
        self.look()

    def disconnecting(self) -> None:
        """The connections are about to be closed, by which SQLite copies the log into the database; not so if that is
        not the database it belongs to."""
        with suppress(StorageReplacedError):
            if self._log is not None:
                self.look()
        if self._loss is None:
            self.descriptors.unlock()

    # -- asking --------------------------------------------------------------------------------------------------------

    def require(self) -> None:
        """StorageReplacedError if it was seen that the files are not there any more."""
        if self._loss is not None:
            raise StorageReplacedError(self._path, self._loss)

    def before_write(self) -> None:
        """StorageReplacedError if what is written now would not be in the files at the paths."""
        now = time.monotonic()
        if now < self._fresh_until:
            return
        self.require()
        if now - self._looked_at > self._fresh_for or not self._glance():
            self.look()

    def after_write(self, *, with_size: bool = True) -> None:
        """StorageReplacedError if what was committed just now is not in the files at the paths. ``with_size``: then
        ``log_size`` is known, too."""
        if self._loss is not None or not self._glance(with_size=with_size):
            self.look()

    def after_nonblocking(self, *, is_acknowledged: bool) -> None:
        """:meth:`after_write`, on the event loop; ``is_acknowledged``: a caller relies on what was committed."""
        is_fresh = self._loss is None and time.monotonic() < self._fresh_until
        if not is_fresh or (is_acknowledged and not self._are_in_place()):
            self.after_write(with_size=False)

    def _are_in_place(self) -> bool:
        """Whether it is certain, at a small price, that the three files are in their folder. False says nothing."""
        try:
            if self._is_settled and self._folder is not None:
                return os.fstat(self._folder).st_mtime_ns == self._folder_time
            database, log, memory = map(os.stat, self._paths)
        except OSError:
            return False
        return (_id(database), _id(log), _id(memory)) == (self._database, self._log, self._memory)

    def _glance(self, *, with_size: bool = False) -> bool:
        """:meth:`_are_in_place`, and the log was not truncated: one that was, and was written again behind its old end,
        has a hole. A short one may have none."""
        number = self.descriptors.log
        if number is None or not self._are_in_place():
            return False
        is_same = False
        try:
            if with_size:
                self.log_size, is_whole = self._length.measure(number)
                is_same = is_whole and self.log_size > _SHORT_LOG
            is_same = is_same or os.pread(number, _LOG_HEAD, 0) == self._log_head
        except OSError:
            return False
        if is_same:
            self._fresh_until = min(time.monotonic() + _GLANCE, self._looked_at + self._fresh_for)
        return is_same

    def before_read(self) -> None:
        """StorageReplacedError if what is read now would not be what is in the files at the paths."""
        self.require()
        if time.monotonic() - self._looked_at > _FRESH_FOR_READS:
            self.look()

    def look(self) -> None:
        """Compare everything; StorageReplacedError says what is different."""
        self.require()
        with self._lock:
            if self._log is None:  # nothing is connected
                return
            started_at = time.monotonic()
            folder_time, now = self._time_of_folder(), time.time_ns()
            is_same_folder = self._is_settled and self._folder is not None and folder_time == self._folder_time
            self._compare_files(is_log_in_place=is_same_folder)
            self._compare_log()
            self.descriptors.lock()  # another storage of this process that was closed has taken them away
            self._folder_time = folder_time
            self._is_settled = now - folder_time > _settled(folder_time)
            self._looked_at = time.monotonic()
            self._fresh_for = min(max(_FRESH, (self._looked_at - started_at) * _PRICE), _LONGEST_FRESH)
            self._fresh_until = self._looked_at + _GLANCE

    def _compare_files(self, *, is_log_in_place: bool) -> None:
        checkpoint, log_size, number = self.descriptors.checkpoint(), self.log_size, self.descriptors.log
        database, memory = _stat(self._paths[0]), _stat(self._paths[2])
        if _id(database) != self._database or database is None:
            self._lose("is gone" if database is None else "was replaced")
        if (database.st_size, database.st_mtime_ns) != (self._size, self._time):
            self._explain()
        elif checkpoint is not None and self._is_unexplained(checkpoint):
            self._remember(checkpoint)
        if _id(memory) != self._memory or memory is None:
            self._lose("has lost its -shm file" if memory is None else "has got another -shm file")
        if memory.st_size < _MEMORY_SIZE:
            self._lose("has got a truncated -shm file")
        if is_log_in_place and number is not None:  # spares the next commit what a stat costs it, see LogLength
            self._compare_log_size(self._length.measure(number)[0], log_size)
            return
        log = _stat(self._paths[1])
        if _id(log) != self._log or log is None:
            if self.descriptors.is_log_whole():
                self._save_log()
            self._lose("has lost its -wal file" if log is None else "has got another -wal file")
        self._compare_log_size(log.st_size, log_size)

    def _is_unexplained(self, checkpoint: Checkpoint) -> bool:
        """Whether the shared memory has changed without a change of the database: a new log was begun, for example.
        This must not explain the next change of the database."""
        is_same = self._checkpoint is not None and checkpoint.position() == self._checkpoint.position()
        return not is_same and self._has_settled()

    def _has_settled(self) -> bool:
        """Whether the database would have another time if it had changed since."""
        return time.time_ns() - self._time > _settled(self._time)

    def _explain(self) -> None:
        """The database file has changed: by a checkpoint, or from outside."""
        checkpoint = self.descriptors.checkpoint()
        before = self._checkpoint
        head, size = self.descriptors.head(self._given)
        if size < _SMALLEST or head[:16] not in (_MAGIC, b""):
            self._lose("was truncated or overwritten")
        if size < self._size and size < full_size(head):
            if checkpoint is not None and checkpoint.is_under_way:
                return  # its pages are not all written yet; the next look decides
            self._lose("was truncated")
        if checkpoint is not None and before is not None and head:
            is_explained = checkpoint.is_under_way or checkpoint.position() != before.position()
            if is_explained and changes_of(head) < self._changes:
                self._lose("was overwritten by an older one")
            if not is_explained and self.descriptors.fingerprint(head, size) != self._print:
                self._lose("was overwritten")
        self._remember(checkpoint)

    def _remember(self, checkpoint: Checkpoint | None) -> None:
        """What the database is like. The checkpoint was read first: if another one is made meanwhile, the next
        difference is explained by it."""
        found = _stat(self._given)
        self._checkpoint = checkpoint
        if found is not None:
            known = self._size, self._time
            self._size, self._time = found.st_size, found.st_mtime_ns
            if self._print and known == (self._size, self._time) and self._has_settled():
                return
        head, size = self.descriptors.head(self._given)
        self._changes = changes_of(head) if head else 0
        self._print = self.descriptors.fingerprint(head, size)

    def _compare_log_size(self, size: int, before: int) -> None:
        """``before``: an earlier size. What grows is read last, because another thread may commit meanwhile."""
        if size < before:
            checkpoint, log = self.descriptors.checkpoint(), _stat(self._paths[1])
            needed = 0 if checkpoint is None else checkpoint.frames * (checkpoint.page_size + _FRAME_HEAD)
            if log is not None and log.st_size < needed:
                self._lose("has got a truncated -wal file")
        self.log_size = size

    def _compare_log(self) -> None:
        """The head of the log is one, unless nothing is in it."""
        if self.descriptors.log is None:
            return
        try:
            head = os.pread(self.descriptors.log, _LOG_HEAD, 0)
        except OSError:
            head = b""
        if head != self._log_head and head[:4] not in _LOG_MAGIC:
            checkpoint = self.descriptors.checkpoint()
            if checkpoint is not None and checkpoint.frames:
                self._refresh_borrowed(head)
        self._log_head = head

    def _refresh_borrowed(self, head: bytes) -> None:
        """The log has no head: it was truncated, or what was borrowed is another file by now."""
        assert self.descriptors.log is not None
        with suppress(OSError):
            if _id(os.fstat(self.descriptors.log)) == self._log:
                self._lose("has got a truncated -wal file")
        self.descriptors = borrowed(self._database or (0, 0), self._log, self._memory)

    def _time_of_folder(self) -> int:
        with suppress(OSError):
            return 0 if self._folder is None else os.fstat(self._folder).st_mtime_ns
        return 0

    def _lose(self, what: str) -> NoReturn:
        self._loss = what
        self._fresh_until = 0.0
        raise StorageReplacedError(self._path, what)


def refuse_orphaned_log(path: str) -> None:
    """StorageCorruptError if there is a log at ``path``, and no database to go with it. SQLite would delete the log,
    and with it all that was committed since the last checkpoint."""
    for _ in range(2):  # another process may just have made both, after the first question
        if _size_of(path) or not _size_of(f"{path}-wal"):
            return
    raise StorageCorruptError(
        path,
        f"there is nothing in it, but its log {path + '-wal'!r} is there and holds what was committed last. "
        "Nothing was touched: put the database back that belongs to the log, or delete the log",
    )


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _size_of(path: str) -> int:
    found = _stat(path)
    return 0 if found is None else found.st_size


def _id(found: os.stat_result | None) -> FileId | None:
    return None if found is None else (found.st_dev, found.st_ino)


def _settled(changed_at: int) -> int:
    """Nanoseconds after a change at this time for which another one may get the same time."""
    return _SETTLED_SECONDS if changed_at % 1_000_000_000 == 0 else _SETTLED
