"""Jobs: insert, replace, purge; lines of history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

import psycopg

from jobify.model.records import AttemptRecord, NewJob, Progress
from jobify.model.status import JobStatus
from jobify.storage.merging import require_free_key, require_own_key
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.doubt import Doubt
from jobify.storage.postgres.errors import TransactionConflictError
from jobify.storage.postgres.writing import WritingStatements
from jobify.storage.sql.dependencies import add_edges, forget_parents, parent_states
from jobify.storage.sql.jobs import successor_row
from jobify.storage.sql.needs import make_room, set_aside_needed
from jobify.types import Microseconds

__all__ = ("Jobs", "TakenError", "insert_free", "insert_rows", "insert_with_parents", "replace_row")

_COLUMNS = 19
"""Of a NewJob; its parents are no column."""
_OWNER = NewJob._fields.index("owner")
_OPTIONAL = slice(len(NewJob._fields) - len(NewJob._field_defaults), None)
_NOTHING = tuple(NewJob._field_defaults.values())
_PURGED = 1000
"""Jobs that one transaction of ``purge`` deletes at most."""
_MANY = 32
"""So many jobs are inserted with a statement that fails at a conflict."""
_MANY_IN_A_BLOCK = 256
"""The same inside a block, where that statement needs a savepoint: two round trips more."""
_SCHEDULED = JobStatus.SCHEDULED.value


class TakenError(Exception):
    """Another process has taken an id or a unique key that was free."""


class Jobs:
    """Writing calls of :class:`jobify.storage.base.Storage`; others are in :mod:`jobify.storage.sql.jobs`.

    The usual insert is one statement. It leaves out what has a conflict. Then nothing of it may stay, because jobs run
    in the order in which they stand in the call: all of it is done again, after ended jobs have made room. Many plain
    jobs at once, whose ids are new nearly always, are inserted by a statement that fails at the first conflict: that
    costs the server a third less for each job than to look for a conflict first.
    """

    def __init__(self, database: Database, doubt: Doubt) -> None:
        self._database = database
        self._doubt = doubt

    # -- insert --------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        if not jobs:
            return []
        for job in jobs:
            if job.owner is not None:
                with self._doubt.of(job.owner, [job.id for job in jobs if job.owner is not None]):
                    return self._insert_each(jobs)
        return self._insert_each(jobs)

    def _insert_each(self, jobs: Sequence[NewJob]) -> list[bool]:
        for job in jobs:  # not any(): a generator costs this hot path more than the comparison
            if job.parents:
                self._wait_for_keys([job for job in jobs if job.unique_key is not None])
                return self._insert_slowly(jobs, insert_with_parents)
        if len(jobs) == 1:  # one statement, which has nothing to undo
            if insert_rows(self._database, jobs):
                return [True]
        elif self._insert_all(jobs):
            return [True] * len(jobs)
        return self._insert_slowly(jobs, insert_free)

    def _insert_slowly(
        self, jobs: Sequence[NewJob], insert: Callable[[WritingStatements, Sequence[NewJob]], list[bool]]
    ) -> list[bool]:
        """Insert with more than one statement; again if what it has found free is taken meanwhile."""
        while True:
            with suppress(TakenError), self._database.atomic():
                return insert(self._database, jobs)

    def _wait_for_keys(self, jobs: Sequence[NewJob]) -> None:
        """Wait for open transactions that hold the unique keys of these jobs, because nothing must wait that holds the
        lock of ``atomic``."""
        if jobs:
            with self._database.together():
                self._database.run_for("undo_insert", insert_rows(self._database, jobs))

    def _insert_all(self, jobs: Sequence[NewJob]) -> bool:
        """Insert all of them, or none."""
        if len(jobs) >= (_MANY_IN_A_BLOCK if self._database.is_in_block else _MANY) and _are_plain(jobs):
            return self._insert_or_fail(jobs)
        if self._database.is_in_block:
            return self._undone_unless_all(jobs)
        with self._database.together():
            return self._undone_unless_all(jobs)

    def _undone_unless_all(self, jobs: Sequence[NewJob]) -> bool:
        added = insert_rows(self._database, jobs)
        if len(added) < len(jobs):
            self._database.run_for("undo_insert", added)
        return len(added) == len(jobs)

    def _insert_or_fail(self, jobs: Sequence[NewJob]) -> bool:
        """:meth:`_insert_all` for jobs with nothing but their arguments."""
        columns = list(zip(*jobs, strict=True))
        name, parameters = "insert_new", [*columns[:4], *columns[6:9]]
        if all(column.count(column[0]) == len(jobs) for column in parameters[1:6]):
            name, parameters[1:6] = "insert_alike", [column[0] for column in parameters[1:6]]
        try:
            with self._database.savepoint() if self._database.is_in_block else nullcontext():
                self._database.run(name, *parameters)
        except TransactionConflictError as error:
            if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                return False
            raise
        return True

    # -- replace -------------------------------------------------------------------------------------------------------

    def replace(self, job: NewJob, progress: Progress | None) -> bool:
        with self._database.atomic():
            return replace_row(self._database, job, progress)

    # -- history, purge ------------------------------------------------------------------------------------------------

    def add_history(self, lines: Sequence[AttemptRecord]) -> None:
        self._database.run_rows("add_history", lines)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        if not self._database.rows("purgeable", now, 1):  # without a lock
            return 0
        deleted = 0
        while deleted < limit:
            with self._database.atomic():  # each time: others write in between
                purged = self._purge_some(now, limit - deleted)
            if purged is None:
                break
            deleted += purged
        return deleted

    def _purge_some(self, now: Microseconds, limit: int) -> int | None:
        """Delete jobs that may be deleted, and keep those for now that others need; None: there are neither.

        What was kept for the sake of one that is deleted here is found the next time.
        """
        found = self._database.rows("purgeable", now, min(limit, _PURGED))
        wanted = {id: child for _, id, child in found if child is not None}
        self._database.run_for("keep_for_child", list(wanted))
        heirs = list(wanted.values())
        self._database.run_for("mark_children_of_kept", heirs)
        self._database.run_for("mark_causes_of_kept", heirs)
        purged = self._database.run_for("purge", [seq for seq, _, child in found if child is None], now)
        return purged if found else None


def _are_plain(jobs: Sequence[NewJob]) -> bool:
    """Whether all are due, with nothing but their arguments."""
    return all(job[_OPTIONAL] == _NOTHING and job.ready and job.status == _SCHEDULED for job in jobs)


# -- inserting, on any connection --------------------------------------------------------------------------------------


def insert_rows(database: WritingStatements, jobs: Sequence[NewJob]) -> list[str]:
    """Insert what has no conflict; the ids."""
    columns = list(zip(*jobs, strict=True))
    if not _are_plain(jobs):
        name = "insert_claimed" if any(columns[_OWNER]) else "insert"
        return database.rows_in(name, columns[:_COLUMNS])
    return database.rows_in("insert_plain", [*columns[:4], *columns[6:9]])


def insert_with_parents(database: WritingStatements, jobs: Sequence[NewJob]) -> list[bool]:
    """:func:`insert_free`, where some of the jobs have parents."""
    known = parent_states(database, jobs)  # before any of them makes room
    is_added = insert_free(database, jobs)
    add_edges(database, [job for job, added in zip(jobs, is_added, strict=True) if added], known)
    return is_added


def insert_free(database: WritingStatements, jobs: Sequence[NewJob]) -> list[bool]:
    """Insert the jobs whose ids and unique keys are free, after ended ones have made room."""
    ids = set(database.rows_for("unfinished", [job.id for job in jobs]))
    keys = set(database.rows_for("keys_taken", [job.unique_key for job in jobs if job.unique_key is not None]))
    free: list[NewJob] = []
    is_free: list[bool] = []
    for job in jobs:
        is_free.append(job.id not in ids and (job.unique_key is None or job.unique_key not in keys))
        if is_free[-1]:
            free.append(job)
            ids.add(job.id)
            if job.unique_key is not None:
                keys.add(job.unique_key)
    if not free:
        return is_free
    make_room(database, free)
    if len(insert_rows(database, free)) < len(free):
        raise TakenError
    return is_free


def replace_row(database: WritingStatements, job: NewJob, progress: Progress | None) -> bool:
    """Put a job in the place of the one with its id, or, while that runs, behind it: then False."""
    require_free_key(lambda key: _holder(database, key), job)
    set_aside_needed(database, [job])
    row = successor_row(job, progress or Progress(0, 0))
    if database.run("replace", *row):
        forget_parents(database, [job.id])
        return True
    require_own_key(lambda key: _holder(database, key), job)
    database.run("drop_successor", job.id)
    database.run("successor", *row)
    database.run("mark_successor", job.id)
    return False


def _holder(database: WritingStatements, key: str) -> str | None:
    return next(iter(database.rows("hold_unique", key)), None)
