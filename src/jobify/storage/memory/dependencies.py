"""What the beginning and the end of a job mean to others: dependents, and the number of ended jobs that are kept.

Every row that may end goes into the table through :class:`Dependencies`, so an end is told in the same call, whoever
caused it. A parent holds its dependents as :data:`~jobify.storage.memory.ties.Link`: one for each, or one for all
behind a barrier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jobify.storage.end_reasons import DELETED, Cause, because_of
from jobify.storage.memory import rows
from jobify.storage.memory.needs import is_needed
from jobify.storage.memory.rows import SCHEDULED, SUCCESS, PendingCancel, Row
from jobify.storage.memory.table import Table
from jobify.storage.memory.ties import Barrier, Edge, Gate, Link, edges_of
from jobify.storage.weight import NO_ARGUMENTS, weigh, weigh_call
from jobify.types import Microseconds

__all__ = ("Dependencies", "cause_of")


class _Cause(NamedTuple):
    """How those end that depend on a job that has."""

    tie: Edge
    cause: Cause
    at: Microseconds
    delete_at: Microseconds | None


def cause_of(row: Row, table: Table) -> tuple[Edge, Cause | None]:
    """What a job is cancelled for that depends on this one, which has ended without success."""
    if row.cause is None:
        return rows.edge_of(row), _cause(row)
    root = table.linked(row.cause)
    return row.cause, None if root is None else _cause(root)


def _cause(row: Row) -> Cause:
    return Cause(row.record.id, row.record.task, row.record.status, row.record.error)


class Dependencies:
    """Puts rows into a table and tells those that depend on them; of ended ones the newest ``keep`` stay, as far as
    they weigh no more than ``keep_bytes``."""

    def __init__(self, table: Table, keep: int, *, keep_bytes: int, keeps_arguments: bool) -> None:
        self._table = table
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._keeps_arguments = keeps_arguments
        self._weights: dict[str, int] = {}
        """Of rows that have ended, the oldest first; some may be gone."""
        self._weight = 0

    def upsert(self, row: Row) -> bool:
        """Put ``row`` in the place of whatever has its id; whether that changed others, which waited for its end."""
        if row.waiters and rows.has_ended(row):
            return self.end([row])
        if rows.has_ended(row):
            self._table.upsert(self._weighed(row))
            self._forget_oldest(looks=2)
        else:
            self._table.upsert(row)
        return False

    def _weighed(self, row: Row) -> Row:
        """An ended row as it is kept: without its arguments, if these are not wanted any more."""
        may_run = rows.can_be_retried(row) or row.cause is not None
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
        """Leave the place of ``row`` empty. Those that waited for its end wait in vain."""
        if row.waiters:
            cause = _cause(row)._replace(status=DELETED, error=None)
            self._fall(row.waiters, row.record.id, _Cause(rows.edge_of(row), cause, now, delete_at))
            row = row._replace(waiters=())
        self._table.remove(row)

    def end(self, at_once: Iterable[Row]) -> bool:
        """Put rows that have ended in their places, and only then tell their dependents, theirs, and so on; whether
        that changed any."""
        ended = list(at_once)
        for row in ended:
            self._table.upsert(self._weighed(row._replace(waiters=())))
        fallen, is_news = 0, False
        for row in ended:
            if not row.waiters:
                continue
            if row.record.status == SUCCESS:
                is_news = self._unblock(row) or is_news
                continue
            tie = rows.edge_of(row)
            job = row.record
            number = self._fall(row.waiters, job.id, _Cause(tie, _cause(row), _end_of(row), job.delete_at))
            fallen, is_news = fallen + number, is_news or number > 0
        self._forget_oldest(looks=2 * (len(ended) + fallen))
        return is_news

    def _unblock(self, parent: Row) -> bool:
        """``parent`` has succeeded; whether one that waited for it waits for nothing else any more."""
        is_news = False
        for link in parent.waiters:
            at = self._count_down(link, _end_of(parent)) if isinstance(link, Gate) else _end_of(parent)
            if at is None:
                continue
            for child in self._waiting((link,)):
                after = rows.unblocked(child, at)
                is_news = is_news or after.record.blockers == 0
                self._table.upsert(after)
        return is_news

    def _count_down(self, gate: Gate, at: Microseconds) -> Microseconds | None:
        """One parent less; when the last one has ended, if that is all."""
        before = self._table.side.barriers.get(gate)
        if before is None:  # another parent has failed
            return None
        barrier = Barrier(before.waiting - 1, max(before.ended_at, at))
        self.set_barrier(gate, barrier if barrier.waiting > 0 else None)
        return barrier.ended_at if barrier.waiting <= 0 else None

    def set_barrier(self, gate: Gate, barrier: Barrier | None) -> None:
        """Say how a gate stands; None: nobody waits behind it."""
        barriers = {other: how for other, how in self._table.side.barriers.items() if other is not gate}
        if barrier is not None:
            barriers[gate] = barrier
        self._table.side = self._table.side._replace(barriers=barriers)

    def _fall(self, waiters: Iterable[Link], parent: str, fall: _Cause) -> int:
        """Cancel all that waits for a job with this id, and all that waits for those, the nearest first; how many."""
        count = 0
        falling = deque([(parent, tuple(waiters))])
        while falling:
            parent, links = falling.popleft()
            why = PendingCancel(because_of(parent, fall.cause), fall.at, fall.delete_at)
            for gate in (link for link in links if isinstance(link, Gate)):
                self.set_barrier(gate, None)
            for child in self._waiting(links):
                count += 1
                after = rows.cancelled(child, why)._replace(waiters=(), cause=fall.tie)
                self._table.upsert(self._weighed(after))
                if child.waiters:
                    falling.append((child.record.id, child.waiters))
        return count

    def _waiting(self, links: Iterable[Link]) -> Iterator[Row]:
        for tie in edges_of(links):
            child = self._table.linked(tie)
            if child is not None and child.record.status == SCHEDULED:
                yield child

    def _forget_oldest(self, *, looks: int) -> None:
        """Let ended rows go while there are too many, but for those that others need.

        Two looks for each row that has ended are enough to get there in time, and a thousand old rows that are all
        needed do not hold anybody up.
        """
        for _ in range(min(looks, len(self._table.ended) - self._keep)):
            oldest = self._table.oldest_ended()
            assert oldest is not None
            if is_needed(oldest, self._table.numbered):
                self._table.ended.move_to_end(oldest.record.id)
            else:
                self._table.remove(oldest)
        for _ in range(min(looks, len(self._weights)) if self._weight > self._keep_bytes else 0):
            self._forget_oldest_weight()

    def _forget_oldest_weight(self) -> None:
        """Let the oldest row go that weighs something, unless others need it."""
        id, weight = next(iter(self._weights.items()))
        row = self._table.find(id)
        del self._weights[id]
        if row is not None and rows.has_ended(row) and is_needed(row, self._table.numbered):
            self._weights[id] = weight
            return
        self._weight -= weight
        if row is not None and rows.has_ended(row):
            self._table.remove(row)


def _end_of(row: Row) -> Microseconds:
    assert row.record.finished_at is not None
    return row.record.finished_at
