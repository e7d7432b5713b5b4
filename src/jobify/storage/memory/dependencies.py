"""What the beginning and the end of a job mean to others: dependents, and the number of ended jobs that are kept.

Every row that may end goes into the table through :class:`Dependencies`, so an end is told in the same call, whoever
caused it. A parent knows its dependents by :class:`~jobify.storage.memory.rows.Tie`, which does not fit any more when
another job has taken the place of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from jobify.exceptions import UnknownDependencyError
from jobify.storage.memory import rows
from jobify.storage.memory.rows import SCHEDULED, SUCCESS, PendingCancel, Row, Tie
from jobify.storage.memory.table import Table
from jobify.storage.reasons import dependency_deleted, dependency_ended
from jobify.storage.weight import NO_ARGUMENTS, weigh, weigh_call
from jobify.types import Microseconds

__all__ = ("Dependencies", "is_needed")


def is_needed(row: Row, find: Callable[[str], Row | None]) -> bool:
    """Whether a job that has not ended depends on this one."""
    return any(child is not None and not rows.has_ended(child) for child in (_tied(tie, find) for tie in row.children))


def _tied(tie: Tie, find: Callable[[str], Row | None]) -> Row | None:
    child = find(tie.id)
    return child if child is not None and rows.is_tied(child, tie) else None


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

    # -- begin ---------------------------------------------------------------------------------------------------------

    def begin(self, row: Row) -> None:
        """Put a new row where nothing unfinished is. UnknownDependencyError if it depends on what does not exist."""
        if row.parents:
            old = self._table.find(row.record.id)
            if old is not None:
                self._table.remove(old)  # before parents are looked up: nothing depends on itself
            row = self._bound(row)
        self.keep(row)

    def _bound(self, row: Row) -> Row:
        """A row as its parents leave it; those are told of it."""
        parents = [self._parent(row, id) for id in row.parents]
        failed = next((parent for parent in parents if _has_failed(parent)), None)
        tie = Tie(row.record.id, row.seq, row.version)
        blockers = 0
        for parent in parents:
            waiters = parent.waiters
            if failed is None and not rows.has_ended(parent):
                waiters = (*waiters, tie)
                blockers += 1
            self._table.keep(parent._replace(children=(*parent.children, tie), waiters=waiters))
        if failed is None:
            return row._replace(record=row.record._replace(blockers=blockers))
        return rows.cancelled(row, _because_of(failed)._replace(at=row.record.created_at))

    def _parent(self, row: Row, id: str) -> Row:
        parent = self._table.find(id)
        if parent is None:
            raise UnknownDependencyError(row.record.id, id)
        if parent.record.rule is not None:
            raise UnknownDependencyError(row.record.id, id, "which is a schedule and has no end")
        return parent

    # -- end -----------------------------------------------------------------------------------------------------------

    def keep(self, row: Row) -> bool:
        """Put ``row`` in the place of whatever has its id; whether that changed others, which waited for its end."""
        if row.waiters and rows.has_ended(row):
            return self.end([row])
        if rows.has_ended(row):
            self._table.keep(self._weighed(row))
            self._forget_oldest(looks=2)
        else:
            self._table.keep(row)
        return False

    def _weighed(self, row: Row) -> Row:
        """An ended row as it is kept: without its arguments, if these are not wanted any more."""
        if not (row.record.payload is NO_ARGUMENTS or self._keeps_arguments or rows.can_be_retried(row)):
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
        self._table.remove(row)
        why = PendingCancel(dependency_deleted(row.record.id), now, delete_at)
        for child in self._waiting(row.waiters):
            self.keep(rows.cancelled(child, why))

    def end(self, at_once: Iterable[Row]) -> bool:
        """Put rows that have ended in their places, and only then tell their dependents, theirs, and so on, the nearest
        first; whether that changed any."""
        ended = deque(at_once)
        for row in ended:
            self._table.keep(self._weighed(row._replace(waiters=())))
        count, is_news = 0, False
        while ended:
            parent = ended.popleft()
            count += 1
            for child in self._waiting(parent.waiters):
                after = _after(parent, child)
                is_news = is_news or after.record.blockers == 0
                if rows.has_ended(after):
                    ended.append(after)
                    after = self._weighed(after._replace(waiters=()))
                self._table.keep(after)
        self._forget_oldest(looks=2 * count)
        return is_news

    def _waiting(self, ties: Iterable[Tie]) -> Iterator[Row]:
        for tie in ties:
            child = _tied(tie, self._table.find)
            if child is not None and child.record.status == SCHEDULED:
                yield child

    def _forget_oldest(self, *, looks: int) -> None:
        """Let ended rows go while there are too many, but for those that others depend on.

        Two looks for each row that has ended are enough to get there in time, and a thousand old rows that are all
        needed do not hold anybody up.
        """
        for _ in range(min(looks, len(self._table.ended) - self._keep)):
            oldest = self._table.oldest_ended()
            assert oldest is not None
            if is_needed(oldest, self._table.find):
                self._table.ended.move_to_end(oldest.record.id)
            else:
                self._table.remove(oldest)
        for _ in range(min(looks, len(self._weights)) if self._weight > self._keep_bytes else 0):
            self._forget_oldest_weight()

    def _forget_oldest_weight(self) -> None:
        """Let the oldest row go that weighs something, unless others depend on it."""
        id, weight = next(iter(self._weights.items()))
        row = self._table.find(id)
        del self._weights[id]
        if row is not None and rows.has_ended(row) and is_needed(row, self._table.find):
            self._weights[id] = weight
            return
        self._weight -= weight
        if row is not None and rows.has_ended(row):
            self._table.remove(row)


def _after(parent: Row, child: Row) -> Row:
    """What the end of a parent makes of a job that waited for it."""
    if _has_failed(parent):
        return rows.cancelled(child, _because_of(parent))
    return rows.unblocked(child, _end_of(parent))


def _has_failed(row: Row) -> bool:
    """Whether it has ended, and not as its dependents need it."""
    return rows.has_ended(row) and row.record.status != SUCCESS


def _because_of(parent: Row) -> PendingCancel:
    """How a dependent ends of a parent that has failed."""
    job = parent.record
    return PendingCancel(dependency_ended(job.id, job.status, job.error), _end_of(parent), job.delete_at)


def _end_of(row: Row) -> Microseconds:
    assert row.record.finished_at is not None
    return row.record.finished_at
