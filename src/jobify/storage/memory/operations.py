"""Writing: insert, replace, retry; cancel, expire, delete, purge, trim.

Called inside ``with table:``. Claims are in :mod:`~jobify.storage.memory.claiming`, owners in
:mod:`~jobify.storage.memory.owners`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jobify.exceptions import UnknownDependencyError
from jobify.model.records import CancelResult, Expired, NewJob, Progress
from jobify.storage.end_reasons import because_of
from jobify.storage.memory import transitions
from jobify.storage.memory.dependencies import Dependencies, cause_of
from jobify.storage.memory.needs import is_needed, make_room, make_room_if_needed, without_needed
from jobify.storage.memory.queries import is_over
from jobify.storage.memory.rows import (
    RUNNING,
    SCHEDULED,
    SUCCESS,
    Barrier,
    Edge,
    Gate,
    Link,
    PendingCancel,
    Row,
    can_be_retried,
    edge_of,
    has_ended,
)
from jobify.storage.memory.table import Table
from jobify.storage.merging import require_free_key, require_own_key
from jobify.types import Microseconds

__all__ = ("cancel", "delete", "expire", "insert", "purge", "replace", "retry", "trim")


def insert(table: Table, jobs: Dependencies, seqs: Iterator[int], batch: Sequence[NewJob]) -> list[bool]:
    """For each job, whether it was added. UnknownDependencyError if one depends on what does not exist."""
    is_free: list[bool] = []
    free: list[NewJob] = []
    ids: set[str] = set()
    keys: set[str] = set()
    is_special = False
    for job in batch:
        old = table.find(job.id)
        is_taken = job.id in ids or (old is not None and not has_ended(old))
        if job.unique_key is not None:
            is_taken = is_taken or job.unique_key in keys or table.holder(job.unique_key) is not None
        is_free.append(not is_taken)
        if is_taken:
            continue
        # One that is cancelled as soon as it is added still has its id and key until the end of the call.
        ids.add(job.id)
        if job.unique_key is not None:
            keys.add(job.unique_key)
        free.append(job)
        is_special = is_special or bool(job.parents) or old is not None
    if is_special:
        _Insertion(table, jobs, free).add_all(seqs)
    else:
        for job in free:
            jobs.upsert(transitions.new(next(seqs), job))
    return is_free


class _Group(NamedTuple):
    """Parents, for all jobs of the call that wait for just them."""

    edges: tuple[Edge, ...]
    waits: frozenset[int]
    """The seqs of those that have not ended; empty if one has failed."""
    failed: tuple[PendingCancel, Edge] | None
    """How the jobs end at once, and for which one, because a parent has failed."""
    gate: Gate | None
    """Between them and the jobs; None: each holds each."""


class _Insertion:
    """One call of ``insert`` some of whose jobs have parents."""

    def __init__(self, table: Table, jobs: Dependencies, batch: Sequence[NewJob]) -> None:
        self._table = table
        self._jobs = jobs
        self._batch = batch
        parents = dict.fromkeys(parent for parents in {job.parents: None for job in batch} for parent in parents)
        self._known = {parent: parent for parent in parents if table.find(parent) is not None}
        """Where the jobs are that the ids mean now."""
        self._known.update(make_room(table, batch))
        self._sharing = Counter(job.parents for job in batch)
        self._groups: dict[tuple[str, ...], _Group] = {}

    def add_all(self, seqs: Iterator[int]) -> None:
        """In order, because one may depend on those before it, be they new under an old id."""
        for job in self._batch:
            row = transitions.new(next(seqs), job)
            group = self._group(job) if job.parents else None
            self._jobs.upsert(row if group is None else self._bound(row, group))
            if job.id in self._known:  # from now on the id means another job
                self._groups.clear()
            self._known[job.id] = job.id

    def _group(self, job: NewJob) -> _Group:
        if job.parents not in self._groups or job.id in job.parents:
            self._groups[job.parents] = self._new_group(job)
        return self._groups[job.parents]

    def _new_group(self, job: NewJob) -> _Group:
        names = tuple(dict.fromkeys(job.parents))
        parents = [self._parent(job, id) for id in names]
        failed = next((number for number, parent in enumerate(parents) if _has_failed(parent)), None)
        waits = frozenset(parent.seq for parent in parents if failed is None and not has_ended(parent))
        edges = tuple(edge_of(parent)._replace(id=id) for id, parent in zip(names, parents, strict=True))
        reason = None if failed is None else self._reason(names[failed], parents[failed])
        if len(parents) < 2 or self._sharing[job.parents] < 2:
            return _Group(edges, waits, reason, None)
        gate = Gate()
        for parent in parents:
            self._link(parent, gate, is_open=parent.seq in waits)
        if waits:
            self._jobs.set_barrier(gate, Barrier(len(waits)))
        return _Group(edges, waits, reason, gate)

    def _parent(self, job: NewJob, id: str) -> Row:
        row = self._table.find(self._known[id]) if id in self._known and id != job.id else None
        if row is None:
            raise UnknownDependencyError(job.id, id)
        if row.record.rule is not None:
            raise UnknownDependencyError(job.id, id, "which is a schedule and has no end")
        return row

    def _link(self, parent: Row, link: Link, *, is_open: bool) -> None:
        waiters = (*parent.waiters, link) if is_open else parent.waiters
        self._table.upsert(parent._replace(children=(*parent.children, link), waiters=waiters))

    def _bound(self, row: Row, group: _Group) -> Row:
        """A row with the blockers of its parents, which get an edge to it."""
        edge, blockers = edge_of(row), len(group.waits)
        if group.gate is not None:
            group.gate.behind.append(edge)
            blockers = min(blockers, 1)
        else:
            for parent in group.edges:
                known = self._table.numbered(parent.seq) or self._table.find(self._known[parent.id])
                assert known is not None
                self._link(known, edge, is_open=parent.seq in group.waits)
        row = row._replace(parents=group.edges, gate=group.gate)
        if group.failed is None:
            return row._replace(record=row.record._replace(blockers=blockers))
        how, cause = group.failed
        return transitions.cancelled(row, how._replace(at=row.record.created_at))._replace(cause=cause)

    def _reason(self, id: str, parent: Row) -> tuple[PendingCancel, Edge]:
        edge, cause = cause_of(parent, self._table)
        return PendingCancel(because_of(id, cause), 0, parent.record.delete_at), edge


def _has_failed(row: Row) -> bool:
    return has_ended(row) and row.record.status != SUCCESS


def replace(table: Table, seqs: Iterator[int], job: NewJob, progress: Progress) -> bool:
    """Whether it stands in its place now."""
    require_free_key(table.holder, job)
    make_room_if_needed(table, job)
    old = table.find(job.id)
    if old is None:
        table.upsert(transitions.new(next(seqs), job, progress))
    elif old.record.status == RUNNING:
        require_own_key(table.holder, job)
        table.upsert(old._replace(record=old.record._replace(has_successor=True), successor=(job, progress)))
        return False
    else:
        table.upsert(transitions.replaced(old, job, progress))
    return True


def retry(table: Table, id: str, now: Microseconds) -> bool:
    """Whether it waits again."""
    row = table.find(id)
    if row is not None and row.record.parking is not None:
        table.upsert(transitions.unparked(row, now))
        return True
    if row is None or not can_be_retried(row):
        return False
    key = row.record.unique_key
    if key is not None and table.holder(key) is not None:
        return False
    table.upsert(transitions.retried(row, now))
    return True


def cancel(table: Table, jobs: Dependencies, ids: Iterable[str], how: PendingCancel) -> dict[str, CancelResult]:
    """What it met, by id. A job that is named is cancelled for this reason, also where its parent is named, too."""
    met: dict[str, CancelResult] = {}
    ended: list[Row] = []
    for id in dict.fromkeys(ids):
        row = table.find(id)
        if row is None:
            met[id] = CancelResult.MISSING
        elif row.record.status == SCHEDULED:
            ended.append(transitions.cancelled(row, how))
            met[id] = CancelResult.CANCELLED
        elif row.record.status == RUNNING:
            record = row.record._replace(is_cancel_requested=True, has_successor=False)
            table.upsert(row._replace(record=record, cancel=how, successor=None))
            met[id] = CancelResult.REQUESTED
        else:
            met[id] = CancelResult.ENDED
    jobs.end(ended)
    return met


def expire(
    table: Table, jobs: Dependencies, *, now: Microseconds, limit: int, delete_at: Microseconds | None
) -> list[Expired]:
    """Those whose time is over. The longest overdue come first."""
    overdue: list[Row] = []
    while len(overdue) < limit and (row := table.expiring.first()) is not None:
        if row.record.expires_at is None or row.record.expires_at > now:
            break
        overdue.append(table.expiring.take())
    jobs.end(transitions.expired(row, now=now, delete_at=delete_at) for row in overdue)
    found = (row.record for row in overdue)
    return [Expired(job.id, job.task, job.origin, job.queue, job.attempt) for job in found]


def delete(
    table: Table, jobs: Dependencies, ids: Iterable[str], *, now: Microseconds, delete_at: Microseconds | None
) -> int:
    """How many there were."""
    found = filter(None, map(table.find, dict.fromkeys(ids)))
    victims = [row.record.id for row in without_needed(table, (row for row in found if row.record.status != RUNNING))]
    for row in filter(None, map(table.find, victims)):  # by now it may have been cancelled with its parent
        jobs.delete(row, now=now, delete_at=delete_at)
    return len(victims)


def purge(table: Table, *, now: Microseconds, limit: int) -> int:
    """How many had come to their end, and were not needed; of those that were, by others that went here."""
    deleted = 0
    while fresh := _purge(table, now, limit - deleted):
        deleted += fresh
    return deleted


def _purge(table: Table, now: Microseconds, limit: int) -> int:
    needed: list[Row] = []
    deleted = 0
    while deleted < limit and (row := table.purgeable.first()) is not None and is_over(row, now):
        if is_needed(row, table.numbered):
            needed.append(table.purgeable.take())
        else:
            table.remove(row)
            deleted += 1
    for row in needed:
        table.purgeable.put_back(row)
    return deleted


def trim(table: Table, *, keep: int, limit: int) -> int:
    """How many lines went."""
    left = limit
    for row in table.schedules():
        excess = min(len(row.history) - keep, left)
        if excess > 0:
            table.upsert(row._replace(history=row.history[excess:]))
            left -= excess
    for row in table.schedules():
        excess = min(len(row.messages) - max(keep, 1), left)
        if excess > 0:
            table.upsert(row._replace(messages=row.messages[excess:]))
            left -= excess
    return limit - left
