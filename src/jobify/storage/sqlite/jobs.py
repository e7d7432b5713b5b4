"""Jobs: insert, replace, reschedule, cancel, expire, retry, pause, delete, purge, trim."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from jobify.model.records import AttemptRecord, CancelResult, Expired, NewJob, Progress
from jobify.model.status import JobStatus
from jobify.storage.end_reasons import EXPIRED
from jobify.storage.sqlite.dependencies import (
    add_edges,
    forget_parents,
    parent_states,
    propagate_deletion,
    propagate_end,
)
from jobify.storage.sqlite.needs import make_room, set_aside_needed, without_needed
from jobify.storage.sqlite.revival import revive
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import (
    attempt_values,
    chunks,
    decode_rows,
    id_values,
    job_values,
    rows_for,
    sql,
    write_batch,
    write_for,
)
from jobify.storage.sqlite.values import LARGE, store_value
from jobify.types import Microseconds

__all__ = ("Jobs",)


class Jobs:
    """The writing calls of :class:`jobify.storage.base.Storage`, without claims, settlements, reports and owners.

    The usual case of each is one statement, which is a transaction by itself; a case that is not usual makes that
    statement fail as a whole, and is then done step by step in a transaction.
    """

    def __init__(self, database: Session) -> None:
        self._database = database

    # -- insert --------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        if len(jobs) == 1 and _is_plain(jobs[0]):
            return self._insert_plain(jobs)
        for job in jobs:  # not any(): a generator costs this hot path more than the comparison
            if job.parents or len(job.payload) > LARGE:
                with self._database.atomic():
                    return self._insert_special(jobs)
        try:
            if write_batch(self._database, "insert", job_values, jobs) == len(jobs):
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
        known = parent_states(self._database, jobs)  # before any of them makes room
        is_added = self._insert_free([_without_large_payload(job) for job in jobs])
        for job, added in zip(jobs, is_added, strict=True):
            if added and len(job.payload) > LARGE:
                reference = store_value(self._database, job.payload)
                self._database.write(sql("refer_to_payload"), (reference, job.id))
        if any(job.parents for job in jobs):
            add_edges(self._database, [job for job, added in zip(jobs, is_added, strict=True) if added], known)
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
        make_room(self._database, free)
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

    # -- put, move -----------------------------------------------------------------------------------------------------

    def replace(self, job: NewJob, progress: Progress | None) -> bool:
        if job.parents or job.unique_key is not None:
            raise ValueError(
                f"Job {job.id!r} cannot be put with parents or a unique key: it would have to wait. Insert it."
            )
        with self._database.atomic():
            reference = store_value(self._database, job.payload) if len(job.payload) > LARGE else None
            set_aside_needed(self._database, [job])
            row = (*_successor_row(_without_large_payload(job), progress or Progress(0, 0)), reference)
            with self._numbers_not_given():
                is_replaced = self._database.write(sql("replace"), row)
            if is_replaced:
                forget_parents(self._database, [job.id])
                return True
            self._database.write(sql("drop_successor"), (job.id,))
            self._database.write(sql("successor"), row)
            self._database.write(sql("mark_successor"), (job.id,))
        return False

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        return self._database.write(sql("reschedule"), (due_at, due_at, now, id)) == 1

    # -- cancel --------------------------------------------------------------------------------------------------------

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        met: dict[str, CancelResult] = {}
        with self._database.atomic():
            for some in chunks(ids):
                size, values = id_values(some)
                for id, status in decode_rows(self._database.row(sql("statuses", ids=size), values)[0]):
                    met.setdefault(id, _CANCELS.get(status, CancelResult.ENDED))
                self._cancel(size, values, (reason, now, delete_at), set(met.values()))
            propagate_end(self._database, [id for id, result in met.items() if result is CancelResult.CANCELLED])
        return [met.get(id, CancelResult.MISSING) for id in ids]

    def _cancel(self, size: int, ids: list[str], how: tuple[str, int, int | None], met: set[CancelResult]) -> None:
        write = self._database.write
        if CancelResult.CANCELLED in met:
            write(sql("cancel_waiting", ids=size), [*how, *ids])
        if CancelResult.REQUESTED in met:
            write(sql("request_cancel", ids=size), [*how, *ids])
            write(sql("mark_cancel", ids=size), ids)
            write(sql("delete_orphaned_successors"))

    def cancel_requests(self, owner: int) -> list[str]:
        return decode_rows(self._database.row(sql("cancel_requests"), (owner,))[0])

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        if not self._expired(now, limit):  # without a lock
            return []
        with self._database.atomic():
            expired = self._expired(now, limit)
            ids = [job.id for job in expired]
            write_for(self._database, "cancel_waiting", ids, before=[EXPIRED, now, delete_at])
            propagate_end(self._database, ids)
        return expired

    def _expired(self, now: Microseconds, limit: int) -> list[Expired]:
        return [Expired._make(row) for row in decode_rows(self._database.row(sql("expired"), (now, limit))[0])]

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool) -> list[bool]:
        with self._database.atomic():
            answers = [self._database.write(sql("retry"), (now, id)) == 1 for id in ids]
            if with_dependents:
                revive(self._database, [id for id, is_done in zip(ids, answers, strict=True) if is_done], now=now)
            return [
                is_done or self._database.write(sql("unpark"), (now, id)) == 1
                for id, is_done in zip(ids, answers, strict=True)
            ]

    # -- pause ---------------------------------------------------------------------------------------------------------

    def pause(self, ids: Sequence[str]) -> list[bool]:
        return self._change_pause(ids, "pausable", "pause", [])

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        return self._change_pause(ids, "paused", "resume", [now])

    def _change_pause(self, ids: Sequence[str], which: str, statement: str, how: list[int]) -> list[bool]:
        """Change those of the jobs for which ``which`` asks; for each job, whether it is one of them."""
        with self._database.atomic():
            found = set(rows_for(self._database, which, list(dict.fromkeys(ids))))
            write_for(self._database, statement, list(found), before=how)
        return [id in found for id in ids]

    def pause_queue(self, queue: str) -> None:
        self._database.write(sql("pause_queue"), (queue,))

    def resume_queue(self, queue: str) -> None:
        self._database.write(sql("resume_queue"), (queue,))

    # -- delete, history, purge, trim ----------------------------------------------------------------------------------

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        with self._database.atomic():
            unneeded = without_needed(self._database, ids)
            propagate_deletion(self._database, unneeded, now=now, delete_at=delete_at)
            return write_for(self._database, "delete", unneeded)

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

    def trim(self, *, keep: int, limit: int) -> int:
        with self._database.atomic():
            trimmed = self._database.write(sql("trim"), (keep, limit))
            return trimmed + self._database.write(sql("trim_messages"), (keep, limit - trimmed))


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


_CANCELS = {JobStatus.SCHEDULED.value: CancelResult.CANCELLED, JobStatus.RUNNING.value: CancelResult.REQUESTED}


def _without_large_payload(job: NewJob) -> NewJob:
    return job._replace(payload=b"") if len(job.payload) > LARGE else job


def _successor_row(job: NewJob, progress: Progress) -> tuple[object, ...]:
    """The parameters of ``replace`` and ``successor``."""
    return (
        job.id,
        job.task,
        job.queue,
        job.priority,
        job.ready,
        job.due_at,
        job.offset_at,
        job.created_at,
        job.origin,
        progress.run_count,
        progress.failure_count,
        job.expires_at,
        job.rule,
        job.options,
        job.payload,
    )
