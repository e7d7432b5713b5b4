"""Jobs that depend on others: added as edges, and what the end of a parent does to its dependents.

**Barriers.** Jobs of one call that wait for all of the same parents share a *barrier*, so that a group after a group
costs as many dependencies as both have members, and not their product. Barriers have negative numbers. Parents count
theirs down; the last one opens it, and then it is as good as a parent that has succeeded.

**Ends.** What ends jobs passes their ids to :func:`propagate_end`, in the same transaction. A job without dependents
costs one look at its row; the settlement of a plain one does not even come here. There is no recursion and there are
no levels, because a chain may be thousands of jobs long and a group as many wide: all that is cancelled with a job is
found by one recursive query, and cancelled by a statement for each chunk. ``cause`` names the job that a row was
cancelled for.

**Two marks.** ``has_dependents``: a dependency on the job may be open. ``has_kept``: ``purge`` has kept one of its
parents for its sake, and may consider that one again when this job ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobify.exceptions import UnknownDependencyError
from jobify.model.records import NewJob
from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.end_reasons import DELETED, Cause, because_of
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import chunks, decode_rows, row_values, rows_for, sql, write_for
from jobify.types import Microseconds

__all__ = (
    "ParentState",
    "add_edges",
    "forget_parents",
    "parent_state",
    "parent_states",
    "propagate_deletion",
    "propagate_end",
    "unkeep_parents",
)

_SUCCESS, _CANCELLED, _RUNNING = JobStatus.SUCCESS.value, JobStatus.CANCELLED.value, JobStatus.RUNNING.value
_ENDED = frozenset(status.value for status in TERMINAL)
_UNSUCCESSFUL = _ENDED - {_SUCCESS}


# -- edges -------------------------------------------------------------------------------------------------------------


class ParentState(NamedTuple):
    """What became of a job that others want to depend on."""

    seq: int
    task: str
    status: str
    error: str | None
    delete_at: Microseconds | None
    is_schedule: bool = False
    cause_seq: int | None = None
    """What it was cancelled for."""
    cause: Cause | None = None

    def root(self, id: str) -> tuple[int, Cause | None]:
        """What a job is cancelled for that depends on this one, which has ended without success."""
        if self.cause_seq is not None:
            return self.cause_seq, self.cause
        return self.seq, Cause(id, self.task, self.status, self.error)


def parent_states(database: Session, jobs: Sequence[NewJob]) -> dict[str, ParentState]:
    """How the parents of these jobs stand, those that exist."""
    parents = list(dict.fromkeys(parent for parents in _distinct(jobs) for parent in parents))
    return {id: parent_state(standing) for id, *standing in rows_for(database, "parent_states", parents)}


def parent_state(columns: Sequence[Any]) -> ParentState:
    """A row of ``standings``, without its id."""
    cause = None if columns[7] is None else Cause._make(columns[7:])
    return ParentState._make((*columns[:5], bool(columns[5]), columns[6], cause))


def _distinct(jobs: Sequence[NewJob]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(job.parents for job in jobs if job.parents))


def add_edges(database: Session, jobs: Sequence[NewJob], known: dict[str, ParentState]) -> None:
    """Let these jobs, which have just been added, wait for their parents; ``known`` says how those stood before.

    In the order of the jobs, because one may depend on those before it, be they new under an old id.
    """
    numbers = dict(rows_for(database, "seqs", [job.id for job in jobs]))
    links = _EdgeBatch(database, numbers, known, Counter(job.parents for job in jobs if len(job.parents) > 1))
    for job in jobs:
        known[job.id] = links.add(job)
    links.write()


class _Group(NamedTuple):
    """Parents as they stand, for all jobs of the call that wait for just them."""

    waited: Mapping[str, int]
    """The parents by their ids at this time."""
    opened: frozenset[int]
    """Those that have not ended; no job waits if one has failed."""
    failed: tuple[str, ParentState] | None
    barrier: int | None
    """Its number in dependencies; None: each job depends on each parent."""


class _EdgeBatch:
    """What is to be written for jobs with parents; collected first, so that it is a few statements for any number."""

    def __init__(
        self,
        database: Session,
        numbers: Mapping[str, int],
        known: dict[str, ParentState],
        sharing: Mapping[tuple[str, ...], int],
    ) -> None:
        self._database = database
        self._numbers = numbers
        self._known = known
        self._sharing = sharing
        """How many jobs have the same parents."""
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._used: set[str] = set()
        self._dependencies: list[tuple[Any, ...]] = []
        self._blockers: list[tuple[Any, ...]] = []
        self._cancelled: list[tuple[Any, ...]] = []
        self._parents: dict[int, None] = {}

    def add(self, job: NewJob) -> ParentState:
        """One more job; how it stands."""
        seq = self._numbers[job.id]
        group = self._group(job) if job.parents else None
        if job.id in self._used:  # from now on the id means another job
            self._groups.clear()
            self._used.clear()
        if group is None:
            return ParentState(seq, job.task, job.status, None, None, job.rule is not None)
        self._depend(seq, group)
        if group.failed is None:
            return ParentState(seq, job.task, job.status, None, None, job.rule is not None)
        return self._cancel(job, seq, *group.failed)

    def _group(self, job: NewJob) -> _Group:
        group = self._groups.get(job.parents)
        if group is None or job.id in group.waited:
            group = self._groups[job.parents] = self._new_group(job)
            self._used.update(group.waited)
        return group

    def _new_group(self, job: NewJob) -> _Group:
        parents = {id: _checked(job, id, self._known) for id in job.parents}
        failed = next(((id, parent) for id, parent in parents.items() if parent.status in _UNSUCCESSFUL), None)
        opened = [] if failed else [parent.seq for parent in parents.values() if parent.status != _SUCCESS]
        waited = {id: parent.seq for id, parent in parents.items()}
        self._parents.update(dict.fromkeys(opened))
        barrier = self._add_barrier(waited, opened) if len(waited) > 1 and self._sharing[job.parents] > 1 else None
        return _Group(waited, frozenset(opened), failed, barrier)

    def _add_barrier(self, waited: Mapping[str, int], opened: Sequence[int]) -> int:
        number = self._database.execute(sql("add_barrier"), (len(opened),)).lastrowid
        assert number is not None
        is_open = frozenset(opened)
        self._dependencies += [(seq, id, -number, 1 if seq in is_open else 0) for id, seq in waited.items()]
        return -number

    def _depend(self, seq: int, group: _Group) -> None:
        if group.barrier is not None:
            self._dependencies.append((group.barrier, "", seq, 1 if group.opened else 0))
            blockers = 1 if group.opened else 0
        else:
            opened, blockers = group.opened, len(group.opened)
            self._dependencies += [(one, id, seq, 1 if one in opened else 0) for id, one in group.waited.items()]
        if blockers:
            self._blockers.append((seq, blockers))

    def _cancel(self, job: NewJob, seq: int, id: str, parent: ParentState) -> ParentState:
        cause_seq, cause = parent.root(id)
        reason = because_of(id, cause)
        delete_at = "" if parent.delete_at is None else parent.delete_at
        self._cancelled.append((seq, reason, job.created_at, delete_at, cause_seq))
        return ParentState(seq, job.task, _CANCELLED, reason, parent.delete_at, False, cause_seq, cause)

    def write(self) -> None:
        for statement, lines in (
            ("add_edges", self._dependencies),
            ("block", self._blockers),
            ("cancel_dependents", self._cancelled),
        ):
            for some in chunks(lines):
                rows, values = row_values(some)
                self._database.write(sql(statement, rows=rows), values)
        write_for(self._database, "mark_parents", list(self._parents))


def _checked(job: NewJob, parent: str, known: Mapping[str, ParentState]) -> ParentState:
    standing = known.get(parent)
    if standing is None or parent == job.id:
        raise UnknownDependencyError(job.id, parent)
    if standing.is_schedule:
        raise UnknownDependencyError(job.id, parent, "which is a schedule and has no end")
    return standing


# -- ends --------------------------------------------------------------------------------------------------------------


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


class _Cancellation(NamedTuple):
    """How the dependents of a job end that has ended without success."""

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


def propagate_end(database: Session, ids: Iterable[str]) -> set[str]:
    """See to what depends on those of these jobs that have ended. Returns the ids of those whose end changed others."""
    ended = [job for job in _linked(database, list(ids)) if job.status in _ENDED]
    unkeep_parents(database, [job.seq for job in ended if job.has_kept])
    parents = [job for job in ended if job.has_dependents]
    freeing = _unblock(database, [job.seq for job in parents if job.status == _SUCCESS])
    changed = {job.id for job in parents if job.seq in freeing}
    for job in parents:
        if job.status != _SUCCESS:
            cause = Cause(job.id, job.task, job.status, job.error)
            if _cancel_dependents(database, _Cancellation(job.seq, cause, job.finished_at, job.delete_at)):
                changed.add(job.id)
    return changed


def propagate_deletion(
    database: Session, ids: Iterable[str], *, now: Microseconds, delete_at: Microseconds | None
) -> None:
    """These jobs are about to be deleted, if they do not run; some of them while others wait for them."""
    for job in _linked(database, list(ids)):
        if job.has_dependents and job.status != _RUNNING:
            cause = Cause(job.id, job.task, DELETED, None)
            _cancel_dependents(database, _Cancellation(job.seq, cause, now, delete_at))


def forget_parents(database: Session, ids: Sequence[str]) -> None:
    """These jobs make room for others of the same ids, which depend on nothing, and with which nothing fell."""
    unkeep_parents(database, [job.seq for job in _linked(database, ids) if job.has_kept])
    write_for(database, "forget_parents", ids)
    write_for(database, "forget_cause", ids)


def _linked(database: Session, ids: Sequence[str]) -> list[_Linked]:
    return [_Linked._make(row) for row in rows_for(database, "linked", ids)]


def _unblock(database: Session, parents: Sequence[int]) -> set[int]:
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


def _freeing(database: Session, numbers: Sequence[int]) -> list[int]:
    size, values = row_values([(number,) for number in numbers])
    return decode_rows(database.row(sql("freeing", rows=size), values)[0])


def _cancel_dependents(database: Session, cancellation: _Cancellation) -> bool:
    """Cancel all that depends on a job; whether that was anything."""
    _, *rows = decode_rows(database.row(sql("dependents"), (cancellation.seq,))[0])
    dependents = [_Dependent._make(row) for row in rows]
    barriers = {job.seq: job for job in dependents if job.seq < 0}
    jobs = [_cancelled(job, barriers, cancellation) for job in dependents if job.seq > 0]
    for some in chunks(jobs):
        size, values = row_values(some)
        database.write(sql("cancel_dependents", rows=size), values)
    seqs = [job.seq for job in dependents]
    unkeep_parents(database, seqs)
    _resolve_edges(database, [cancellation.seq, *seqs])
    return bool(jobs)


def _cancelled(job: _Dependent, barriers: Mapping[int, _Dependent], cancellation: _Cancellation) -> tuple[object, ...]:
    """The parameters of ``cancel_dependents``."""
    parent = job.parent_id if job.parent is None or job.parent > 0 else barriers[job.parent].parent_id
    reason = because_of(parent or "", cancellation.cause)
    return (
        job.seq,
        reason,
        cancellation.at,
        "" if cancellation.delete_at is None else cancellation.delete_at,
        cancellation.seq,
    )


def _resolve_edges(database: Session, parents: Sequence[int]) -> None:
    write_for(database, "close_dependencies", parents)
    write_for(database, "unmark_parents", parents)


def unkeep_parents(database: Session, heirs: Sequence[int]) -> None:
    """Let maintenance check again what it kept for these jobs, or for those that were cancelled with them."""
    write_for(database, "unkeep", heirs)
    write_for(database, "unmark_children_of_kept", heirs)
