"""Store a job under an id that may be in use: ``replace=True``, and crons that are declared in code.

Each function reads, decides and writes in one transaction on the storage's thread, so that any number of processes that
start or replace at once agree on one row.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from jobify.exceptions import DuplicateJobError, PayloadError, UnknownDependencyError
from jobify.model.cron import Cron, have_same_rule, have_same_start, have_same_times, is_stopped
from jobify.model.job_options import JobOptions, read_options
from jobify.model.records import JobRecord, NewJob, Progress, Relations, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = (
    "DeclaredSchedule",
    "ReplaceResult",
    "ReplaceTarget",
    "find_identical",
    "is_up_to_date",
    "options_with_request_digest",
    "replace",
    "upsert_schedules",
)


class ReplaceResult(NamedTuple):
    """What is stored under the id now. ``record`` is the earlier row; None means none, or a job that had ended."""

    record: JobRecord | None
    is_unchanged: bool
    progress: Progress
    due_at: Microseconds


class ReplaceTarget(Protocol):
    """The part of a storage that :func:`replace` needs."""

    def transaction(self) -> AbstractContextManager[None]: ...

    def get(self, ids: Sequence[str]) -> list[JobRecord]: ...

    def relations(self, id: str) -> Relations: ...

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]: ...

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool: ...


class DeclaredSchedule(NamedTuple):
    """A schedule as the code declares it."""

    row: NewJob
    cron: Cron
    fingerprint: Callable[[], str | None]
    """See :meth:`jobify.router.registry.Endpoint.fingerprint`."""
    former: tuple[str, ...] = ()
    """The ids of the schedule under earlier names of its task."""


_NO_PROGRESS = Progress(0, 0)


def replace(storage: ReplaceTarget, job: NewJob, *, known: Container[str], is_force: bool) -> ReplaceResult:
    """Replace the unfinished job that has the id of ``job``, or insert it.

    The same task, arguments and time change nothing, unless forced. A schedule keeps the progress of the one it
    replaces, unless the start date changes. A job of a task that is not ``known`` here belongs to another app:
    DuplicateJobError. A schedule cannot replace a job that others wait for, because it has no end:
    UnknownDependencyError.
    """
    with storage.transaction():
        record = _unfinished(storage, job.id)
        if record is None:
            storage.insert((job,))
            return ReplaceResult(None, False, _NO_PROGRESS, job.due_at)
        if record.task not in known:
            raise DuplicateJobError(job.id, record.task)
        if not is_force and _is_same(record, job):
            return ReplaceResult(record, True, Progress(record.run_count, record.failure_count), record.due_at)
        if job.rule is not None and record.rule is None:
            _require_no_children(storage, job.id)
        progress = _progress(record) if have_same_start(record.rule, job.rule) else _NO_PROGRESS
        job = _keep_due_time(job, record)
        storage.replace(job, progress)
        return ReplaceResult(record, False, progress, job.due_at)


def _require_no_children(storage: ReplaceTarget, id: str) -> None:
    for child in storage.get(SummaryIds(storage.relations(id).children)):
        if child.status not in TERMINAL:
            raise UnknownDependencyError(child.id, id, "which would become a schedule, and has no end")


def upsert_schedules(storage: Storage, schedules: Sequence[DeclaredSchedule]) -> list[JobRecord]:
    """Bring the stored schedules in line with those that the code declares; return the rows before their change.

    The code decides the rule, the database the progress. An unchanged schedule goes on where it was, also when it has
    ended by its rule (``max_runs``, a last date); a changed one keeps its counts. One that was stopped by its failures
    is revived by another rule or other code. One that a user cancelled starts over. One whose task was renamed goes on
    where the schedule of the earlier name was, which is deleted.
    """
    with storage.transaction():
        changed = [_upsert_schedule(storage, declared) for declared in schedules]
        return [record for record in changed if record is not None]


def is_up_to_date(storage: Storage, declared: DeclaredSchedule) -> bool:
    """Whether :func:`upsert_schedules` would change nothing."""
    if declared.former and storage.get(declared.former):
        return False
    return not _differs(storage, _record(storage, declared.row.id), declared)


def _upsert_schedule(storage: Storage, declared: DeclaredSchedule) -> JobRecord | None:
    """Insert or update one schedule; return the row before the change, None if it was inserted or is up to date."""
    job, record = declared.row, _record(storage, declared.row.id)
    if declared.former and _adopt_former(storage, declared, record):
        record = _record(storage, job.id)
    if not _differs(storage, record, declared):
        return None
    if record is None or record.status == JobStatus.CANCELLED:
        storage.insert((job,))
        return None
    progress = _progress(record)
    if is_stopped(record):
        progress = progress._replace(failure_count=0)
    storage.replace(_keep_due_time(job, record), progress)
    return record


def _adopt_former(storage: Storage, declared: DeclaredSchedule, record: JobRecord | None) -> bool:
    """Continue the schedules of earlier names: progress, due time, pause and history. False if there are none.

    They are deleted; one that runs is deleted when its run has ended.
    """
    job = declared.row
    found = [former for former in storage.get(declared.former) if former.status != JobStatus.CANCELLED]
    if not found:
        return False
    former = max(found, key=lambda one: one.due_at)
    if record is None or record.status == JobStatus.CANCELLED:
        storage.insert((job,))
        _continue_former(storage, job, former, _progress(former))
        storage.add_history([line._replace(job_id=job.id) for line in storage.attempts(former.id)])
    elif record.status == JobStatus.SCHEDULED and former.due_at > record.due_at:  # an older release has run since
        _continue_former(storage, job, former, _progress(record))
    storage.delete(declared.former, now=job.created_at, delete_at=None)
    return True


def _continue_former(storage: Storage, job: NewJob, former: JobRecord, progress: Progress) -> None:
    """Replace ``job`` by itself with the progress and the due time of the ``former`` one."""
    if is_stopped(former):
        progress = progress._replace(failure_count=0)
    storage.replace(_keep_due_time(job, former), progress)
    if former.blockers and former.status == JobStatus.SCHEDULED:
        storage.pause((job.id,))


def _progress(record: JobRecord) -> Progress:
    """The progress of a schedule after its current run, if there is one."""
    return Progress(record.run_count + (record.status == JobStatus.RUNNING), record.failure_count)


def _keep_due_time(job: NewJob, record: JobRecord) -> NewJob:
    """``job`` with the due time of ``record``, which may be a missed one, if both rules give the same times."""
    is_waiting = record.status == JobStatus.SCHEDULED and record.attempt == 0 and record.offset_at is not None
    if not is_waiting or not have_same_times(record.rule, job.rule):
        return job
    return job._replace(due_at=record.due_at, offset_at=record.offset_at, ready=record.due_at <= job.created_at)


def _differs(storage: Storage, record: JobRecord | None, declared: DeclaredSchedule) -> bool:
    if record is None or record.status == JobStatus.CANCELLED:
        return True
    if 0 <= declared.cron.max_runs <= record.run_count and record.status in TERMINAL:
        return False
    return not _is_same(record, declared.row) or (is_stopped(record) and _has_other_code(storage, declared))


def _has_other_code(storage: Storage, declared: DeclaredSchedule) -> bool:
    """Whether the code of the task has changed since its failures stopped the schedule.

    Where that is unknown it has not, because a start of unchanged code must not revive a stopped schedule.
    """
    noted = [line.code for line in storage.attempts(declared.row.id) if line.code is not None]
    return bool(noted) and declared.fingerprint() not in (noted[-1], None)


def find_identical(storage: Storage, job: NewJob) -> JobRecord | None:
    """The unfinished job that :func:`replace` would leave unchanged; None if it would store ``job``."""
    record = _unfinished(storage, job.id)
    return record if record is not None and _is_same(record, job) else None


def options_with_request_digest(job: NewJob) -> str | None:
    """The options of a row whose arguments an outer middleware may change: a digest of the requested arguments.

    By it an identical request is recognized, although other arguments are stored. None if there is no digest.
    """
    return JobOptions(request_digest=_digest(job.payload)).text()


def _unfinished(storage: ReplaceTarget, job_id: str) -> JobRecord | None:
    record = _record(storage, job_id)
    return None if record is None or record.status in TERMINAL else record


def _record(storage: ReplaceTarget, job_id: str) -> JobRecord | None:
    return next(iter(storage.get((job_id,))), None)


def _is_same(record: JobRecord, job: NewJob) -> bool:
    if job.rule is None:
        same_time = record.due_at == job.due_at and record.rule is None
    else:
        same_time = have_same_rule(record.rule, job.rule)
    same_place = (record.task, record.queue, record.priority) == (job.task, job.queue, job.priority)
    return same_time and same_place and _is_same_request(record, job)


def _is_same_request(record: JobRecord, job: NewJob) -> bool:
    if record.options is None and job.options is None:
        return record.payload == job.payload
    digest = _request_digest(record)
    return digest is not None and digest == _request_digest(job)


def _request_digest(row: NewJob | JobRecord) -> str | None:
    """A digest of the arguments that the user requested, before any outer middleware; None if there is none."""
    try:
        digest = read_options(row.options).request_digest
    except PayloadError:  # not written by this release
        digest = None
    return digest or _digest(row.payload)


def _digest(payload: Any) -> str | None:
    if not isinstance(payload, bytes):  # in memory it is not encoded; the pickle is only compared, never read
        try:
            import pickle  # most apps do not need it

            payload = pickle.dumps(payload)
        except Exception:  # of any kind: an object of the user's cannot be pickled
            return None
    from hashlib import blake2b

    return blake2b(payload, digest_size=16).hexdigest()
