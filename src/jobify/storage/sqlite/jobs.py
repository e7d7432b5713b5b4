"""Jobs: insert, replace, purge."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from jobify.model.records import AttemptRecord, NewJob, Progress
from jobify.model.status import JobStatus
from jobify.storage.merging import require_free_key, require_own_key
from jobify.storage.sql.dependencies import (
    add_edges,
    forget_parents,
    parent_states,
)
from jobify.storage.sql.jobs import successor_row
from jobify.storage.sql.needs import make_room, set_aside_needed
from jobify.storage.sqlite.parameters import STARTED_WIDTH, attempt_values, job_values, started_values
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import (
    SQLiteStatements,
    decode_rows,
    rows_for,
    sql,
    write_batch,
    write_for,
    write_values,
)
from jobify.storage.sqlite.values import LARGE, store_value
from jobify.types import Microseconds

__all__ = ("Jobs",)


class Jobs:
    """Writing calls of :class:`jobify.storage.base.Storage`; others are in :mod:`jobify.storage.sql.jobs`.

    The usual case of each is one statement, which is a transaction by itself; a case that is not usual makes that
    statement fail as a whole, and is then done step by step in a transaction.
    """

    def __init__(self, database: Session) -> None:
        self._database = database
        self._statements = SQLiteStatements(database)

    # -- insert --------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        if len(jobs) == 1 and _is_plain(jobs[0]):
            return self._insert_plain(jobs)
        started = started_values(jobs) if jobs else None
        if started is None and any(job.parents or len(job.payload) > LARGE for job in jobs):
            with self._database.atomic():
                return self._insert_special(jobs)
        try:
            if started is None:
                count = write_batch(self._database, "insert", job_values, jobs)
            else:
                owner = jobs[0].owner
                count = write_values(self._database, "insert_started", started, STARTED_WIDTH, before=(owner, owner))
            if count == len(jobs):
                return [True] * len(jobs)
        except sqlite3.IntegrityError:
            pass
        with self._database.atomic():
            return self._insert_free(jobs)

    def _insert_plain(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert a job without options, by itself."""
        id, task, queue, priority, _, _, due_at, created_at, payload, *_ = jobs[0]
        try:
            if self._database.write(_INSERT_PLAIN, (id, task, queue, priority, due_at, created_at, bytearray(payload))):
                return [True]
        except sqlite3.IntegrityError:
            pass
        with self._database.atomic():
            return self._insert_free(jobs)

    def insert_joined(self, jobs: Sequence[NewJob]) -> list[bool]:
        """:meth:`insert`, on the connection of a user, where no statement may fail."""
        is_special = any(job.parents or len(job.payload) > LARGE for job in jobs)
        if len(jobs) == 1 and not is_special:
            rows, values = job_values(jobs)
            if self._database.write(sql("insert_if_free", rows=rows), values):
                return [True]
        with self._database.atomic():
            return self._insert_special(jobs) if is_special else self._insert_free(jobs)

    def _insert_special(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert jobs some of which have parents, or large arguments."""
        known = parent_states(self._statements, jobs)  # before any of them makes room
        is_added = self._insert_free([_without_large_payload(job) for job in jobs])
        for job, added in zip(jobs, is_added, strict=True):
            if added and len(job.payload) > LARGE:
                reference = store_value(self._database, job.payload)
                self._database.write(sql("refer_to_payload"), (reference, job.id))
        if any(job.parents for job in jobs):
            add_edges(self._statements, [job for job, added in zip(jobs, is_added, strict=True) if added], known)
        return is_added

    def _insert_free(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert the jobs whose ids and unique keys are free, after ended ones have made room."""
        ids = set(rows_for(self._database, "unfinished", [job.id for job in jobs]))
        keys = set(
            rows_for(self._database, "keys_taken", [job.unique_key for job in jobs if job.unique_key is not None])
        )
        is_free: list[bool] = []
        for job in jobs:
            is_free.append(job.id not in ids and (job.unique_key is None or job.unique_key not in keys))
            if is_free[-1]:
                ids.add(job.id)
                if job.unique_key is not None:
                    keys.add(job.unique_key)
        free = [job for job, is_one in zip(jobs, is_free, strict=True) if is_one]
        make_room(self._statements, free)
        with self._numbers_not_given():
            write_batch(self._database, "insert", job_values, free)
        return is_free

    @contextmanager
    def _numbers_not_given(self) -> Iterator[None]:
        """Inside a transaction: jobs that are inserted get numbers that no job had, although the last one was deleted.
        A row stands in its place meanwhile."""
        (last,) = self._database.row(sql("last_number"))
        if last is None:
            yield
            return
        self._database.write(sql("hold_last_number"), (last,))
        self._database.write(sql("forget_last_number"))
        yield
        self._database.write(sql("release_last_number"), (last,))

    # -- replace ----------------------------------------------------------------------------------------------------

    def replace(self, job: NewJob, progress: Progress | None) -> bool:
        with self._database.atomic():
            require_free_key(self._holder, job)
            reference = store_value(self._database, job.payload) if len(job.payload) > LARGE else None
            set_aside_needed(self._statements, [job])
            row = (*successor_row(_without_large_payload(job), progress or Progress(0, 0)), reference)
            with self._numbers_not_given():
                is_replaced = self._database.write(sql("replace"), row)
            if is_replaced:
                forget_parents(self._statements, [job.id])
                return True
            require_own_key(self._holder, job)
            self._database.write(sql("drop_successor"), (job.id,))
            self._database.write(sql("successor"), row)
            self._database.write(sql("mark_successor"), (job.id,))
        return False

    def _holder(self, key: str) -> str | None:
        return next(iter(self._statements.rows("hold_unique", key)), None)

    def cancel_requests(self, owner: int) -> list[str]:
        return decode_rows(self._database.row(sql("cancel_requests"), (owner,))[0])

    # -- history, purge ------------------------------------------------------------------------------------------------

    def add_history(self, attempts: Sequence[AttemptRecord]) -> None:
        write_batch(self._database, "add_history", attempt_values, attempts)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        if self._purgeable(now, 1) == (0, {}):  # without a lock
            return 0
        deleted, has_more = 0, True
        while has_more and deleted < limit:
            with self._database.atomic():  # each time: others write in between
                purged, has_more = self._purge_some(now, limit - deleted)
            deleted += purged
        return deleted

    def _purge_some(self, now: Microseconds, limit: int) -> tuple[int, bool]:
        """Delete some of the jobs that may be deleted, not too many bytes of them at once; how many, and whether to go
        on in this call."""
        number, wanted = self._purgeable(now, limit)
        if number == 0:
            return 0, False
        write_for(self._database, "keep_for_child", list(wanted))
        heirs = list(wanted.values())
        write_for(self._database, "mark_children_of_kept", heirs)
        write_for(self._database, "mark_causes_of_kept", heirs)
        number -= len(wanted)
        if self._database.write(sql("purge_messages"), (now, number, LARGE, _LARGE_MESSAGES)) == _LARGE_MESSAGES:
            return 0, True
        parts = decode_rows(self._database.row(sql("purgeable_parts"), (now, number))[0])
        bounded = sum(1 for total in accumulate(parts) if total <= _PARTS) or min(number, 1)
        return self._database.write(sql("purge"), (now, bounded)), bounded == number

    def _purgeable(self, now: Microseconds, limit: int) -> tuple[int, dict[str, int]]:
        """Of the first jobs that may be deleted, at most ``limit``: how many there are, and which of them must stay for
        the sake of another job."""
        number, wanted = self._database.row(sql("purgeable"), (now, limit))
        return number, dict(decode_rows(wanted))


_INSERT_PLAIN = sql("insert_plain")

_OPTIONAL = slice(len(NewJob._fields) - len(NewJob._field_defaults), None)
_NOTHING = tuple(NewJob._field_defaults.values())
_SCHEDULED = JobStatus.SCHEDULED.value


def _is_plain(job: NewJob) -> bool:
    """Whether it is due, and has nothing but its arguments."""
    return job[_OPTIONAL] == _NOTHING and job.ready and job.status == _SCHEDULED and len(job.payload) <= LARGE


_LARGE_MESSAGES = 16
_PARTS = 128
"""Large messages, and parts of large values (32 MB), that one transaction of ``purge`` deletes at most; of one job it
deletes all."""


def _without_large_payload(job: NewJob) -> NewJob:
    return job._replace(payload=b"") if len(job.payload) > LARGE else job
