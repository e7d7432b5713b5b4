"""A copy of a database that is in use, by SQLite's online backup.

The file is there as a whole or not at all.

Copying the file by other means is no backup: what was committed last is in the log, a checkpoint may be under way, and
closing the copied file drops the locks of the process that has it open. SQLite copies one moment of the database, with
what is in the log, while others read and write.

The copy is made under another name in the folder of the destination, checked, flushed to the disk and then renamed.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing, suppress
from typing import NamedTuple
from urllib.parse import quote

from jobify.exceptions import StorageCorruptError, StorageError
from jobify.runtime.folder import absolute
from jobify.storage.sqlite.errors import explained
from jobify.storage.sqlite.layout import read_layout

__all__ = ("Backup", "back_up")


class Backup(NamedTuple):
    """What was copied."""

    path: str
    jobs: int
    size: int
    """Bytes of the copy."""


def back_up(source: str, destination: str | os.PathLike[str], *, overwrite: bool, timeout: float) -> Backup:
    """Copy the database ``source`` into a new file.

    StorageError says why there is none; nothing has changed then. ``overwrite``: also in place of a file that is
    there, unless that is a database in use. ``timeout``: seconds to wait for a database that is locked.
    """
    path = absolute(os.fspath(destination))
    _check(source, path, overwrite=overwrite)
    part = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with explained(source):
            _make(part, like=source)
            jobs = _copy(source, part, timeout)
        size = _flush(part)
        _publish(part, path, overwrite=overwrite)
    except OSError as error:
        raise StorageError(f"The backup {path!r} cannot be written: {error}. No backup was made.") from error
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.remove(part + end)
    return Backup(path, jobs, size)


def _check(source: str, path: str, *, overwrite: bool) -> None:
    if not os.path.exists(source):
        raise StorageError(f"There is no database {source!r} to back up.")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise StorageError(f"There is no folder {folder!r} for the backup. Make it first.")
    if os.path.isdir(path):
        raise StorageError(f"{path!r} is a folder. Name the file of the backup.")
    if os.path.realpath(path) in (os.path.realpath(source) + end for end in ("", "-wal", "-shm", "-journal")):
        raise StorageError(f"{path!r} is the database itself, or belongs to it. Choose another name for the backup.")
    if os.path.lexists(path):
        if not overwrite:
            raise StorageError(f"{path!r} exists, and was left as it is. Choose another name, or add --force.")
        if os.path.exists(f"{path}-wal"):
            raise StorageError(
                f"{path!r} is a database in use, or its log is still there: {path + '-wal'!r}. It was left as it is."
            )


def _make(part: str, *, like: str) -> None:
    """An empty file that the same users can read."""
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with suppress(OSError):
        os.chmod(part, os.stat(like).st_mode & 0o666)


def _copy(source: str, part: str, timeout: float) -> int:
    """Copy all pages in one step, which writers do not disturb; the number of jobs."""
    address = f"file:{quote(os.fsencode(source))}?mode=rw"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)) as database,
        closing(sqlite3.connect(part, isolation_level=None)) as copy,
    ):
        copy.execute("PRAGMA synchronous = OFF")  # it is flushed as a whole
        database.backup(copy)
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageCorruptError(source, str(verdict))
        layout = read_layout(lambda statement: copy.execute(statement).fetchone())
        return int(copy.execute(layout.statement("SELECT count(*) FROM jobs")).fetchone()[0])


def _flush(part: str) -> int:
    descriptor = os.open(part, os.O_RDWR)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _publish(part: str, path: str, *, overwrite: bool) -> None:
    """Give the copy its name, and have the folder on the disk remember it."""
    if overwrite:
        os.replace(part, path)
    else:
        try:
            os.link(part, path)  # fails if there is one by now
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.rename(part, path)
    with suppress(OSError):
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
