"""What the end of a job does to others: dependents that may run now, or never. Called in the transaction that ends it.

Whoever ends jobs hands their ids to :func:`spread`. A job that nobody depends on costs one look at its row; the
settlement of a plain one does not even come here.

**No recursion, no levels.** A chain may be thousands of jobs long and a group as many wide. All that falls with a job
is found by one recursive query, and cancelled by a statement for each chunk; ``cause`` says what a row fell with.

**Two ways to be linked.** ``has_dependents``: a dependency on the job may be open. ``has_kept``: the janitor has left
one of its parents in place for its sake, and may now look at that again.

**Barriers** have negative numbers. Parents count theirs down; the last one opens it, and then it is as good as a parent
that has succeeded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.end_reasons import DELETED, Cause, because_of
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import rows_for, write_for
from jobify.storage.sqlite.rows import decode_rows
from jobify.storage.sqlite.statements import chunks, row_values, sql
from jobify.types import Microseconds

__all__ = ("_unkeep_parents", "forget_parents", "propagate_deletion", "propagate_end")

_SUCCESS, _RUNNING = JobStatus.SUCCESS.value, JobStatus.RUNNING.value
_ENDED = frozenset(status.value for status in TERMINAL)


class _Linked(NamedTuple):
    """A job whose end concerns others."""

    seq: int
    id: str
    task: str
    status: str
    error: str | None
    finished_at: Microseconds | None
    delete_at: Microseconds | None
    has_dependents: int
    has_kept: int


class _Cause(NamedTuple):
    """How those end that depend on a job that has."""

    seq: int
    cause: Cause
    at: Microseconds | None
    delete_at: Microseconds | None


class _Dependent(NamedTuple):
    """A job that cannot run any more, because of this parent; or a barrier that will not open."""

    seq: int
    id: str | None
    parent: int | None
    parent_id: str | None


def propagate_end(database: Database, ids: Iterable[str]) -> set[str]:
    """See to what depends on those of these jobs that have ended. Returns the ids of those whose end changed others."""
    ended = [job for job in _linked(database, list(ids)) if job.status in _ENDED]
    _unkeep_parents(database, [job.seq for job in ended if job.has_kept])
    parents = [job for job in ended if job.has_dependents]
    freeing = _unblock(database, [job.seq for job in parents if job.status == _SUCCESS])
    changed = {job.id for job in parents if job.seq in freeing}
    for job in parents:
        if job.status != _SUCCESS:
            cause = Cause(job.id, job.task, job.status, job.error)
            if _cancel_dependents(database, _Cause(job.seq, cause, job.finished_at, job.delete_at)):
                changed.add(job.id)
    return changed


def propagate_deletion(
    database: Database, ids: Iterable[str], *, now: Microseconds, delete_at: Microseconds | None
) -> None:
    """These jobs are about to be deleted, if they do not run; some of them while others wait for them."""
    for job in _linked(database, list(ids)):
        if job.has_dependents and job.status != _RUNNING:
            cause = Cause(job.id, job.task, DELETED, None)
            _cancel_dependents(database, _Cause(job.seq, cause, now, delete_at))


def forget_parents(database: Database, ids: Sequence[str]) -> None:
    """These jobs make room for others of the same ids, which depend on nothing, and with which nothing fell."""
    _unkeep_parents(database, [job.seq for job in _linked(database, ids) if job.has_kept])
    write_for(database, "forget_parents", ids)
    write_for(database, "forget_cause", ids)


def _linked(database: Database, ids: Sequence[str]) -> list[_Linked]:
    return [_Linked._make(row) for row in rows_for(database, "linked", ids)]


def _unblock(database: Database, parents: Sequence[int]) -> set[int]:
    """These have succeeded; those of them on which one depends that waits for nothing else any more."""
    write_for(database, "count_down", parents)
    barriers = rows_for(database, "opened_barriers", parents)
    opened = [*parents, *barriers]
    write_for(database, "unblock", opened)
    freeing = {number for some in chunks(opened) for number in _freeing(database, some)}
    if barriers:
        freeing.update(rows_for(database, "parents_of_barriers", [one for one in barriers if one in freeing]))
    _resolve_edges(database, opened)
    return freeing


def _freeing(database: Database, numbers: Sequence[int]) -> list[int]:
    size, values = row_values([(number,) for number in numbers])
    return decode_rows(database.row(sql("freeing", rows=size), values)[0])


def _cancel_dependents(database: Database, fall: _Cause) -> bool:
    """Cancel all that depends on a job; whether that was anything."""
    _, *rows = decode_rows(database.row(sql("dependents"), (fall.seq,))[0])
    doomed = [_Dependent._make(row) for row in rows]
    barriers = {job.seq: job for job in doomed if job.seq < 0}
    jobs = [_cancelled(job, barriers, fall) for job in doomed if job.seq > 0]
    for some in chunks(jobs):
        size, values = row_values(some)
        database.write(sql("cancel_dependents", rows=size), values)
    seqs = [job.seq for job in doomed]
    _unkeep_parents(database, seqs)
    _resolve_edges(database, [fall.seq, *seqs])
    return bool(jobs)


def _cancelled(job: _Dependent, barriers: Mapping[int, _Dependent], fall: _Cause) -> tuple[object, ...]:
    """The parameters of ``cancel_dependents``."""
    parent = job.parent_id if job.parent is None or job.parent > 0 else barriers[job.parent].parent_id
    reason = because_of(parent or "", fall.cause)
    return job.seq, reason, fall.at, "" if fall.delete_at is None else fall.delete_at, fall.seq


def _resolve_edges(database: Database, parents: Sequence[int]) -> None:
    write_for(database, "close_dependencies", parents)
    write_for(database, "unmark_parents", parents)


def _unkeep_parents(database: Database, heirs: Sequence[int]) -> None:
    """Let the janitor look again at what it has left for the sake of these, or of what fell with them."""
    write_for(database, "unkeep", heirs)
    write_for(database, "unmark_children_of_kept", heirs)
