"""Table of begun jobs of an owner, in shared memory that outlives its process.

It is a file that the process has mapped into its memory. When an attempt begins, a key of its job's id is written into
a free slot; when its end is stored, the slot is cleared. Both are plain stores into memory, 0.3 µs in all, and the
kernel keeps them whatever becomes of the process. The process that finds the owner dead reads the file.

On SQLite the file lies beside the lock file of the owner. For a database on a server it lies in a
folder of the machine (``storage/postgres/begun.py``).

A key is a checksum of the id, not the id: a job may be taken for one that had begun (once in four thousand million),
and never the other way round. What cannot be known counts as begun: a file that is missing, short or not ours, and a
table that was full.

The file is allocated at once, because a store into a page for which the disk has no room would end the process. It is
not writable by its mode, so that a shell does not truncate it by mistake, which would do the same.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from array import array
from contextlib import suppress
from typing import Final
from zlib import crc32

__all__ = ("BegunTable", "key_of", "read_begun")

_MAGIC: Final = 0x6A6F6231
_SLOTS: Final = 16_384
"""More jobs than an app runs at once by default, its overdraft included."""
_HEAD: Final = 2
"""Words before the slots: the magic number, and how many jobs found no slot."""
_WORD: Final = 4
_SIZE: Final = (_HEAD + _SLOTS) * _WORD
_FULL: Final = -1


def key_of(id: str) -> int:
    """What stands for a job in a table: 32 bits, never 0, which is a free slot."""
    return crc32(id.encode("utf-8", "surrogatepass")) or 1


class BegunTable:
    """The table of an owner of this process. OSError where the system does not give one.

    ``is_local``: only processes of this machine can read it. Any thread may enter a job. Slots are given by calls that
    the interpreter makes at once (``pop``, ``next``), so that they need no lock.
    """

    def __init__(self, path: str, *, is_local: bool = False) -> None:
        self.is_local = is_local
        self._map: mmap.mmap | None = _make(path)
        self._words = memoryview(self._map).cast("I")
        self._words[0] = _MAGIC
        self._free: list[int] = []
        self._unused = iter(range(_HEAD, _HEAD + _SLOTS))
        self._overflow = threading.Lock()
        """Guards the count of the jobs that found no slot."""

    def enter(self, id: str) -> int:
        """An attempt of this job begins; the slot that it has."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = next(self._unused, _FULL)
            if slot == _FULL:
                self._count_overflow(1)
                return _FULL
        self._words[slot] = crc32(id.encode("utf-8", "surrogatepass")) or 1  # key_of(), without the call
        return slot

    def leave(self, slot: int) -> None:
        """The end of the attempt in this slot is stored."""
        if slot == _FULL:
            self._count_overflow(-1)
        else:
            self._words[slot] = 0
            self._free.append(slot)

    def _count_overflow(self, change: int) -> None:
        with self._overflow:
            self._words[1] += change

    def renew(self, path: str) -> None:
        """Go on in another file: the old one is gone. On any thread; what begins at this very moment is in both."""
        old_map, old = self._map, self._words
        new_map = _make(path)
        new = memoryview(new_map).cast("I")
        new[:] = old
        self._map, self._words = new_map, new
        if old != new:
            for slot, word in enumerate(old):
                new[slot] = new[slot] or word
        old.release()
        if old_map is not None:
            old_map.close()

    def close(self) -> None:
        """Unmap the file. What is entered from now on is not recorded."""
        shared, self._map = self._map, None
        if shared is not None:
            words, self._words = self._words, memoryview(bytearray(_SIZE)).cast("I")
            words.release()
            shared.close()


def read_begun(path: str) -> list[int] | None:
    """The keys in the table of an owner that is dead, in any order; None: it cannot be known which jobs had begun."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    try:
        data = os.read(descriptor, _SIZE + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    words = array("I", data[: len(data) - len(data) % _WORD])
    if len(data) != _SIZE or words[0] != _MAGIC or words[1]:
        return None
    return [word for word in words[_HEAD:] if word]


def _make(path: str) -> mmap.mmap:
    """A new file, in memory."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o400)
    try:
        _allocate(descriptor)
        return mmap.mmap(descriptor, _SIZE)
    except BaseException:
        with suppress(OSError):
            os.remove(path)
        raise
    finally:
        os.close(descriptor)


def _allocate(descriptor: int) -> None:
    """Give the file its length, and its blocks where the system can."""
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, _SIZE)
    else:
        os.write(descriptor, bytes(_SIZE))
