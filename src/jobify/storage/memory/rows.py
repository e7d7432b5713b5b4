"""A job's row, and what each event makes of it: functions from row to row, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobify.exceptions import JobLostError
from jobify.records import AttemptRecord, Claim, JobRecord, NewJob, Progress, Settlement
from jobify.status import ENDED, Event, JobStatus, Lost
from jobify.types import Microseconds

__all__ = (
    "NO_PROGRESS",
    "RUNNING",
    "SCHEDULED",
    "PendingCancel",
    "Row",
    "cancelled",
    "claim_of",
    "claimed",
    "given_back",
    "has_ended",
    "lost",
    "moved",
    "new",
    "quarantined",
    "replaced",
    "settled",
    "told",
)

SCHEDULED, RUNNING = JobStatus.SCHEDULED.value, JobStatus.RUNNING.value
_CANCELLED, _FAILED = JobStatus.CANCELLED.value, JobStatus.FAILED.value
_ENDED = frozenset(status.value for status in ENDED)

NO_PROGRESS = Progress(0, 0)


class PendingCancel(NamedTuple):
    """What ``cancel`` said about a running job."""

    reason: str
    at: Microseconds
    delete_at: Microseconds | None


class Row(NamedTuple):
    """A job, with what waits for its end."""

    seq: int
    """The order of insertion."""
    record: JobRecord
    history: tuple[AttemptRecord, ...] = ()
    successor: tuple[NewJob, Progress] | None = None
    cancel: PendingCancel | None = None


def has_ended(row: Row) -> bool:
    """Whether it makes room for a new job. A status that is not known has not ended."""
    return row.record.status in _ENDED


def new(seq: int, job: NewJob, progress: Progress = NO_PROGRESS) -> Row:
    """A job that was not there before."""
    return Row(seq, JobRecord(*job, None, None, None, None, *progress, 0, False, False))


def replaced(row: Row, job: NewJob, progress: Progress) -> Row:
    """Another job in the same place, so its fence is another one. The history stays."""
    record = new(row.seq, job, progress).record
    return Row(row.seq, record._replace(fence=row.record.fence + 1), row.history)


def moved(row: Row, *, due_at: Microseconds, now: Microseconds) -> Row:
    """A waiting job with another due time."""
    return _changed(row, due_at=due_at, ready=due_at <= now, fence=row.record.fence + 1)


def claimed(row: Row, owner: int, now: Microseconds) -> Row:
    """A waiting job that ``owner`` runs from now on."""
    job = row.record
    return _changed(row, status=RUNNING, owner=owner, fence=job.fence + 1, attempt=job.attempt + 1, started_at=now)


def claim_of(job: JobRecord) -> Claim:
    """What the owner of a running job learns of it."""
    return Claim(
        job.id,
        job.task,
        job.queue,
        job.priority,
        job.due_at,
        job.created_at,
        job.payload,
        job.rule,
        job.offset_at,
        job.options,
        job.origin,
        job.fence,
        job.attempt,
        job.run_count,
        job.failure_count,
        job.crashes,
    )


def settled(row: Row, settlement: Settlement) -> Row:
    """A running job whose attempt has ended: what is pending for it comes first."""
    row = told(row, settlement.history)
    if row.successor is not None:
        return replaced(row, *row.successor)
    if row.cancel is not None and settlement.status == SCHEDULED:
        return cancelled(row, row.cancel)
    return Row(row.seq, _settled(row.record, settlement), row.history)


def _settled(job: JobRecord, settlement: Settlement) -> JobRecord:
    # By position, because this is the one hot place: naming eleven fields takes three times as long.
    status, ready, due_at, offset_at, attempt, run_count, failure_count, result, error, finished_at, delete_at = (
        settlement[:11]
    )
    return JobRecord(
        *job[:4],
        status,
        ready,
        due_at,
        job.created_at,
        job.payload,
        job.rule,
        offset_at,
        job.options,
        job.origin,
        None,
        job.fence,
        attempt,
        job.started_at,
        finished_at,
        delete_at,
        result,
        error,
        run_count,
        failure_count,
        job.crashes if attempt else 0,
        False,
        False,
    )


def given_back(row: Row) -> Row:
    """A running job whose owner will not say how it ended."""
    if row.successor is not None:
        return replaced(row, *row.successor)
    if row.cancel is not None:
        return cancelled(row, row.cancel)
    return _changed(row, status=SCHEDULED, ready=True, owner=None)


def lost(row: Row, now: Microseconds) -> Row:
    """A running job whose owner is dead, before it is given back: one crash more, and a line that says so."""
    job = row.record
    line = AttemptRecord(
        job_id=job.id,
        attempt=job.attempt,
        due_at=job.due_at,
        outcome=Event.LOST.value,
        error=Lost().reason,
        traceback=None,
        started_at=job.started_at,
        finished_at=now,
        owner=job.owner,
    )
    return _changed(told(row, (line,)), crashes=job.crashes + 1)


def quarantined(row: Row, *, now: Microseconds, delete_at: Microseconds | None) -> Row:
    """A job that took too many processes down."""
    error = JobLostError(row.record.id, row.record.crashes)
    delete_at = delete_at if row.record.rule is None else None
    return _ended(row, _FAILED, f"{type(error).__name__}: {error}", finished_at=now, delete_at=delete_at)


def cancelled(row: Row, cancel: PendingCancel) -> Row:
    """A job that ends as ``cancel`` says."""
    return _ended(row, _CANCELLED, cancel.reason, finished_at=cancel.at, delete_at=cancel.delete_at)


def told(row: Row, lines: tuple[AttemptRecord, ...]) -> Row:
    """A job with more history."""
    return row._replace(history=(*row.history, *lines)) if lines else row


def _ended(row: Row, status: str, error: str, *, finished_at: Microseconds, delete_at: Microseconds | None) -> Row:
    return _changed(
        row._replace(cancel=None),
        status=status,
        owner=None,
        result=None,
        error=error,
        finished_at=finished_at,
        delete_at=delete_at,
        is_cancel_requested=False,
    )


def _changed(row: Row, **fields: Any) -> Row:
    return row._replace(record=row.record._replace(**fields))
