"""Putting a job where there may be one already: ``replace=True``, and crons that are declared in code.

Both read, decide and write in one transaction on the storage's thread, so that any number of processes that start at
once, or replace at once, agree on one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobify.cron import Cron
from jobify.records import JobRecord, NewJob, Progress
from jobify.status import ENDED, JobStatus
from jobify.storage.base import Storage

__all__ = ("Placement", "declare", "replace")


class Placement(NamedTuple):
    """What stands under the id now. ``record`` is what stood there before; None: nothing, or a job that had ended."""

    record: JobRecord | None
    is_unchanged: bool
    progress: Progress


_NO_PROGRESS = Progress(0, 0)


def replace(
    storage: Storage, job: NewJob, *, cron: Cron | None, read: Callable[[str], Cron | None], is_force: bool
) -> Placement:
    """Put ``job`` in the place of an unfinished one with its id, or insert it.

    The same task, arguments and time change nothing, unless forced. A schedule keeps the progress of the one it
    replaces, unless the start date changes. ``read`` reads a stored rule, None if it is unreadable.
    """
    with storage.transaction():
        record = _unfinished(storage, job.id)
        if record is None:
            storage.insert((job,))
            return Placement(None, False, _NO_PROGRESS)
        if not is_force and _is_same(record, job):
            return Placement(record, True, Progress(record.run_count, record.failure_count))
        old = None if record.rule is None else read(record.rule)
        is_hard_reset = old is None or cron is None or old.start_date != cron.start_date
        progress = _NO_PROGRESS if is_hard_reset else Progress(record.run_count, record.failure_count)
        storage.put(job, progress)
        return Placement(record, False, progress)


def declare(storage: Storage, jobs: Sequence[tuple[NewJob, Cron]]) -> list[bool]:
    """Make the schedules that the code declares those of the database; for each, whether it was written.

    Code is the truth about the rule, the database about the progress: an unchanged schedule goes on where it was,
    also when it has ended by its rule (``max_runs``, ``max_failures``, a last date); a changed one keeps its counts.
    One that a user cancelled starts anew.
    """
    with storage.transaction():
        return [_declare_one(storage, job, cron) for job, cron in jobs]


def _declare_one(storage: Storage, job: NewJob, cron: Cron) -> bool:
    record = next(iter(storage.get((job.id,))), None)
    if record is None or record.status == JobStatus.CANCELLED:
        return storage.insert((job,))[0]
    if _is_same(record, job):
        return False
    progress = Progress(record.run_count, 0 if record.status == JobStatus.PERMANENTLY_FAILED else record.failure_count)
    if 0 <= cron.max_runs <= progress.run_count and record.status in ENDED:
        return False
    storage.put(job, progress)
    return True


def _unfinished(storage: Storage, job_id: str) -> JobRecord | None:
    record = next(iter(storage.get((job_id,))), None)
    return None if record is None or record.status in ENDED else record


def _is_same(record: JobRecord, job: NewJob) -> bool:
    same_time = record.rule == job.rule if job.rule is not None else record.due_at == job.due_at and record.rule is None
    return same_time and record.task == job.task and record.payload == job.payload
