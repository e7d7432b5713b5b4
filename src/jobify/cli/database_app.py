"""``--database``: an app that has a database and no code.

What a command needs beside the database it takes from the defaults of an app: times are shown in UTC, and jobs that are
cancelled or deleted here are kept as the default retention says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jobify.cli.errors import CommandError
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.app.application import Jobify
    from jobify.cli.options import Source
    from jobify.storage.sqlite import SQLiteStorage

__all__ = ("app_without_code", "database_file", "database_path")


def app_without_code(database: str) -> Jobify:
    """An app without tasks, on the file at this path or URL. CommandError if there is none, or one of something else:
    nothing is made by looking."""
    from jobify.app.application import Jobify
    from jobify.storage.sqlite import maintenance

    storage = database_file(database)
    if not maintenance.is_ours(storage.database):
        raise CommandError(f"{storage.database!r} is not a database of Jobify.", ExitCode.USAGE)
    return Jobify(storage=storage)


def database_path(source: Source) -> str:
    """The path of the database, which need not be there."""
    from jobify.cli.app_loader import load_app_or_advise
    from jobify.storage.sqlite import SQLiteStorage

    storage = _storage(source.database) if source.database else load_app_or_advise(source.app).configs.storage
    if not isinstance(storage, SQLiteStorage) or not storage.is_durable:
        raise CommandError(f"This app has no database file; its storage is {storage!r}.")
    return storage.database


def database_file(database: str) -> SQLiteStorage:
    """The storage of the file at this path or URL, whatever the file holds. CommandError if there is no file."""
    storage = _storage(database)
    if not Path(storage.database).is_file():
        raise CommandError(
            f"There is no database file {storage.database!r}, and --database makes none. Is the path right? A relative "
            "one is looked up in the current folder."
        )
    return storage


def _storage(database: str) -> SQLiteStorage:
    """The storage at a path or a URL. CommandError for one without a file."""
    from jobify.app.validation import checked_storage
    from jobify.storage.sqlite import SQLiteStorage

    storage = checked_storage(database)
    assert isinstance(storage, SQLiteStorage)
    if not storage.is_durable:
        raise CommandError(f"--database {database} names no file: that database ends with its process.", ExitCode.USAGE)
    return storage
