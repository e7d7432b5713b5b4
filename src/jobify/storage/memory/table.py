"""Rows in memory: queues that claims read, and transactions that can be undone.

A row is an immutable value; a change puts another one in its place, through :class:`Table` and nowhere else. So a
transaction is a note of what stood where, and other threads read what is noted meanwhile.

Waiting rows are in queues (heaps) by the order in which claims want them. An entry whose row has been changed meanwhile
is not searched for; it is passed over when it comes up.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple

from jobify.model.limit_gates import LimitDefinition
from jobify.model.records import JobRecord, OwnerRecord
from jobify.storage.limit_decisions import GateKey
from jobify.storage.memory.gate_index import GateIndex
from jobify.storage.memory.queue import Queue, by_deletion, by_due_time, by_expiry, by_order
from jobify.storage.memory.rows import (
    RUNNING,
    SCHEDULED,
    Barrier,
    Edge,
    Gate,
    GateTimes,
    KeptLimits,
    Row,
    has_ended,
    holds,
)
from jobify.storage.merging import Window
from jobify.storage.suspicion import Death
from jobify.storage.timekeeping import ClockState

__all__ = ("Queue", "SideTables", "Table")


class SideTables(NamedTuple):
    """What there is beside rows. Never changed in place, so that a transaction need only remember the old one."""

    owners: Mapping[int, OwnerRecord] = {}
    leaving: frozenset[int] = frozenset()
    paused_queues: frozenset[str] = frozenset()
    deaths: tuple[Death, ...] = ()
    clock: ClockState = ClockState()
    barriers: Mapping[Gate, Barrier] = {}
    limits: Mapping[str, LimitDefinition] = {}
    task_limits: Mapping[str, tuple[str, ...]] = {}
    limit_settings: Mapping[GateKey, int] = {}
    gate_times: Mapping[GateKey, GateTimes] = {}
    merge_windows: Mapping[str, Window] = {}
    kept_limits: Mapping[tuple[str, int, int], KeptLimits] = {}
    """By claims that have been settled."""


class Table:
    """All rows by id, and those that wait in queues.

    ``keep`` and ``remove`` are called inside ``with table:``, by one thread at a time; the rest by any thread.
    """

    def __init__(self) -> None:
        self.staged = Queue(by_due_time, self._is_current)
        """Rows that wait for their time."""
        self.expiring = Queue(by_expiry, self._is_current)
        """Rows that do not wait for ever."""
        self.purgeable = Queue(by_deletion, self._is_current)
        """Rows that wait for the janitor."""
        self.ended: OrderedDict[str, None] = OrderedDict()
        """The ids of rows that have ended, in the order in which they did."""
        self.side = SideTables()
        self._ready: dict[tuple[str, str], Queue] = {}
        self._rows: dict[str, Row] = {}
        self._schedules: dict[str, None] = {}
        self._suspects: dict[str, None] = {}
        self._parked: dict[str, None] = {}
        self._unique: dict[str, str] = {}
        self._numbered: dict[int, str] = {}
        """The ids of rows that depend on others, or on which others depend, by seq."""
        self._running: defaultdict[int | None, dict[str, None]] = defaultdict(dict)
        self.gates = GateIndex(self._is_current)
        self._lock = threading.RLock()
        self._before_call: dict[str, Row | None] = {}
        self._before_block: dict[str, Row | None] | None = None
        self._beside_before_block = self._beside_before_call = self.side
        self._block_thread: int | None = None

    # -- transactions --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Table:
        """Around every call that writes: all of it, or none."""
        self._lock.acquire()
        self._before_call = {}
        self._beside_before_call = self.side
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._restore(self._before_call)
            self.side = self._beside_before_call
        elif self._before_block is not None:
            for id, row in self._before_call.items():
                self._before_block.setdefault(id, row)
        self._lock.release()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Around several calls: all of them, or none. Other threads see what was before, until the end."""
        if self._before_block is not None:
            raise RuntimeError("A transaction is open already; they do not nest.")
        self._before_block, self._block_thread = {}, threading.get_ident()
        self._beside_before_block = self.side
        try:
            yield
        except BaseException:
            with self._lock:
                self._restore(self._before_block)
                self.side = self._beside_before_block
            raise
        finally:
            self._before_block = self._block_thread = None

    def _is_apart(self) -> bool:
        """Whether the calling thread is not to see what the open block has written."""
        return self._before_block is not None and self._block_thread != threading.get_ident()

    def _restore(self, before: Mapping[str, Row | None]) -> None:
        for id, row in list(before.items()):
            self._put(id, row)

    # -- reading -------------------------------------------------------------------------------------------------------

    def find(self, id: str) -> Row | None:
        """The row as the writing thread sees it."""
        return self._rows.get(id)

    def numbered(self, seq: int) -> Row | None:
        """The row with this number, if it depends on others or they on it, as the writing thread sees it."""
        return self._rows.get(self._numbered.get(seq, ""))

    def linked(self, edge: Edge) -> Row | None:
        """The job that is meant, if it is still there."""
        row = self.numbered(edge.seq)
        return row if row is not None and row.version == edge.version else None

    def held_by(self, owner: int) -> list[Row]:
        """The rows that ``owner`` runs."""
        return [self._rows[id] for id in self._running[owner]]

    def oldest_ended(self) -> Row | None:
        """The row that ended first."""
        return self._rows[next(iter(self.ended))] if self.ended else None

    def schedules(self) -> list[Row]:
        """The rows that have a rule."""
        return [self._rows[id] for id in self._schedules]

    def suspects(self) -> list[Row]:
        """The rows that had begun in a process that died."""
        return [self._rows[id] for id in self._suspects]

    def committed(self, ids: Iterable[str] | None = None) -> list[Row]:
        """The rows with these ids, or all, as the calling thread may see them."""
        with self._lock:
            rows: Mapping[str, Row | None] = self._rows
            if self._before_block is not None and self._is_apart():
                rows = {**self._rows, **self._before_block}
            wanted = list(rows.values()) if ids is None else [rows.get(id) for id in ids]
        return [row for row in wanted if row is not None]

    def committed_finder(self) -> Callable[[int], Row | None]:
        """``numbered``, as the calling thread may see it."""
        with self._lock:
            if not self._is_apart():
                return self.numbered
            return {row.seq: row for row in self.committed()}.get

    def committed_side(self) -> SideTables:
        """What there is beside rows, as the calling thread may see it."""
        with self._lock:
            return self._beside_before_block if self._is_apart() else self.side

    def holder(self, unique_key: str) -> str | None:
        """The id of the row that has this key, as the calling thread may see it."""
        with self._lock:
            if not self._is_apart():
                return self._unique.get(unique_key)
            return next((row.record.id for row in self.committed() if holds(row, unique_key)), None)

    def ready(self, tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> list[Queue]:
        """The queues of rows of these tasks that may run now."""
        paused = self.side.paused_queues
        return [
            found
            for (queue, task), found in self._ready.items()
            if task in tasks and queue not in paused and (queues is None or queue in queues)
        ]

    def parked(self) -> list[Row]:
        """The rows that wait for other code."""
        return [self._rows[id] for id in self._parked]

    # -- writing -------------------------------------------------------------------------------------------------------

    def upsert(self, row: Row) -> None:
        """Put ``row`` in the place of whatever has its id."""
        self._put(row.record.id, row)

    def remove(self, row: Row) -> None:
        """Leave the place of ``row`` empty."""
        self._put(row.record.id, None)

    def forget_suspicions(self) -> None:
        """What has ended is suspected of nothing."""
        for row in self.suspects():
            if has_ended(row):
                self.upsert(row._replace(suspicion=None))

    def _put(self, id: str, row: Row | None) -> None:
        old = self._rows.pop(id, None)
        self._before_call.setdefault(id, old)
        if old is not None:
            self._leave(old)
        if row is not None:
            self._rows[id] = row
            self._enter(row)
        if row is not None and has_ended(row):
            self.ended.setdefault(id)  # one that has ended already keeps its place
        elif old is not None:
            self.ended.pop(id, None)

    def _is_current(self, row: Row) -> bool:
        return self._rows.get(row.record.id) is row

    def _enter(self, row: Row) -> None:
        record = row.record
        if record.rule is not None:
            self._schedules[record.id] = None
        if row.suspicion is not None:
            self._suspects[record.id] = None
        if row.parents or row.children:
            self._numbered[row.seq] = record.id
        if record.parking is not None:
            self._parked[record.id] = None
        if record.status == RUNNING:
            self._running[record.owner][record.id] = None
        if record.unique_key is not None and holds(row, record.unique_key):
            self._unique[record.unique_key] = record.id
        if row.held or row.waits_at is not None:
            self.gates.enter(row)
        for queue in self._queues_of(record):
            queue.push(row)

    def _leave(self, row: Row) -> None:
        record = row.record
        if record.rule is not None:
            del self._schedules[record.id]
        if row.suspicion is not None:
            del self._suspects[record.id]
        if (row.parents or row.children) and self._numbered[row.seq] == record.id:
            del self._numbered[row.seq]
        if record.parking is not None:
            del self._parked[record.id]
        if record.status == RUNNING:
            del self._running[record.owner][record.id]
        if record.unique_key is not None and self._unique.get(record.unique_key) == record.id:
            del self._unique[record.unique_key]
        if row.held or row.waits_at is not None:
            self.gates.leave(row)
        for queue in self._queues_of(record):
            queue.forget()

    def _queues_of(self, record: JobRecord) -> Iterator[Queue]:
        """Where a row with this record waits: for a claim or its time, for the end of its patience, for the janitor."""
        if record.status == SCHEDULED:
            if record.blockers == 0:
                yield self._ready_queue(record.queue, record.task) if record.ready else self.staged
            if record.expires_at is not None:
                yield self.expiring
        elif record.delete_at is not None:
            yield self.purgeable

    def _ready_queue(self, queue: str, task: str) -> Queue:
        found = self._ready.get((queue, task))
        if found is None:
            found = self._ready[queue, task] = Queue(by_order, self._is_current)
        return found
