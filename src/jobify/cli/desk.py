"""Where the commands ask: the storage of an app that does not run here.

Opening it makes nobody an owner and starts nothing. What changes something rings the processes that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobify.cli.errors import CommandError
from jobify.cli.locate import load_app
from jobify.exits import ExitCode

if TYPE_CHECKING:
    from jobify.app import Jobify
    from jobify.records import JobQuery, JobRecord, OwnerRecord
    from jobify.storage.base import Storage
    from jobify.types import Microseconds

__all__ = ("Desk", "open_desk")

_PAGE = 500


class Desk:
    """An app's storage, open."""

    def __init__(self, app: Jobify) -> None:
        self.app = app
        self.storage: Storage = app.configs.storage
        self.zone = app.configs.tz

    def now(self) -> Microseconds:
        """The app's clock."""
        return self.app.now()

    def delete_at(self, now: Microseconds) -> Microseconds | None:
        """When a job that is cancelled now may be deleted; None: never."""
        from jobify.status import JobStatus

        return self.app.configs.limits.retention.delete_at(JobStatus.CANCELLED, is_dead=False, now=now)

    def ring(self) -> None:
        """Tell workers that there is something to look at."""
        bell = self.storage.bell
        if bell is not None:
            bell.ring(workers=True, clients=True)

    def record(self, id: str, *, what: str = "job") -> JobRecord:
        """The row with this id; CommandError (not found) if there is none."""
        found = self.storage.get([id])
        if not found:
            raise CommandError(f"There is no {what} {id!r}.", ExitCode.NOT_FOUND)
        return found[0]

    def pages(self, query: JobQuery) -> Iterator[JobRecord]:
        """All rows that match, whatever the limit of the query says."""
        page = self.storage.find(query._replace(limit=_PAGE))
        while page:
            yield from page
            page = self.storage.find(query._replace(limit=_PAGE, after_id=page[-1].id)) if len(page) == _PAGE else []

    def workers(self) -> list[OwnerRecord]:
        """The living processes that claim jobs."""
        from jobify.records import OwnerRole

        return [owner for owner in self.storage.owners() if owner.is_alive and owner.profile.role is OwnerRole.WORKER]


@contextmanager
def open_desk(path: str | None) -> Iterator[Desk]:
    """The desk of the app at ``path``. CommandError if other processes cannot see its jobs, or there is no database
    yet."""
    desk = Desk(load_app(path))
    _check(desk.storage)
    desk.storage.open()
    try:
        yield desk
    finally:
        desk.storage.close()


def _check(storage: Storage) -> None:
    if not storage.is_shared:
        raise CommandError("This app keeps its jobs in its own memory (storage=False): nobody else can see them.")
    path = getattr(storage, "database", None)
    if isinstance(path, str | Path) and not Path(path).exists():
        raise CommandError(
            f"There is no database {str(path)!r} yet. An app or a worker makes it, or: jobify db migrate. (A relative "
            "path is looked up in the current folder.)"
        )
