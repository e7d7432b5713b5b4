"""Owner locks: one file per owner, locked by the process that owns it.

An owner must be known to be dead as soon as it is, and must never be taken for dead while it lives: its jobs would run
twice. A heartbeat can do neither; a process that is stopped, swapped out or busy for longer than its lease looks dead.
The kernel knows: it drops a file lock when the last descriptor of the opened file is closed, by whatever end the
process comes to.

**The files** are in a directory beside the database, ``<database>-owners``. Each has a name that was never used before
and will never be again, so nothing depends on who removes what when. The directory and the files are accessible only
to users who may write the database, because a process that can open a lock file can lock it.

**The order.** The lock is taken before the owner's row can be seen, and the row is gone before the file is removed.

**The check** takes a shared lock and releases it at once: several processes may check at the same time, and none of
them takes the other for the owner. ``flock`` belongs to the opened file, not to the process, so it also works
between two storages of one process.

**What is a proof.** Only the very file that the owner has locked proves something: its device and inode stand in the
owner's row. If it is locked the owner lives, if it is not the owner is dead. A file that is missing, or another one
under its name (a FIFO, a copy, a link, the file of another user), proves nothing: see ``liveness``. An owner whose file
is gone notices at its next look, and locks a new one under a new name. One that lets go of its lock without its file
leaves a file that says so, because nothing else could: its process may live on.

**A fork** copies descriptors, and a copy in a child would keep the parent's lock for as long as the child lives. The
child closes its copies, which leaves the lock with the parent. A program that is started by ``exec`` never has one:
Python opens files so that they are closed there.

**Without** ``fcntl`` (Windows) the owner keeps its file open, which there means that no process can remove it; so the
question is an attempt to remove the file, and a file that is missing is a proof.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from jobify.runtime import fork
from jobify.storage.sqlite.permissions import folder_mode, owner_of

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ("LockState", "OwnerLocks", "file_identity")

_NAME: Final = re.compile(r"[0-9]{1,20}-[0-9a-f]{16}")
_RELEASED: Final = b"released\n"
_TRIES: Final = 5
_FLAGS: Final = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
)
"""No link is followed; no FIFO and no device is waited for."""


class LockState(Enum):
    """What a lock file says of its owner."""

    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"


def file_identity(path: str) -> str | None:
    """Device and inode of the file at ``path``; None if there is none that can be seen."""
    try:
        return _identity(os.stat(path, follow_symlinks=False))
    except OSError:
        return None


class OwnerLocks:
    """The locks that this storage holds, and a view on those of others."""

    def __init__(self, directory: str, database: str | None = None) -> None:
        self._directory = directory
        self._database = database
        self._held: dict[str, int] = {}

    def hold(self) -> str:
        """Take a new lock; its name. Waits for nothing; OSError if there can be none."""
        for remaining in reversed(range(_TRIES)):
            name = f"{os.getpid()}-{os.urandom(8).hex()}"
            try:
                self._make_directory()
                descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            except FileNotFoundError:  # the directory was removed at this moment
                if not remaining:
                    raise
                continue
            try:
                self._take(descriptor)
            except BlockingIOError:  # another program was faster to lock the new file
                self._remove(name)
                os.close(descriptor)
                if not remaining:
                    raise
                continue
            self._held[name] = descriptor
            return name
        raise AssertionError("unreachable")  # pragma: no cover

    def _take(self, descriptor: int) -> None:
        if fcntl is None:
            return
        mode = folder_mode(self._database) & 0o666
        if mode != 0o600:
            os.fchmod(descriptor, mode)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _make_directory(self) -> None:
        """Make the directory, or see that it is one that only the right people can use."""
        with suppress(FileExistsError):  # not its parents: a folder that was deleted with the database stays deleted
            os.mkdir(self._directory, mode=0o700)
        if fcntl is None:
            return
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            found, mode = os.fstat(descriptor), folder_mode(self._database)
            if found.st_uid == os.geteuid():
                if stat.S_IMODE(found.st_mode) & 0o777 != mode:
                    os.fchmod(descriptor, mode | (found.st_mode & stat.S_ISGID))
            elif mode == 0o700 and found.st_uid != owner_of(self._database):
                raise PermissionError(
                    f"{self._directory!r} belongs to another user (uid {found.st_uid}), who could take this process "
                    "for dead. Remove it, or give it to the owner of the database"
                )
        finally:
            os.close(descriptor)

    def file_of(self, name: str) -> str:
        """The identity of the file of a lock that is held here."""
        return _identity(os.fstat(self._held[name]))

    def is_intact(self, name: str) -> bool:
        """Whether others find the lock that is held here under its name."""
        return fcntl is None or file_identity(self._path(name)) == self.file_of(name)

    def state(self, name: str, file: str | None) -> LockState:
        """What the lock of this name says, if it is the ``file`` of this identity (None: an older release noted none).
        Waits for nothing."""
        if not _NAME.fullmatch(name):  # a row that was written by hand: it names no file of ours
            return LockState.UNKNOWN
        if fcntl is None:
            return self._state_by_removing(name)
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | _FLAGS)
        except OSError:
            return LockState.UNKNOWN
        try:
            return _state_of(descriptor, file, self._database)
        except OSError:
            return LockState.UNKNOWN
        finally:
            os.close(descriptor)

    def _state_by_removing(self, name: str) -> LockState:
        try:
            os.remove(self._path(name))
        except FileNotFoundError:
            return LockState.FREE
        except OSError:
            return LockState.HELD
        return LockState.FREE

    # -- letting go ----------------------------------------------------------------------------------------------------

    def release(self, name: str) -> None:
        """Release a lock and remove its file; or only the file, if its process is dead."""
        descriptor = self._held.pop(name, None)
        if _NAME.fullmatch(name):
            self._remove(name)  # first: what is found unlocked has not been renewed
        if descriptor is not None:
            os.close(descriptor)
            if fcntl is None:  # pragma: no cover - Windows
                self._remove(name)

    def _remove(self, name: str) -> None:
        for path in (self._path(name), self.begun_path(name)):
            with suppress(OSError):  # another process removed it, or will; an unlocked file means the same as none
                os.remove(path)

    def begun_path(self, name: str) -> str:
        """Where the owner with this lock notes which of its jobs have begun; see ``begun``."""
        return f"{self._path(name).removesuffix('.lock')}.begun"

    def detach(self, name: str) -> Callable[[], None]:
        """Let a lock outlive this storage; what releases it, on any thread."""
        descriptor = self._held.pop(name)
        _detached.descriptors.add(descriptor)

        def release() -> None:
            if descriptor in _detached.descriptors:
                _detached.descriptors.discard(descriptor)
                self._let_go(name, descriptor)

        return release

    def release_all(self) -> None:
        """Let go of all locks as a dead process would: the files stay, and say so."""
        while self._held:
            self._let_go(*self._held.popitem())

    def _let_go(self, name: str, descriptor: int) -> None:
        path = self._path(name)
        is_intact = file_identity(path) == _identity(os.fstat(descriptor))
        os.close(descriptor)
        if not is_intact:
            with suppress(OSError):  # the death of this process proves the same
                self._make_directory()
                mark = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
                try:
                    os.write(mark, _RELEASED)
                finally:
                    os.close(mark)

    def leave_behind(self) -> None:
        """In a child process: close the copies of the parent's locks, which stay locked there."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):  # of a row that was written by hand: it leads nowhere
            name = "-"
        return os.path.join(self._directory, f"{name}.lock")


def _state_of(descriptor: int, file: str | None, database: str | None) -> LockState:
    if fcntl is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return LockState.UNKNOWN
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        is_free = False
    else:
        is_free = True
    found = os.fstat(descriptor)  # after the lock: an owner that renews its lock removes the old file first
    if found.st_nlink == 0:
        return LockState.UNKNOWN
    is_it = found.st_uid in (os.geteuid(), owner_of(database)) if file is None else _identity(found) == file
    if is_it:
        return LockState.FREE if is_free else LockState.HELD
    return LockState.FREE if is_free and os.read(descriptor, 16) == _RELEASED else LockState.UNKNOWN


def _identity(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}"


class _DetachedLocks:
    """Locks that outlive their storage. They belong to the process that took them, and not to its children."""

    def __init__(self) -> None:
        self.descriptors: set[int] = set()
        fork.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


_detached = _DetachedLocks()
