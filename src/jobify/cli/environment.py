"""The environment variables of the commands.

They apply where no option is given. Options are passed on through them, also to worker processes. This module imports
nothing else, because the program of a worker process (:mod:`jobify.cli.worker`) must stay small.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ("APP", "APP_DIR", "DATABASE", "DEBUG", "debugging", "restored_environment")

APP: Final = "JOBIFY_APP"
DATABASE: Final = "JOBIFY_DATABASE"
APP_DIR: Final = "JOBIFY_APP_DIR"
DEBUG: Final = "JOBIFY_DEBUG"
"""Print tracebacks of errors."""


@contextmanager
def restored_environment() -> Iterator[None]:
    """Restore the variables that a command sets for its options."""
    before = {name: os.environ.get(name) for name in (APP, DATABASE, APP_DIR)}
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
