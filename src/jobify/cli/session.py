"""Where the commands ask: an app that does not run here, and what any process may ask of it.

Opening it makes nobody an owner and starts nothing. What changes something rings the processes that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobify.cli.app_loader import load_app_or_advise
from jobify.cli.errors import CommandError
from jobify.cli.output import print_note

if TYPE_CHECKING:
    from jobify.app.application import Jobify
    from jobify.client.admin import Admin
    from jobify.client.job_operations import JobOperations as Handles
    from jobify.client.queries import Queries
    from jobify.storage.base import Storage

__all__ = ("Session", "open_session")


class Session(NamedTuple):
    """An app, and the parts of its client: for tables, which show rows, and for orders about many jobs."""

    app: Jobify
    queries: Queries
    admin: Admin
    operations: Handles
    database: str
    """Where the jobs are: an absolute path, or what the storage says of itself."""


@contextmanager
def open_session(name: str | None, database: str | None = None, *, may_be_missing: bool = False) -> Iterator[Session]:
    """Open the app called ``name``, or a ``database`` without its app.

    CommandError if other processes cannot see its jobs, or if there is no database yet. If the database of an app
    ``may_be_missing`` (its folder may not), a note says so and the session has no jobs: reading creates no file.
    """
    from jobify.cli.database_app import app_without_code
    from jobify.client.producer import client_of
    from jobify.storage.location import location_of

    app = app_without_code(database) if database else load_app_or_advise(name)
    storage = app.configs.storage
    if not storage.is_shared:
        raise CommandError("This app keeps its jobs in its own memory (storage=False): nobody else can see them.")
    path = getattr(storage, "database", None)
    if isinstance(path, str | Path) and not Path(path).exists():
        missing = _missing_database(path)
        if not (may_be_missing and Path(path).parent.is_dir()):
            raise CommandError(missing)
        print_note(missing)
        app.configs.storage = _empty_storage()
    client = client_of(app)
    try:
        yield Session(app, client.queries, client.admin, client.operations, location_of(storage))
    finally:
        app.close()


def _missing_database(path: str | Path) -> str:
    return (
        f"There is no database {str(path)!r} yet. An app or a worker makes it, or: jobify db migrate. (A relative path "
        "is looked up in the current folder.)"
    )


def _empty_storage() -> Storage:
    from jobify.storage.memory import MemoryStorage

    return MemoryStorage()
