"""Jobs that wait at gates of limits, in a SQL database. Called inside a transaction.

A job waits at one gate, in the line of its task and its queue there: it has one blocker more, and an entry with its
fence. An entry with another fence than the job has by now means nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from jobify.model.limit_gates import LimitDefinition, LimitGate, LimitKind
from jobify.model.records import ClaimRequest
from jobify.storage.limit_decisions import GateKey, Waiting
from jobify.storage.limit_waiters import InLine, WaitingLine, call_up
from jobify.storage.sql.limit_gates import Gates
from jobify.storage.sql.statements import Row, Statements
from jobify.types import Microseconds

__all__ = ("NOTHING_OPENED", "Called", "Lines", "Opened", "by_task")

_Key = tuple[int, str, str]
"""A line: its gate, the task, the queue."""


class Called(NamedTuple):
    """A job that was let go on."""

    seq: int
    gate: int
    place: int


class Opened(NamedTuple):
    """What was let go on before a claim."""

    jobs: Mapping[str, Called]
    """By id. Those that the claim does not take wait again."""
    ended: Sequence[int]
    """Gates with lines that have come to their end."""
    has_more: bool
    next_at: Microseconds | None = None
    """When a batch goes whose jobs wait at gates that are open."""

    def with_others(self, other: Opened) -> Opened:
        """Both."""
        due = [at for at in (self.next_at, other.next_at) if at is not None]
        return Opened(
            {**self.jobs, **other.jobs},
            [*self.ended, *other.ended],
            self.has_more or other.has_more,
            min(due, default=None),
        )


NOTHING_OPENED: Final = Opened({}, (), False)


class Lines:
    """Lets jobs wait, and go on."""

    def __init__(self, statements: Statements, gates: Gates) -> None:
        self._statements = statements
        self._gates = gates

    def open(self, request: ClaimRequest, now: Microseconds) -> Opened:
        """Let jobs go on that wait at open gates: of the request's tasks and queues, as many as may be taken."""
        lanes = {task: number for number, lane in enumerate(request.slots) if lane.limit for task in lane.tasks}
        queues = None if request.queues is None else json.dumps(request.queues)
        found = self._statements.rows_for("open_lanes", list(lanes), now, queues, queues) if lanes else []
        keys: list[_Key] = [(gate, task, queue) for gate, task, queue in found]
        if not keys:
            return NOTHING_OPENED
        gates = self._gates.by_id({gate for gate, _, _ in keys})
        room = {gate.id: gate.room(now) for gate in gates}
        for gate, most in self._fair_room(keys, gates, now).items():
            room[gate] = min(room[gate], most)
        left = [lane.limit for lane in request.slots]
        lines = self._first_of([key for key in keys if room[key[0]] > 0], lanes, room, left)
        calls = call_up(lines, room, left)
        self.let_go([job.seq for _, job in calls.called], calls.passed)
        jobs = {job.id: Called(job.seq, line.gate, job.place) for line, job in calls.called}
        return Opened(jobs, list(dict.fromkeys(gate for gate, _, _ in calls.ended)), calls.has_more)

    def let_go(self, called: Sequence[int], passed: Sequence[InLine]) -> None:
        """These jobs wait at their gates no more, but for now they keep their places; those that are passed do not."""
        admitted = [*called, *(job.seq for job in passed if job.is_free is not None)]
        self._statements.run_for("admit_waiters", admitted)
        self._statements.run_for("drop_waiters", [job.seq for job in passed])

    def _first_of(
        self, keys: Sequence[_Key], lanes: Mapping[str, int], room: Mapping[int, int], left: Sequence[int]
    ) -> list[WaitingLine]:
        """The first jobs of these lines: one more than may go on of each."""
        by_most: defaultdict[int, list[_Key]] = defaultdict(list)
        for key in keys:
            by_most[min(room[key[0]], left[lanes[key[1]]])].append(key)
        jobs: defaultdict[_Key, list[InLine]] = defaultdict(list)
        for most, some in sorted(by_most.items()):
            for gate, task, queue, *columns in self._statements.rows_of("first_waiters", some, most + 1):
                jobs[gate, task, queue].append(InLine._make(columns))
        return [
            WaitingLine(key, key[0], lanes[key[1]], jobs[key][:most], len(jobs[key]) <= most)
            for most, some in by_most.items()
            for key in some
        ]

    def _fair_room(self, keys: Iterable[_Key], gates: Iterable[LimitGate], now: Microseconds) -> dict[int, int]:
        """For each line of turns, how many its other limits have room for, as far as these have no key: more need not
        be called, because they would have to go on waiting."""
        fair = {gate.id for gate in gates if gate.kind == LimitKind.FAIR}
        tasks = {task: gate for gate, task, _ in keys if gate in fair}
        definitions = by_task(self._statements.rows_for("limits_of_tasks", list(tasks)))
        others = {task: [one for one in limits if one.key is None] for task, limits in definitions.items()}
        wanted = list(dict.fromkeys((one.name, "") for limits in others.values() for one in limits))
        rooms = {gate.name: gate.room(now) for gate in self._gates.by_key(wanted)}
        most: dict[int, int] = {}
        for task, limits in others.items():
            limited = [rooms[one.name] if one.name in rooms else one.first_gate().room(now) for one in limits]
            if limited:
                most[tasks[task]] = max(most.get(tasks[task], 0), min(limited))
        return most

    def leave(self, called: Mapping[str, Called], taken: Container[str]) -> None:
        """Those of the called jobs that were taken are in no line any more; the others wait as before."""
        self._statements.run_for("drop_waiters", [one.seq for id, one in called.items() if id in taken])
        self._statements.run_rows("hold_back", [(id, one.gate) for id, one in called.items() if id not in taken])

    def wait(self, jobs: Sequence[Waiting], how: str) -> None:
        """Have each of these wait at its gate; ``how``: the statement that blocks them. The gates are written later."""
        lines = {(one.gate.id, one.job.task, one.job.queue): (one.job.id, one.gate.id) for one in jobs}
        self._enter([(one.job.id, one.gate.id, one.place) for one in jobs], how, lines.values())

    def go_back(self, jobs: Sequence[tuple[str, int, int]]) -> None:
        """Have jobs wait (id, gate, place) that were settled in this transaction. The gates are locked."""
        if jobs:
            self._enter(jobs, "hold_back", [(id, gate) for id, gate, _ in jobs])
            self._statements.run_for("wait_at", list({gate for _, gate, _ in jobs}))

    def _enter(self, rows: Sequence[Row], how: str, lines: Collection[Row]) -> None:
        """``lines``: a job and a gate of each."""
        self._statements.run_rows(how, [row[:2] for row in rows])
        self._statements.run_rows("add_waiters", rows)
        self._statements.run_rows("add_lanes", list(lines))

    def forget_ended(self, ids: Sequence[int], gates: Mapping[GateKey, LimitGate]) -> None:
        """Forget the lines before these gates, which are locked, in which no job waits."""
        if not ids:
            return
        self._statements.run_for("drop_lanes", ids)
        waited = set(self._statements.rows_for("waited_gates", ids))
        for gate in gates.values():
            if gate.id in ids:
                gate.is_waited = gate.id in waited

    def free_misplaced(self, tasks: Sequence[str]) -> None:
        """Let those go on that wait at a limit which their task does not have any more."""
        self._free(self._statements.rows_for("misplaced_waiters", tasks))

    def free_all(self, limits: Sequence[str]) -> None:
        """Let those go on that wait at these limits, whose gates have other keys from now on."""
        self._free(self._statements.rows_for("waiters_of_limits", limits) if limits else [])

    def _free(self, found: Sequence[Row]) -> None:
        self._statements.run_for("admit_waiters", [seq for seq, is_waiting in found if is_waiting])
        self._statements.run_for("drop_waiters", [seq for seq, _ in found])


def by_task(rows: Iterable[Sequence[Any]]) -> dict[str, list[LimitDefinition]]:
    """The rows of ``limits_of_tasks``."""
    found: dict[str, list[LimitDefinition]] = {}
    for task, *columns in rows:
        found.setdefault(task, []).append(LimitDefinition._make(columns))
    return found
