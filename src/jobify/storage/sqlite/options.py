"""The options of an SQLiteStorage, checked where they are written: ConfigurationError says what to write instead."""

from __future__ import annotations

import math
import os
from typing import Final

from jobify.exceptions import ConfigurationError
from jobify.model.durations import Duration, as_seconds
from jobify.runtime.folder import absolute
from jobify.storage.location import check_is_path

__all__ = ("MEMORY", "checked_mode", "checked_own_file", "checked_path", "checked_synchronous", "checked_timeout")

MEMORY: Final = ":memory:"
"""The path of a private database."""


def checked_path(database: str | os.PathLike[str]) -> str:
    """The absolute path of a database, or :data:`MEMORY`."""
    try:
        path = os.fspath(database)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigurationError(f"database is {database!r}; it must be the path of a file, or {MEMORY!r}.")
    if path == MEMORY:
        return path
    check_is_path(path)
    try:
        return absolute(path)
    except OSError as error:
        raise ConfigurationError(
            f"database is {path!r}, and the current folder, in which it would be, does not exist ({error}). Give an "
            "absolute path."
        ) from error


def checked_timeout(given: Duration) -> float:
    """Seconds to wait for a locked file."""
    timeout: float = as_seconds(given)
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 <= timeout < math.inf:
        raise ConfigurationError(f"timeout is {timeout!r}; it must be a number of seconds, zero or more.")
    return timeout


def checked_synchronous(synchronous: str) -> str:
    """One of the two words."""
    if synchronous not in ("full", "normal"):
        raise ConfigurationError(
            f'synchronous is {synchronous!r}; it must be "full" (survives a power cut) or "normal" (cheaper commits).'
        )
    return synchronous


def checked_mode(mode: int) -> int:
    """The permissions of a new file."""
    if not isinstance(mode, int) or isinstance(mode, bool) or mode & ~0o666 or mode & 0o600 != 0o600:
        shown = f"{mode:#o}" if isinstance(mode, int) else repr(mode)
        raise ConfigurationError(
            f"mode is {shown}; it must let the user read and write the file: 0o600, or 0o660 for the group, too."
        )
    return mode


def checked_own_file(own_file: bool | None) -> bool | None:
    """Whose file it is, if that is known."""
    if own_file is not None and not isinstance(own_file, bool):
        raise ConfigurationError(
            f"own_file is {own_file!r}; it must be True (no other tables), False (there will be some), or None (look)."
        )
    return own_file
