"""Calls that meet an earlier job: how they are stored.

A call is stored in a transaction of several steps: find the job that has its key, then insert, replace, cancel, or keep
what is there. Who enqueues does not matter: every way into the storage ends here. What a task says of its calls is in
:mod:`jobify.jobs.call_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from jobify.exceptions import DuplicateJobError
from jobify.jobs.call_rules import CallSeries, KeyedCall
from jobify.jobs.collected_calls import collecting
from jobify.jobs.limit_places import refuse_excess
from jobify.model.job_options import ParentResults, read_options
from jobify.model.records import JobRecord, NewJob
from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.base import Storage
from jobify.storage.end_reasons import EXPIRED, SUPERSEDED
from jobify.storage.merging import Window
from jobify.types import Microseconds

__all__ = ("StoredJob", "insert_calls", "need_steps", "store_call", "store_calls")

_SCHEDULED: Final = JobStatus.SCHEDULED.value
_TRIES: Final = 5
"""How often a key may be given up between two looks. On SQLite and in memory it is not: a transaction is alone."""


class StoredJob(NamedTuple):
    """What a call has become."""

    id: str
    is_created: bool = True
    before: JobRecord | None = None
    """The job as it was, if it was replaced."""
    due_at: Microseconds | None = None
    """When it is due, if it was replaced."""
    cancelled: str | None = None
    """The job that was cancelled for it."""


def need_steps(calls: Sequence[KeyedCall]) -> bool:
    """Whether :func:`store_calls` is needed: an earlier job may have to be changed, or what waits for one of these
    calls may have to wait for another job."""
    has_keys, has_parents = False, False
    for call in calls:
        if call.may_change_jobs:
            return True
        has_keys, has_parents = has_keys or call.row.unique_key is not None, has_parents or bool(call.row.parents)
    return has_keys and has_parents


class InsertTarget(Protocol):
    """The part of a storage that :func:`insert_calls` needs."""

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]: ...

    def find_unique(self, key: str) -> str | None: ...


def end_expired(storage: Storage, id: str, *, now: Microseconds, delete_at: Microseconds | None) -> bool:
    """Cancel a job that waits and has expired: it will not run, so no call may give way to it. Whether it did."""
    record = next(iter(storage.get((id,))), None)
    if record is None or not _has_expired(record, now):
        return False
    storage.cancel([id], reason=EXPIRED, now=now, delete_at=delete_at)
    return True


def _has_expired(job: JobRecord, now: Microseconds) -> bool:
    return job.status == _SCHEDULED and job.expires_at is not None and job.expires_at <= now


def insert_calls(
    storage: InsertTarget, calls: Sequence[KeyedCall], has_ended: Callable[[str], bool] | None = None
) -> list[StoredJob]:
    """Store calls that need no steps, inside a transaction: all new jobs with one insert. DuplicateJobError if one may
    not be stored. ``has_ended`` may end a job that has the key of a call, and says whether it did."""
    is_looked_up = len(calls) == 1  # as a rule, its insert alone has found another job already
    rivals = [
        next(filter(None, map(storage.find_unique, call.unique_keys if is_looked_up else call.former_keys)), None)
        for call in calls
    ]
    added = iter(storage.insert([call.row for call, rival in zip(calls, rivals, strict=True) if rival is None]))
    return [
        StoredJob(call.row.id) if rival is None and next(added) else _kept(storage, call, rival, has_ended)
        for call, rival in zip(calls, rivals, strict=True)
    ]


def _kept(
    storage: InsertTarget, call: KeyedCall, rival: str | None, has_ended: Callable[[str], bool] | None
) -> StoredJob:
    """The job that has the key of the call."""
    other, row = rival, call.row
    for _ in range(_TRIES):
        if other is None and row.unique_key is not None:
            other = storage.find_unique(row.unique_key)
        if other is not None and has_ended is not None and has_ended(other):
            other = None
        if other is not None and call.on_conflict == "fail":
            raise DuplicateJobError(other, unique_task=row.task)
        if other is not None:
            return StoredJob(other, is_created=False)
        if row.unique_key is not None and storage.insert((row,))[0]:  # it has been given up meanwhile
            return StoredJob(row.id)
    raise DuplicateJobError(row.id, can_replace=False)


def store_calls(
    storage: Storage, calls: Sequence[KeyedCall], *, now: Microseconds, delete_at: Microseconds | None
) -> list[StoredJob]:
    """Store calls, inside a transaction, in order: the first of two with one key comes first. A call that waits for one
    before it waits for what that one has become.

    DuplicateJobError if one may not be stored. ``delete_at`` is for jobs that are cancelled.
    """
    storage.hold_keys(sorted({key for call in calls for key in call.keys}))
    step = _Step(storage, now, delete_at)
    ids: dict[str, str] = {}
    stored: list[StoredJob] = []
    for call in calls:
        row = call.row
        if not ids.keys().isdisjoint(row.parents):
            row = _with_parents(row, [ids.get(id, id) for id in row.parents])
        stored.append(step.store(call._replace(row=row)))
        if stored[-1].id != row.id:
            ids[row.id] = stored[-1].id
    return stored


def _with_parents(row: NewJob, parents: Sequence[str]) -> NewJob:
    """``row``, waiting for these jobs: two of its parents may have become one, whose result it gets twice."""
    own = read_options(row.options)
    if own.inputs is not None:
        inputs = ParentResults(parents=tuple(parents[: own.inputs.count]), is_list=own.inputs.is_list)
        row = row._replace(options=msgspec.structs.replace(own, inputs=inputs).text())
    return row._replace(parents=tuple(dict.fromkeys(parents)))


def store_call(
    storage: Storage, call: KeyedCall, *, now: Microseconds, delete_at: Microseconds | None
) -> tuple[StoredJob, JobRecord | None]:
    """Store one call, in a transaction. What it has become, and its row, unless it is a new one that waits.

    DuplicateJobError if it may not be stored, LimitExceededError if a limit refuses it.
    """
    with storage.transaction():
        (stored,) = store_calls(storage, (call,), now=now, delete_at=delete_at)
        is_refused = stored.is_created and refuse_excess(storage, (call.row,), now=now, delete_at=delete_at)
        is_new = stored.is_created and not is_refused
        return stored, None if is_new else next(iter(storage.get((stored.id,))), None)


class _Step:
    """Stores one call."""

    def __init__(self, storage: Storage, now: Microseconds, delete_at: Microseconds | None) -> None:
        self._storage = storage
        self._now = now
        self._delete_at = delete_at

    def store(self, call: KeyedCall) -> StoredJob:
        return self._insert(call) if call.series is None else self._merge(call, call.series)

    # -- unique --------------------------------------------------------------------------------------------------------

    def _insert(self, call: KeyedCall) -> StoredJob:
        storage, row = self._storage, call.row
        for _ in range(_TRIES):
            other = next(filter(None, map(storage.hold_unique, call.unique_keys)), None)
            if other is not None:
                return self._resolve(call, other)
            if storage.insert((row,))[0]:
                return StoredJob(row.id)
        raise DuplicateJobError(row.id, can_replace=False)

    def _resolve(self, call: KeyedCall, other: str) -> StoredJob:
        """A job has the key of the call."""
        row = call.row
        if call.on_conflict in ("keep", "fail") and self._ends(other):
            return self._insert(call)._replace(cancelled=other)
        if call.on_conflict == "fail":
            raise DuplicateJobError(other, unique_task=row.task)
        if call.on_conflict == "replace":
            return self._replace(row, self._record(other))
        if call.on_conflict == "cancel_running":
            self._storage.cancel([other], reason=SUPERSEDED, now=self._now, delete_at=self._delete_at)
            self._storage.give_up_key(other)
            return self._insert(call)._replace(cancelled=other)
        return StoredJob(other, is_created=False)

    def _ends(self, id: str) -> bool:
        return end_expired(self._storage, id, now=self._now, delete_at=self._delete_at)

    def _replace(self, row: NewJob, before: JobRecord) -> StoredJob:
        if before.status != _SCHEDULED:  # the new one has the key that it gives up
            row = row._replace(unique_key=before.unique_key)
        self._storage.replace(row._replace(id=before.id))
        return StoredJob(before.id, is_created=False, before=before, due_at=row.due_at)

    def _record(self, id: str) -> JobRecord:
        return self._storage.get((id,))[0]

    # -- debounced -----------------------------------------------------------------------------------------------------

    def _merge(self, call: KeyedCall, series: CallSeries) -> StoredJob:
        now = self._now
        window, job = self._window(series)
        if window is not None and job is not None and window.is_trailing and _is_unbegun(job):
            return self._extend(call, series, window, job)
        is_open = window is not None and now < window.closes_at
        if series.mode == "leading" and job is not None and _never_runs(job, now):
            is_open = False
        if window is not None and is_open and series.mode == "leading":
            return StoredJob(window.job_id, is_created=False)
        if series.mode == "trailing":
            return self._begin(call, series, now)
        if window is not None and is_open and not window.is_trailing:
            return self._begin(call, series, window.first_at)
        stored = self._insert(call)
        if stored.is_created:
            self._storage.set_window(series.keys[0], Window(stored.id, now, now + series.delay, is_trailing=False))
        return stored

    def _window(self, series: CallSeries) -> tuple[Window | None, JobRecord | None]:
        """The window of the calls, and its job. One whose job would have run after the calls goes with that job; one
        that a first call has opened stays, because the results of a job may be kept for less than its window."""
        window = next(filter(None, map(self._storage.window, series.keys)), None)
        job = None if window is None else next(iter(self._storage.get((window.job_id,))), None)
        is_gone = window is not None and window.is_trailing and job is None
        return (None, None) if is_gone else (window, job)

    def _begin(self, call: KeyedCall, series: CallSeries, first_at: Microseconds) -> StoredJob:
        """A job that runs after the last call."""
        row = self._due(call.row, series, first_at)
        stored = self._insert(call._replace(row=row))
        if stored.is_created:
            window = Window(stored.id, first_at, row.due_at, is_trailing=True)
            self._storage.set_window(series.keys[0], window)
        return stored

    def _extend(self, call: KeyedCall, series: CallSeries, window: Window, job: JobRecord) -> StoredJob:
        """Another call for a job that still waits."""
        row = self._due(call.row, series, window.first_at)
        if row.unique_key not in (None, job.unique_key):
            other = self._storage.hold_unique(row.unique_key)
            if other is not None:
                return self._resolve(call._replace(row=row), other)
        if series.collects:
            row = collecting(row, job)
        self._storage.set_window(series.keys[0], window._replace(closes_at=row.due_at))
        return self._replace(row, job)

    def _due(self, row: NewJob, series: CallSeries, first_at: Microseconds) -> NewJob:
        due_at = series.due_at(first_at, self._now)
        return row._replace(due_at=due_at, ready=due_at <= self._now, offset_at=self._now)


def _never_runs(job: JobRecord, now: Microseconds) -> bool:
    """Whether the job has ended, or expired, before its first attempt."""
    return job.attempt == 0 and (job.status in TERMINAL or _has_expired(job, now))


def _is_unbegun(job: JobRecord) -> bool:
    return job.status == _SCHEDULED and job.attempt == 0
