"""Who may use the database file, and what belongs to it.

A new database is made for its user alone, whatever the umask says, unless the storage was given another ``mode``. A
file that exists keeps its mode. SQLite gives ``-wal`` and ``-shm`` the mode of the database; the directory of owner
locks and its files follow it, too: users who may write the database take part, the others do not.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

__all__ = ("create_database", "folder_mode", "owner_of")


def create_database(path: str, mode: int) -> None:
    """Make an empty file with this ``mode`` at ``path``, if there is none. What cannot be made is left to SQLite to
    explain.

    The file gets its mode before it gets its name, so that there is no moment at which others can open it; and it is
    closed by then, because closing a database drops the locks that this process has on it.
    """
    if os.path.lexists(path):
        return
    draft = f"{path}-new-{os.urandom(8).hex()}"
    with suppress(OSError):
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was faster
        except OSError:  # a file system without links
            _create_in_place(path, mode)
        finally:
            os.remove(draft)


def _create_in_place(path: str, mode: int) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode))
    os.chmod(path, mode)


def folder_mode(database: str | None) -> int:
    """The mode of the directory of owner locks: for those who may write the database."""
    mode = 0o700
    found = _stat(database)
    if found is not None:
        mode |= 0o070 if found.st_mode & stat.S_IWGRP else 0
        mode |= 0o007 if found.st_mode & stat.S_IWOTH else 0
    return mode


def owner_of(database: str | None) -> int | None:
    """The id of the user who owns the database; None if there is no such file."""
    found = _stat(database)
    return None if found is None else found.st_uid


def _stat(database: str | None) -> os.stat_result | None:
    if database is None:
        return None
    try:
        return os.stat(database)
    except OSError:
        return None
