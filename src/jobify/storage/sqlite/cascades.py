"""What the end of a job does to others: dependents that may run now, or never. Called in the transaction that ends it.

Whoever ends jobs hands their ids to :func:`spread`. A job that nobody depends on costs one look at its row; the
settlement of a plain one does not even come here.

**No recursion, no levels.** A chain may be thousands of jobs long and a group as many wide. All that falls with a job
is found by one recursive query, and cancelled by a statement for each chunk.

**Two ways to be linked.** ``has_dependents``: a dependency on the job may be open. ``has_kept``: the janitor has left
one of its parents in place for its sake, and may now look at that again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobify.status import ENDED, JobStatus
from jobify.storage.reasons import dependency_deleted, dependency_ended
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import rows_of_ids, write_ids
from jobify.storage.sqlite.rows import listed
from jobify.storage.sqlite.statements import chunks, row_values, sql
from jobify.types import Microseconds

__all__ = ("forget_parents", "spread", "spread_deletion")

_SUCCESS, _CANCELLED, _RUNNING = JobStatus.SUCCESS.value, JobStatus.CANCELLED.value, JobStatus.RUNNING.value
_ENDED = frozenset(status.value for status in ENDED)


class _Linked(NamedTuple):
    """A job whose end concerns others."""

    seq: int
    id: str
    status: str
    error: str | None
    finished_at: Microseconds | None
    delete_at: Microseconds | None
    has_dependents: int
    has_kept: int


class _Why(NamedTuple):
    """How those end that depend on a job that has."""

    reason: str
    at: Microseconds | None
    delete_at: Microseconds | None


class _Doomed(NamedTuple):
    """A job that cannot run any more, because of the parent with this id."""

    seq: int
    id: str
    parent_id: str


def spread(database: Database, ids: Iterable[str]) -> set[str]:
    """See to what depends on those of these jobs that have ended. Returns the ids of those whose end changed others."""
    ended = [job for job in _linked(database, list(ids)) if job.status in _ENDED]
    _let_go(database, [job.seq for job in ended if job.has_kept])
    parents = [job for job in ended if job.has_dependents]
    changed = _unblock(database, [job.seq for job in parents if job.status == _SUCCESS])
    for job in parents:
        if job.status != _SUCCESS:
            reason = dependency_ended(job.id, job.status, job.error)
            if _cancel_dependents(database, job, _Why(reason, job.finished_at, job.delete_at)):
                changed.add(job.id)
    return changed


def spread_deletion(
    database: Database, ids: Iterable[str], *, now: Microseconds, delete_at: Microseconds | None
) -> None:
    """These jobs are about to be deleted, if they do not run; some of them while others wait for them."""
    linked = [job for job in _linked(database, list(ids)) if job.status != _RUNNING]
    _let_go(database, [job.seq for job in linked if job.has_kept])
    for job in linked:
        if job.has_dependents:
            _cancel_dependents(database, job, _Why(dependency_deleted(job.id), now, delete_at))


def forget_parents(database: Database, ids: Sequence[str]) -> None:
    """These jobs make room for others of the same ids, which depend on nothing."""
    _let_go(database, [job.seq for job in _linked(database, ids) if job.has_kept])
    write_ids(database, "forget_parents", ids)


def _linked(database: Database, ids: Sequence[str]) -> list[_Linked]:
    return [_Linked._make(row) for row in rows_of_ids(database, "linked", ids)]


def _unblock(database: Database, parents: Sequence[int]) -> set[str]:
    """These have succeeded; the ids of those on which one depends that waits for nothing else any more."""
    write_ids(database, "unblock", parents)
    freeing = rows_of_ids(database, "freeing", parents)
    _close(database, parents)
    return set(freeing)


def _cancel_dependents(database: Database, parent: _Linked, why: _Why) -> bool:
    """Cancel all that depends on a job; whether that was anything."""
    _, *rows = listed(database.row(sql("doomed"), (parent.seq,))[0])
    doomed = [_Doomed._make(row) for row in rows]
    for some in chunks(doomed):
        size, values = row_values([_cancelled(job, parent, why) for job in some])
        database.write(sql("cancel_dependents", rows=size), values)
    seqs = [job.seq for job in doomed]
    _let_go(database, seqs)
    _close(database, [parent.seq, *seqs])
    return bool(doomed)


def _cancelled(job: _Doomed, root: _Linked, why: _Why) -> tuple[object, ...]:
    """The parameters of ``cancel_dependents``."""
    reason = why.reason if job.parent_id == root.id else dependency_ended(job.parent_id, _CANCELLED, None)
    return job.id, reason, why.at, "" if why.delete_at is None else why.delete_at


def _close(database: Database, parents: Sequence[int]) -> None:
    write_ids(database, "close_dependencies", parents)
    write_ids(database, "unmark_parents", parents)


def _let_go(database: Database, heirs: Sequence[int]) -> None:
    write_ids(database, "let_go", heirs)
    write_ids(database, "unmark_heirs", heirs)
