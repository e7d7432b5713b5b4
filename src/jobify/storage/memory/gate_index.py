"""Which rows hold a limit, and which wait for one, by gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from jobify.storage.limit_decisions import GateKey
from jobify.storage.memory.queue import Queue, by_place
from jobify.storage.memory.rows import RUNNING, SCHEDULED, Row

__all__ = ("GateIndex",)


class GateIndex:
    """Rows enter and leave as they change. ``is_current``: whether a row is one of the table."""

    def __init__(self, is_current: Callable[[Row], bool]) -> None:
        self._is_current = is_current
        self.held: Counter[GateKey] = Counter()
        """How many running jobs hold a gate; the jobs of a batch count once."""
        self._units: Counter[tuple[GateKey, str]] = Counter()
        """How many jobs of a batch hold a gate."""
        self.waiting: dict[GateKey, dict[str, Row]] = {}
        """The jobs that wait at a gate, by id; no gate without any."""
        self._lines: dict[GateKey, dict[tuple[str, str], Queue]] = {}

    def enter(self, row: Row) -> None:
        job = row.record
        if job.status == RUNNING:
            self._hold(row.held, row.unit)
        elif job.status == SCHEDULED and row.waits_at is not None:
            self.waiting.setdefault(row.waits_at, {})[job.id] = row
            lines = self._lines.setdefault(row.waits_at, {})
            line = lines.get((job.queue, job.task))
            if line is None:
                line = lines[job.queue, job.task] = Queue(by_place, self._is_current)
            line.push(row)

    def leave(self, row: Row) -> None:
        job = row.record
        if job.status == RUNNING:
            self._release(row.held, row.unit)
        elif job.status == SCHEDULED and row.waits_at is not None:
            self._lines[row.waits_at][job.queue, job.task].forget()
            waiting = self.waiting[row.waits_at]
            del waiting[job.id]
            if not waiting:
                del self.waiting[row.waits_at], self._lines[row.waits_at]

    def _hold(self, gates: Sequence[GateKey], unit: str | None) -> None:
        if unit is not None:
            self._units.update((gate, unit) for gate in gates)
            gates = [gate for gate in gates if self._units[gate, unit] == 1]
        self.held.update(gates)

    def _release(self, gates: Sequence[GateKey], unit: str | None) -> None:
        for gate in gates:
            if unit is not None:
                self._units[gate, unit] -= 1
                if self._units[gate, unit]:
                    continue
                del self._units[gate, unit]
            self.held[gate] -= 1
            if not self.held[gate]:
                del self.held[gate]

    def is_held(self, gate: GateKey, unit: str) -> bool:
        """Whether a job of a batch runs that holds a gate."""
        return self._units[gate, unit] > 0

    def lines(
        self, gate: GateKey, tasks: Collection[str], queues: Collection[str] | None, paused: Collection[str]
    ) -> list[tuple[tuple[str, str], Queue]]:
        """The lines of these tasks at a gate, by queue and task; each in the order in which its jobs are to go on."""
        return [
            ((queue, task), line)
            for (queue, task), line in self._lines.get(gate, {}).items()
            if task in tasks and queue not in paused and (queues is None or queue in queues)
        ]

    def all_lines(self, gate: GateKey) -> list[Queue]:
        """All lines at a gate."""
        return list(self._lines.get(gate, {}).values())
