"""Jobs that depend on others, as they are added. What the ends of those others do is in ``cascades``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jobify.exceptions import UnknownDependencyError
from jobify.records import NewJob
from jobify.status import ENDED, JobStatus
from jobify.storage.reasons import dependency_ended
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import rows_of_ids, write_ids
from jobify.storage.sqlite.statements import chunks, row_values, sql
from jobify.types import Microseconds

__all__ = ("Standing", "connect", "standings")

_SUCCESS = JobStatus.SUCCESS.value
_FAILED = frozenset(status.value for status in ENDED) - {_SUCCESS}


class Standing(NamedTuple):
    """What became of a job that others want to depend on."""

    status: str
    error: str | None
    delete_at: Microseconds | None
    is_schedule: bool = False


def standings(database: Database, jobs: Sequence[NewJob]) -> dict[str, Standing]:
    """How the parents of these jobs stand, those that exist."""
    parents = list(dict.fromkeys(parent for job in jobs for parent in job.parents))
    return {id: Standing._make(standing) for id, *standing in rows_of_ids(database, "standings", parents)}


def connect(database: Database, jobs: Sequence[NewJob], known: dict[str, Standing]) -> None:
    """Let these jobs, which have just been added, wait for their parents; ``known`` says how those stood before.

    In the order of the jobs, because one may depend on those before it, be they new under an old id.
    """
    links = _Links()
    for job in jobs:
        known[job.id] = links.add(job, known)
    links.write(database)


class _Links:
    """What is to be written for jobs with parents; collected first, so that it is a few statements for any number."""

    def __init__(self) -> None:
        self._dependencies: list[tuple[Any, ...]] = []
        self._blockers: list[tuple[Any, ...]] = []
        self._cancelled: list[tuple[Any, ...]] = []
        self._parents: dict[str, None] = {}

    def add(self, job: NewJob, known: dict[str, Standing]) -> Standing:
        """One more job; how it stands."""
        parents = {id: _known(job, id, known) for id in job.parents}
        failed = [(id, parent) for id, parent in parents.items() if parent.status in _FAILED]
        opened = {} if failed else {id: None for id, parent in parents.items() if parent.status != _SUCCESS}
        self._dependencies += [(id, job.id, 1 if id in opened else 0) for id in parents]
        self._parents.update(opened)
        if opened:
            self._blockers.append((job.id, len(opened)))
        if not failed:
            return Standing(job.status, None, None, job.rule is not None)
        id, parent = failed[0]
        reason = dependency_ended(id, parent.status, parent.error)
        self._cancelled.append((job.id, reason, job.created_at, "" if parent.delete_at is None else parent.delete_at))
        return Standing(JobStatus.CANCELLED.value, reason, parent.delete_at)

    def write(self, database: Database) -> None:
        for statement, lines in (
            ("depend", self._dependencies),
            ("block", self._blockers),
            ("cancel_dependents", self._cancelled),
        ):
            for some in chunks(lines):
                rows, values = row_values(some)
                database.write(sql(statement, rows=rows), values)
        write_ids(database, "mark_parents", list(self._parents))


def _known(job: NewJob, parent: str, known: dict[str, Standing]) -> Standing:
    standing = known.get(parent)
    if standing is None or parent == job.id:
        raise UnknownDependencyError(job.id, parent)
    if standing.is_schedule:
        raise UnknownDependencyError(job.id, parent, "which is a schedule and has no end")
    return standing
