"""What a row means to the user of a handle: a value, an error, a history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from jobify.exceptions import (
    MaxRetriesExceededError,
    ResultNotStoredError,
    TaskCancelledError,
    TaskFailedError,
)
from jobify.model.clock import iso
from jobify.model.public_status import public_status
from jobify.model.records import AttemptRecord, JobRecord
from jobify.model.status import Event, JobStatus
from jobify.storage.end_reasons import is_snoozed

__all__ = ("cancel_reason", "error_of", "errors_of", "failure_of", "row_error")

_FAILED: Final = frozenset({Event.RETRY.value, Event.FAILED.value, Event.TIMED_OUT.value, Event.LOST.value})
"""The outcomes of attempts that failed."""
_NO_ERROR: Final = frozenset({JobStatus.SUCCESS.value, JobStatus.CANCELLED.value})
_NO_REASON: Final = "no reason was recorded"
_KINDS: Final = {
    "failed": TaskFailedError,
    "dead": MaxRetriesExceededError,
    "cancelled": TaskCancelledError,
}
"""What is raised for an end without a value."""


def _failed(attempts: Iterable[AttemptRecord]) -> list[AttemptRecord]:
    return [attempt for attempt in attempts if attempt.outcome in _FAILED]


def errors_of(attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    """One dict for each failed attempt, the oldest first."""
    return [_error(number, line) for number, line in enumerate(attempts, 1) if line.outcome in _FAILED]


def _error(number: int, line: AttemptRecord) -> dict[str, Any]:
    return {
        "id": f"{line.job_id}:{number}",
        "job_id": line.job_id,
        "attempt": line.attempt,
        "error": (line.traceback or line.error or _NO_REASON).rstrip(),
        "message": line.error or _NO_REASON,
        "outcome": line.outcome,
        "started_at": iso(line.started_at),
        "failed_at": iso(line.finished_at),
    }


def row_error(record: JobRecord) -> str | None:
    """The error that a row tells of; None if it tells of none, or why the job was cancelled or put off."""
    if record.status in _NO_ERROR or is_snoozed(record.error):
        return None
    return record.error


def error_of(record: JobRecord, attempts: Sequence[AttemptRecord]) -> str | None:
    """``Type: message`` of the last failure; None if the job has not failed, or has succeeded in the end.

    ``attempts`` is the history; it is looked at where the row does not say: the error of a cancelled job is that of
    its last failed attempt, and so is that of one which was put back or put off. The row of a schedule tells of its
    last run.
    """
    is_told = record.rule is not None and record.status != JobStatus.CANCELLED
    if record.status == JobStatus.SUCCESS or is_told or row_error(record) is not None:
        return row_error(record)
    failed = _failed(attempts)
    return failed[-1].error if failed else None


def cancel_reason(record: JobRecord) -> str | None:
    """Why a job was cancelled (``cancelled``, ``expired``, ``dependency <id> failed``), None if it was not."""
    return (record.error or "cancelled") if record.status == JobStatus.CANCELLED else None


def failure_of(record: JobRecord, attempts: Sequence[AttemptRecord]) -> Exception | None:
    """What ``result()`` raises for an ended job; None if it succeeded with a value that can be had."""
    word = public_status(record.status, record.is_dead)
    if word in _KINDS:
        error = error_of(record, attempts)
        reason = cancel_reason(record) or error or _NO_REASON
        failed = _failed(attempts)
        error_type = None if error is None else error.partition(":")[0]
        traceback = failed[-1].traceback if failed else None
        return _KINDS[word](record.id, reason, error_type=error_type, traceback=traceback)
    if record.error is not None:
        return ResultNotStoredError(record.id, record.error.removeprefix(f"{ResultNotStoredError.__name__}: "))
    return None
