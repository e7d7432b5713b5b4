"""The folder in which a relative path is resolved: once, where the path is written.

A child process of a pool imports the modules of its parent again, at a time when a task may have changed the current
folder. So the parent remembers the folder in which its first relative path was resolved and passes it on, and the
child resolves paths that it meets in an import there.
"""

from __future__ import annotations

import os

__all__ = ("absolute", "first_folder", "resolving_in")

_first: str | None = None
_imposed: str | None = None


def absolute(path: str) -> str:
    """``path``, independent of the current folder from now on. OSError if there is no current folder."""
    global _first
    if os.path.isabs(path):
        return _tidy(path)
    folder = os.getcwd() if _imposed is None else _imposed
    _first = folder if _first is None else _first
    return _tidy(os.path.join(folder, path))


def _tidy(path: str) -> str:
    """Normalize the path. ``..`` stays, because behind a symbolic link it leads elsewhere."""
    return path if ".." in path.split(os.sep) else os.path.normpath(path)


def first_folder() -> str | None:
    """Where the first relative path of this process was resolved; None if there was none."""
    return _first


class resolving_in:
    """Resolve relative paths in ``folder`` meanwhile; None: in the current folder."""

    __slots__ = ("_before", "_folder")

    def __init__(self, folder: str | None) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        global _imposed
        self._before, _imposed = _imposed, self._folder

    def __exit__(self, *error: object) -> None:
        global _imposed
        _imposed = self._before
