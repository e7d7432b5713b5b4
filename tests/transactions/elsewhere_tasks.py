"""What a child process imports."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from jobify import current_job
from jobify.exceptions import ConfigurationError


def pay_in_child(path: str) -> str:
    """Try to complete a job from a child process; the error."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            current_job.transaction(connection)
        except ConfigurationError as error:
            return str(error)
    return "no error"
