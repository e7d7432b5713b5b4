"""Which jobs had begun in an owner, for a database on a server.

The table of an owner (:mod:`jobify.storage.begun`) is a file in a folder of the machine, below the one for temporary
files, that belongs to the user of the process alone. Other processes of that user find it on the same machine: those
that a supervisor has started, and what starts after a crash. To a process elsewhere, everything that the owner held
counts as begun.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from jobify.runtime.logs import get_logger
from jobify.storage.begun import BegunTable, read_begun

__all__ = ("BegunTables",)

log = get_logger("jobify.storage")

_KEPT: Final = 86_400
"""Seconds after which a table may be removed whose process is not there any more: an owner of another machine has
recovered its jobs, and could not remove it."""


class _OwnerRow(Protocol):
    """What a table is found by."""

    @property
    def host(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def lock_key(self) -> int: ...


class _Own(NamedTuple):
    table: BegunTable
    path: str


class BegunTables:
    """The tables of the owners of this process, by the keys of their locks, and those of dead ones of this machine."""

    def __init__(self) -> None:
        self._folder = os.path.join(tempfile.gettempdir(), f"jobify-{os.getuid() if hasattr(os, 'getuid') else ''}")
        self._own: dict[int, _Own] = {}

    def open(self, key: int) -> BegunTable | None:
        """The table of an owner of this process. None if the system does not give one, which is logged."""
        if key not in self._own:
            path = self._path(key, os.getpid())
            try:
                self._prepare_folder()
                self._own[key] = _Own(BegunTable(path, is_local=True), path)
            except OSError as error:
                log.info("Begun jobs are not noted (%s): if this process dies, all jobs that it holds count.", error)
                return None
        return self._own[key].table

    def close(self, key: int) -> None:
        """The owner leaves: remove its table, if it has one."""
        own = self._own.pop(key, None)
        if own is not None:
            own.table.close()
            _remove(own.path)

    def leave_behind(self) -> None:
        """Close all tables as the death of the process does: another one reads them."""
        for own in self._own.values():
            own.table.close()
        self._own.clear()

    def read(self, owner: _OwnerRow) -> list[int] | None:
        """The keys of the jobs that had begun in a dead owner; None: that cannot be known here."""
        return read_begun(self._path(owner.lock_key, owner.pid)) if owner.host == socket.gethostname() else None

    def remove(self, owner: _OwnerRow) -> None:
        """Remove the table of a dead owner, if it is here: what it held was taken."""
        if owner.host == socket.gethostname():
            _remove(self._path(owner.lock_key, owner.pid))

    def _path(self, key: int, pid: int) -> str:
        return os.path.join(self._folder, f"{key:016x}-{pid}.begun")

    def _prepare_folder(self) -> None:
        """Make the folder, or remove what is old from it. OSError if others could change what is in it."""
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
        found = os.lstat(self._folder)
        is_open = found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077 if os.name == "posix" else False
        if is_open or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(f"{self._folder!r} is not a folder of this user alone")
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            with suppress(OSError):
                if time.time() - os.lstat(path).st_mtime > _KEPT and not _is_there(name):
                    os.remove(path)


def _is_there(name: str) -> bool:
    """Whether the process may live that has made the table of this name."""
    try:
        os.kill(int(name.removesuffix(".begun").rpartition("-")[2]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):  # another user's, or no table
        pass
    return True


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)
