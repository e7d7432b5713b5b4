"""Who is alive: one file per owner, locked by the process that owns it.

An owner must be known to be dead as soon as it is, and must never be thought dead while it lives: its jobs would run
twice. A heartbeat can do neither; a process that is stopped, swapped out or busy for longer than its lease looks dead.
The kernel knows: it drops a file lock when the last descriptor of the opened file is closed, by whatever end the
process comes to.

**The files** are in a directory beside the database, ``<database>-owners``. Each has a name that was never used before
and will never be again, so nothing depends on who removes what when.

**The order.** The lock is taken before the owner's row can be seen, and the row is gone before the file is removed. So
whoever sees a row and finds no file, or a file that is not locked, sees a dead owner.

**The question** is asked with a shared lock that is given back at once: several processes may ask at the same time, and
none of them takes the other for the owner. ``flock`` belongs to the opened file, not to the process, so it also works
between two storages of one process.

**A fork** copies descriptors, and a copy in a child would keep the parent's lock for as long as the child lives. The
child closes its copies (:meth:`OwnerLocks.leave_behind`, called by a fork hook), which leaves the lock with the parent.
A program that is started by ``exec`` never has one: Python opens files so that they are closed there.

**Without** ``fcntl`` (Windows) the owner keeps its file open, which there means that nobody can remove it; so the
question is an attempt to remove the file.
"""

from __future__ import annotations

import os
from contextlib import suppress

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ("OwnerLocks",)


class OwnerLocks:
    """The locks that this storage holds, and a view on those of others."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def hold(self) -> str:
        """Take a new lock; its name."""
        os.makedirs(self._directory, exist_ok=True)
        name = f"{os.getpid()}-{os.urandom(8).hex()}"
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._held[name] = descriptor
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # nobody else knows the name: there is nothing to wait for
        return name

    def is_held(self, name: str) -> bool:
        """Whether the process that took the lock still lives. If that cannot be found out, it does."""
        if fcntl is None:
            return self._is_held_open(name)
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _is_held_open(self, name: str) -> bool:
        try:
            os.remove(self._path(name))
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def release(self, name: str) -> None:
        """Give back a lock and remove its file; or only the file, if its process is dead."""
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
        with suppress(OSError):  # somebody else removed it, or will; an unlocked file means the same as none
            os.remove(self._path(name))

    def leave_behind(self) -> None:
        """Let go of all locks as a dead process would: the files stay, and say so."""
        while self._held:
            _, descriptor = self._held.popitem()
            os.close(descriptor)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, f"{name}.lock")
