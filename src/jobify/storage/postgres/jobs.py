"""The insert of jobs."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.model.records import NewJob
from jobify.model.status import JobStatus
from jobify.storage.postgres.database import Database

__all__ = ("Inserts",)

_COLUMNS = 19
"""Of a NewJob; its parents are no column."""
_OPTIONAL = slice(len(NewJob._fields) - len(NewJob._field_defaults), None)
_NOTHING = tuple(NewJob._field_defaults.values())
_SCHEDULED = JobStatus.SCHEDULED.value


class Inserts:
    """See :meth:`jobify.storage.base.Storage.insert`.

    The usual case is one statement. It leaves out what has a conflict; then nothing of it may stay, because jobs run in
    the order in which they stand in the call, and all of it is done again step by step.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        if not jobs:
            return []
        if not any(job.parents for job in jobs):
            with self._database.together():
                added = self._insert_free(jobs)
                if len(added) == len(jobs):
                    return [True] * len(jobs)
                self._database.run_for("undo_insert", added)
        raise NotImplementedError

    def _insert_free(self, jobs: Sequence[NewJob]) -> list[str]:
        """Insert what has no conflict; the ids."""
        columns = list(zip(*jobs, strict=True))
        is_plain = all(job[_OPTIONAL] == _NOTHING and job.ready and job.status == _SCHEDULED for job in jobs)
        if is_plain:
            chosen = [columns[index] for index in (0, 1, 2, 3, 6, 7, 8)]
            return self._database.rows_in("insert_plain", chosen)
        return self._database.rows_in("insert", columns[:_COLUMNS])
