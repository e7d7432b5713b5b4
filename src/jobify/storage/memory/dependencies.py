"""What the end of a job does: to its dependents, and to the number of ended jobs that are kept.

Every row that may end goes into the table through :class:`Dependencies`, so that an end reaches the dependents in the
same call, whatever has caused it. A parent holds its dependents as :data:`~jobify.storage.memory.rows.Link`: one for
each, or one for all behind a barrier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jobify.storage.end_reasons import DELETED, Cause, because_of
from jobify.storage.memory import transitions
from jobify.storage.memory.needs import is_needed
from jobify.storage.memory.rows import (
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
    edges_of,
    has_ended,
)
from jobify.storage.memory.table import Table
from jobify.storage.revival import Known, plan
from jobify.storage.weight import NO_ARGUMENTS, weigh, weigh_call
from jobify.types import Microseconds

__all__ = ("Dependencies", "cause_of", "revive")


class _Cancellation(NamedTuple):
    """How the dependents of a job end that has ended without success."""

    edge: Edge
    cause: Cause
    at: Microseconds
    delete_at: Microseconds | None


def cause_of(row: Row, table: Table) -> tuple[Edge, Cause | None]:
    """What a job is cancelled for that depends on this one, which has ended without success."""
    if row.cause is None:
        return edge_of(row), _cause(row)
    root = table.linked(row.cause)
    return row.cause, None if root is None else _cause(root)


def _cause(row: Row) -> Cause:
    return Cause(row.record.id, row.record.task, row.record.status, row.record.error)


class Dependencies:
    """Put rows into a table, and propagate their ends to dependents.

    Of ended rows the newest ``keep`` stay, as far as they weigh no more than ``keep_bytes``.
    """

    def __init__(self, table: Table, keep: int, *, keep_bytes: int, keeps_arguments: bool) -> None:
        self._table = table
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._keeps_arguments = keeps_arguments
        self._weights: dict[str, int] = {}
        """Of rows that have ended, the oldest first; some may be gone."""
        self._weight = 0

    def upsert(self, row: Row) -> bool:
        """Put ``row`` in the place of what has its id; whether that changed others, which waited for its end."""
        if row.waiters and has_ended(row):
            return self.end([row])
        if has_ended(row):
            self._table.upsert(self._weighed(row))
            self._forget_oldest(steps=2)
        else:
            self._table.upsert(row)
        return False

    def _weighed(self, row: Row) -> Row:
        """An ended row as it is kept: without its arguments, if these are not wanted any more."""
        may_run = can_be_retried(row) or row.cause is not None
        if not (row.record.payload is NO_ARGUMENTS or self._keeps_arguments or may_run):
            row = row._replace(record=row.record._replace(payload=NO_ARGUMENTS))
        job = row.record
        weight = 0 if job.payload is NO_ARGUMENTS else weigh_call(job.payload)
        weight += weigh(job.result)
        for message in row.messages:
            weight += weigh(message.data)
        if weight:
            self._weight += weight - self._weights.pop(job.id, 0)
            self._weights[job.id] = weight
        return row

    def delete(self, row: Row, *, now: Microseconds, delete_at: Microseconds | None) -> None:
        """Remove ``row``, and cancel those that waited for its end."""
        if row.waiters:
            cause = _cause(row)._replace(status=DELETED, error=None)
            self._cancel_waiters(row.waiters, row.record.id, _Cancellation(edge_of(row), cause, now, delete_at))
            row = row._replace(waiters=())
        self._table.remove(row)

    def end(self, at_once: Iterable[Row]) -> bool:
        """Put ended rows in their places, and only then propagate the ends; whether that changed others."""
        ended = list(at_once)
        for row in ended:
            self._table.upsert(self._weighed(row._replace(waiters=())))
        fallen, has_effect = 0, False
        for row in ended:
            if not row.waiters:
                continue
            if row.record.status == SUCCESS:
                has_effect = self._unblock(row) or has_effect
                continue
            job = row.record
            cancellation = _Cancellation(edge_of(row), _cause(row), _end_of(row), job.delete_at)
            number = self._cancel_waiters(row.waiters, job.id, cancellation)
            fallen, has_effect = fallen + number, has_effect or number > 0
        self._forget_oldest(steps=2 * (len(ended) + fallen))
        return has_effect

    def _unblock(self, parent: Row) -> bool:
        """``parent`` has succeeded; whether one that waited for it waits for nothing else any more."""
        has_effect = False
        for link in parent.waiters:
            at = self._count_down(link, _end_of(parent)) if isinstance(link, Gate) else _end_of(parent)
            if at is None:
                continue
            for child in self._waiting((link,)):
                after = transitions.unblocked(child, at)
                has_effect = has_effect or after.record.blockers == 0
                self._table.upsert(after)
        return has_effect

    def _count_down(self, gate: Gate, at: Microseconds) -> Microseconds | None:
        """One parent less; when the last one has ended, if that is all."""
        before = self._table.side.barriers.get(gate)
        if before is None:  # another parent has failed
            return None
        barrier = Barrier(before.waiting - 1, max(before.ended_at, at))
        self.set_barrier(gate, barrier if barrier.waiting > 0 else None)
        return barrier.ended_at if barrier.waiting <= 0 else None

    def set_barrier(self, gate: Gate, barrier: Barrier | None) -> None:
        """Set the state of a gate; None means that no job waits behind it."""
        barriers = {other: how for other, how in self._table.side.barriers.items() if other is not gate}
        if barrier is not None:
            barriers[gate] = barrier
        self._table.side = self._table.side._replace(barriers=barriers)

    def _cancel_waiters(self, waiters: Iterable[Link], parent: str, cancellation: _Cancellation) -> int:
        """Cancel all that waits for a job with this id, and all that waits for those, the nearest first; how many."""
        count = 0
        queue = deque([(parent, tuple(waiters))])
        while queue:
            parent, links = queue.popleft()
            why = PendingCancel(because_of(parent, cancellation.cause), cancellation.at, cancellation.delete_at)
            for gate in (link for link in links if isinstance(link, Gate)):
                self.set_barrier(gate, None)
            for child in self._waiting(links):
                count += 1
                after = transitions.cancelled(child, why)._replace(waiters=(), cause=cancellation.edge)
                self._table.upsert(self._weighed(after))
                if child.waiters:
                    queue.append((child.record.id, child.waiters))
        return count

    def _waiting(self, links: Iterable[Link]) -> Iterator[Row]:
        for edge in edges_of(links):
            child = self._table.linked(edge)
            if child is not None and child.record.status == SCHEDULED:
                yield child

    def _forget_oldest(self, *, steps: int) -> None:
        """Remove ended rows while there are too many, but for those that others need.

        Two steps for each row that has ended are enough to keep up, so that a thousand old rows that are all needed
        delay no call.
        """
        for _ in range(min(steps, len(self._table.ended) - self._keep)):
            oldest = self._table.oldest_ended()
            assert oldest is not None
            if is_needed(oldest, self._table.numbered):
                self._table.ended.move_to_end(oldest.record.id)
            else:
                self._table.remove(oldest)
        for _ in range(min(steps, len(self._weights)) if self._weight > self._keep_bytes else 0):
            self._forget_oldest_weight()

    def _forget_oldest_weight(self) -> None:
        """Remove the oldest row that weighs something, unless others need it."""
        id, weight = next(iter(self._weights.items()))
        row = self._table.find(id)
        del self._weights[id]
        if row is not None and has_ended(row) and is_needed(row, self._table.numbered):
            self._weights[id] = weight
            return
        self._weight -= weight
        if row is not None and has_ended(row):
            self._table.remove(row)


def _end_of(row: Row) -> Microseconds:
    assert row.record.finished_at is not None
    return row.record.finished_at


# -- retries -----------------------------------------------------------------------------------------------------------


def revive(table: Table, jobs: Dependencies, ids: Iterable[str], *, now: Microseconds) -> None:
    """Let those wait again that were cancelled for jobs with these ids, which wait again."""
    retried = [row for row in map(table.find, ids) if row is not None]
    fallen = dict(sorted((row.seq, row) for root in retried for row in _fallen_with(table, root)))
    if not fallen:
        return
    gates = {gate: -number for number, gate in enumerate(dict.fromkeys(row.gate for row in fallen.values()), 1) if gate}
    edges = _edges(fallen, gates)
    parents = {parent for parent, _ in edges if parent > 0 and parent not in fallen}
    known = {seq: _known(table, row) for seq in parents if (row := table.numbered(seq)) is not None}
    candidates = {seq: row.record.id for seq, row in fallen.items()}
    revival = plan(candidates, edges, known, _refused(table, fallen))
    links: dict[int, Gate] = {number: gate for gate, number in gates.items()}
    for seq, blockers in revival.blockers.items():
        table.upsert(transitions.revived(fallen[seq], now, blockers))
    for number, waiting in revival.waiting.items():
        jobs.set_barrier(links[number], Barrier(waiting))
    for parent, child in revival.opened:
        if parent > 0:
            _reopen(table, parent, links[child] if child < 0 else edge_of(fallen[child]))
    for seq, how in revival.fallen.items():
        row = fallen[seq]
        root = table.numbered(how.root)
        cause = row.cause if root is None else edge_of(root)
        table.upsert(row._replace(record=row.record._replace(error=how.reason), cause=cause))


def _fallen_with(table: Table, root: Row) -> Iterable[Row]:
    """What was cancelled for a job, directly or through others."""
    cause, waiting, seen = edge_of(root), [root], {root.seq}
    while waiting:
        for edge in edges_of(waiting.pop().children):
            child = table.linked(edge)
            if child is not None and child.seq not in seen and _fell_with(child, cause):
                seen.add(child.seq)
                waiting.append(child)
                yield child


def _fell_with(row: Row, cause: Edge) -> bool:
    return row.cause is not None and row.cause[:2] == cause[:2]


def _edges(fallen: Mapping[int, Row], gates: Mapping[Gate, int]) -> list[tuple[int, int]]:
    """The dependencies of these, and those of the gates before them, which have negative numbers."""
    direct: list[tuple[int, int]] = []
    before: dict[tuple[int, int], None] = {}
    for seq, row in fallen.items():
        if row.gate is None:
            direct += [(parent.seq, seq) for parent in row.parents]
            continue
        number = gates[row.gate]
        direct.append((number, seq))
        if (row.parents[0].seq, number) not in before:
            before.update(dict.fromkeys((parent.seq, number) for parent in row.parents))
    return [*direct, *before]


def _known(table: Table, row: Row) -> Known:
    edge, cause = cause_of(row, table)
    return Known(row.record.id, row.record.status, edge.seq, cause)


def _refused(table: Table, fallen: Mapping[int, Row]) -> list[int]:
    """Those whose unique keys other jobs have."""
    keys: set[str] = set()
    refused = []
    for seq, row in fallen.items():
        key = row.record.unique_key
        if key is not None and (key in keys or table.holder(key) is not None):
            refused.append(seq)
        elif key is not None:
            keys.add(key)
    return refused


def _reopen(table: Table, parent: int, link: Link) -> None:
    row = table.numbered(parent)
    if row is not None and link not in row.waiters:
        table.upsert(row._replace(waiters=(*row.waiters, link)))
