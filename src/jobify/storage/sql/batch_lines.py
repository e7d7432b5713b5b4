"""Jobs that wait at gates of limits and are taken in batches, in a SQL database. Called inside a transaction.

Those go on that make whole batches, with others that are ready: the claim after this finds them ready, too, and makes
the same batches of them. What makes none is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from jobify.model.limit_gates import LimitGate, LimitKind
from jobify.model.records import BatchRule, ClaimRequest, TaskSlots
from jobify.storage.batch_decisions import Candidate, batch_lanes, candidate, choose, in_order, lookahead
from jobify.storage.limit_waiters import InLine, call_up_batches
from jobify.storage.sql.limit_gates import Gates
from jobify.storage.sql.limit_lines import NOTHING_OPENED, Called, Lines, Opened, by_task
from jobify.storage.sql.statements import Statements
from jobify.types import Microseconds

__all__ = ("BatchLines", "ReadyJobs")

_Placed = tuple[tuple[int, int, int], Candidate]
"""A job with its place in the order of claims."""


class ReadyJobs(Protocol):
    """How a database finds the jobs of a lane that wait for no limit."""

    def ready(
        self, lane: TaskSlots, rule: BatchRule, queues: tuple[str, ...] | None, now: Microseconds
    ) -> Sequence[_Placed]:
        """The first ones, one more than are to be considered."""
        ...

    def lock(self, lanes: Sequence[TaskSlots]) -> None:
        """Let no other claim take batches of these lanes, until the end of the transaction."""
        ...


class _Waiting(NamedTuple):
    """What waits at open gates."""

    lines: list[list[_Placed]]
    jobs: Mapping[int, InLine]
    """By number, without those that wait for something else as well."""
    gates: Mapping[int, int]
    """By the number of a job."""
    whole: list[tuple[int, list[int]]]
    """Lines of which these are all jobs: the gate, and the numbers of the jobs."""
    passed: list[InLine]
    """They do not wait there any more, or for something else as well."""


class BatchLines:
    """Lets jobs of batches go on."""

    def __init__(self, statements: Statements, gates: Gates, lines: Lines, ready: ReadyJobs) -> None:
        self._statements = statements
        self._gates = gates
        self._lines = lines
        self._ready = ready

    def open(self, request: ClaimRequest, now: Microseconds) -> Opened:
        """Let jobs go on that make batches of the request, at gates that are open."""
        lanes = [(lane, rule) for lane, rule in batch_lanes(request) if lane.limit]
        if lanes:
            self._ready.lock([lane for lane, _ in lanes])
        opened = NOTHING_OPENED
        for lane, rule in lanes:
            opened = opened.with_others(self._open_lane(lane, rule, request, now))
        return opened

    def _open_lane(self, lane: TaskSlots, rule: BatchRule, request: ClaimRequest, now: Microseconds) -> Opened:
        queues = None if request.queues is None else json.dumps(request.queues)
        keys = self._statements.rows_for("open_lanes", list(lane.tasks), now, queues, queues)
        if not keys:
            return NOTHING_OPENED
        gates = {gate.id: gate for gate in self._gates.by_id({gate for gate, _, _ in keys}) if gate.room(now)}
        most = lookahead(rule, lane.limit)
        waiting = self._waiting([key for key in keys if key[0] in gates], rule, most)
        lines = [*waiting.lines, self._ready.ready(lane, rule, request.queues, now)]
        jobs = in_order(lines, most + 1)
        choice = choose(rule, jobs, len(jobs), now + request.ahead, most=most)
        shared = self._shared_gates(lane.tasks)
        calls = call_up_batches(choice.batches, waiting.gates, gates, shared, lane.limit, now)
        self._lines.let_go(calls.called, waiting.passed)
        called = {
            waiting.jobs[seq].id: Called(seq, waiting.gates[seq], waiting.jobs[seq].place) for seq in calls.called
        }
        due = [at for at in (choice.next_at, calls.opens_at) if at is not None]
        ended = [gate for gate, numbers in waiting.whole if set(numbers).issubset(calls.called)]
        return Opened(called, ended, calls.has_more, min(due, default=None))

    def _waiting(self, keys: Sequence[tuple[int, str, str]], rule: BatchRule, most: int) -> _Waiting:
        found = self._statements.rows_of("first_waiters", keys, most + 1) if keys else []
        lines: dict[tuple[int, str, str], list[InLine]] = {(gate, task, queue): [] for gate, task, queue in keys}
        for gate, task, queue, *columns in found:
            lines[gate, task, queue].append(InLine._make(columns))
        free = {key: [job for job in line if job.is_free] for key, line in lines.items()}
        numbers = [job.seq for line in free.values() for job in line]
        details = {seq: its for seq, *its in self._statements.rows_for("batch_waiters", numbers)}
        return _Waiting(
            [[_placed(job, rule, details) for job in line] for line in free.values()],
            {job.seq: job for line in free.values() for job in line},
            {job.seq: key[0] for key, line in free.items() for job in line},
            [(key[0], [job.seq for job in free[key]]) for key, line in lines.items() if len(line) <= most],
            [job for line in lines.values() for job in line if not job.is_free],
        )

    def _shared_gates(self, tasks: Sequence[str]) -> list[LimitGate]:
        """The gates that each job of a task must pass, whatever its keys are."""
        limits = by_task(self._statements.rows_for("limits_of_tasks", list(tasks)))
        shared = {
            one.name: one for some in limits.values() for one in some if one.key is None and one.kind != LimitKind.FAIR
        }
        known = {gate.name: gate for gate in self._gates.by_key([(name, "") for name in shared])}
        return [known.get(name) or limit.first_gate() for name, limit in shared.items()]


def _placed(job: InLine, rule: BatchRule, details: Mapping[int, Sequence[Any]]) -> _Placed:
    created_at, options = details[job.seq]
    return (job.rank, job.due_at, job.seq), candidate(rule, job.seq, job.due_at, created_at, options)
