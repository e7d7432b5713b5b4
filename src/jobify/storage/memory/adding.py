"""How jobs begin to wait: insert, put, retry."""

from __future__ import annotations

from collections.abc import Iterator

from jobify.records import NewJob, Progress
from jobify.storage.memory import rows
from jobify.storage.memory.dependencies import Dependencies
from jobify.storage.memory.rows import RUNNING
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("Insertion", "put", "retry")


class Insertion:
    """One call of ``insert``.

    It remembers what it has added: a job that was cancelled as soon as it was added, because a parent had failed, has
    ended, and still no second one of the same call takes its id or key.
    """

    def __init__(self, table: Table, jobs: Dependencies, seqs: Iterator[int]) -> None:
        self._table = table
        self._jobs = jobs
        self._seqs = seqs
        self._ids: set[str] = set()
        self._keys: set[str | None] = set()

    def add(self, job: NewJob) -> bool:
        """Whether it was added."""
        if self._is_taken(job):
            return False
        self._ids.add(job.id)
        if job.unique_key is not None:
            self._keys.add(job.unique_key)
        self._jobs.begin(rows.new(next(self._seqs), job))
        return True

    def _is_taken(self, job: NewJob) -> bool:
        if job.id in self._ids or job.unique_key in self._keys:
            return True
        old = self._table.find(job.id)
        if old is not None and not rows.has_ended(old):
            return True
        return job.unique_key is not None and self._table.holder(job.unique_key) is not None


def put(table: Table, seqs: Iterator[int], job: NewJob, progress: Progress) -> bool:
    """Whether it stands in its place now."""
    if job.parents or job.unique_key is not None:
        raise ValueError(
            f"Job {job.id!r} cannot be put with parents or a unique key: it would have to wait. Insert it."
        )
    old = table.find(job.id)
    if old is None:
        table.keep(rows.new(next(seqs), job, progress))
    elif old.record.status == RUNNING:
        table.keep(old._replace(record=old.record._replace(has_successor=True), successor=(job, progress)))
        return False
    else:
        table.keep(rows.replaced(old, job, progress))
    return True


def retry(table: Table, id: str, now: Microseconds) -> bool:
    """Whether it waits again."""
    row = table.find(id)
    if row is None or not rows.can_be_retried(row):
        return False
    key = row.record.unique_key
    if key is not None and table.holder(key) is not None:
        return False
    table.keep(rows.retried(row, now))
    return True
