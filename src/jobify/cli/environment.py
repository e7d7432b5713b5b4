"""The environment variables of the commands.

They apply where no option is given. Options are passed on through them, also to worker processes. This module imports
nothing else, because the program of a worker process (:mod:`jobify.cli.worker`) must stay small.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = (
    "APP",
    "APP_DIR",
    "DATABASE",
    "DEBUG",
    "debugging",
    "forget_one_heap",
    "request_one_heap",
    "restored_environment",
)

APP: Final = "JOBIFY_APP"
DATABASE: Final = "JOBIFY_DATABASE"
APP_DIR: Final = "JOBIFY_APP_DIR"
DEBUG: Final = "JOBIFY_DEBUG"
"""Print tracebacks of errors."""

_HEAPS: Final = "MALLOC_ARENA_MAX"
"""Read by the C library of Linux (glibc) when a program starts."""
_IS_OURS: Final = "JOBIFY_MALLOC_ARENA_MAX"
"""Set together with it, if the user has not set it."""


@contextmanager
def restored_environment() -> Iterator[None]:
    """Restore the variables that a command sets for its options."""
    before = {name: os.environ.get(name) for name in (APP, DATABASE, APP_DIR, _HEAPS, _IS_OURS)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def debugging() -> Iterator[None]:
    """Print tracebacks of errors; workers do the same, because they inherit the environment."""
    before = os.environ.get(DEBUG, "")
    os.environ[DEBUG] = "1"
    try:
        yield
    finally:
        os.environ[DEBUG] = before


def request_one_heap() -> None:
    """The programs that are started from here keep the memory of all their threads in one heap, unless the user has set
    how many there are. Each further heap would keep a few megabytes, and the interpreter lets one thread run at a time.
    """
    if _HEAPS not in os.environ:
        os.environ[_HEAPS] = os.environ[_IS_OURS] = "1"


def forget_one_heap() -> None:
    """In such a program: what its jobs start is not concerned."""
    if os.environ.pop(_IS_OURS, None):
        os.environ.pop(_HEAPS, None)
