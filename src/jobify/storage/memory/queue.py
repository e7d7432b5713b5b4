"""Rows in an order, as heaps.

An entry whose row has been changed meanwhile is not searched for; it is passed over when it comes up.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

from jobify.storage.memory.rows import Row

__all__ = ("Queue", "by_deletion", "by_due_time", "by_expiry", "by_order", "by_place")

Entry: TypeAlias = tuple[Any, ...]
"""Of a queue: what it is ordered by, a number of its own (so that two entries never compare their rows), the row."""

_numbers = itertools.count()


def by_order(row: Row) -> Entry:
    return (-row.record.priority, row.record.due_at, row.seq, next(_numbers), row)


def by_place(row: Row) -> Entry:
    place = row.record.due_at if row.place is None else row.place
    return (-row.record.priority, place, row.seq, next(_numbers), row)


def by_due_time(row: Row) -> Entry:
    return (row.record.due_at, row.seq, next(_numbers), row)


def by_deletion(row: Row) -> Entry:
    return (row.record.delete_at, next(_numbers), row)


def by_expiry(row: Row) -> Entry:
    return (row.record.expires_at, row.seq, next(_numbers), row)


class Queue:
    """Rows in an order. Those that are not current any more are passed over, and swept out before they are many."""

    def __init__(self, entry_of: Callable[[Row], Entry], is_current: Callable[[Row], bool]) -> None:
        self._entry_of = entry_of
        self._is_current = is_current
        self._heap: list[Entry] = []
        self._stale = 0

    def push(self, row: Row) -> None:
        heapq.heappush(self._heap, self._entry_of(row))

    def forget(self) -> None:
        """One more row is not current any more."""
        self._stale += 1
        if self._stale > 64 and self._stale > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if self._is_current(entry[-1])]
            heapq.heapify(self._heap)
            self._stale = 0

    def first(self) -> Row | None:
        """The first row that is current. It stays first until it is changed."""
        while self._heap:
            row: Row = self._heap[0][-1]
            if self._is_current(row):
                return row
            heapq.heappop(self._heap)
            self._stale = max(self._stale - 1, 0)
        return None

    def take(self) -> Row:
        """The first row, which is no longer in the queue then: it is about to be changed, or to be put back."""
        row: Row = heapq.heappop(self._heap)[-1]
        self._stale -= 1
        return row

    def peek(self, count: int) -> list[Row]:
        """The first rows that are current, in their order; they stay."""
        taken: list[Row] = []
        while len(taken) < count and self.first() is not None:
            taken.append(self.take())
        for row in taken:
            self.put_back(row)
        return taken

    def put_back(self, row: Row) -> None:
        """Undo ``take``."""
        self.push(row)
        self._stale += 1

    @property
    def head(self) -> Entry:
        """What orders the first row among those of other queues."""
        return self._heap[0][:-1]
