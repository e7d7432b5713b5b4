"""Jobs that wait at gates of limits and are taken in batches, in memory. Called inside ``with table:``."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.model.limit_gates import LimitDefinition, LimitKind
from jobify.model.records import BatchRule, ClaimRequest, TaskSlots
from jobify.storage.batch_decisions import choose, in_order, lookahead
from jobify.storage.limit_decisions import GateKey
from jobify.storage.limit_waiters import call_up_batches
from jobify.storage.memory import claiming, transitions
from jobify.storage.memory.gates import gate_of, row_of, task_limits, waited_gates
from jobify.storage.memory.rows import Row
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("open_batches",)


def open_batches(
    table: Table, lane: TaskSlots, rule: BatchRule, request: ClaimRequest, now: Microseconds
) -> tuple[dict[str, Row], Microseconds | None, bool]:
    """Let jobs go on that make whole batches, with others that are ready: their rows before, by id. Besides, when the
    next one may go, and whether there is room for more."""
    most = lookahead(rule, lane.limit)
    gates = {(gate.name, gate.key): gate for gate in waited_gates(table) if gate.room(now)}
    rows: dict[GateKey, list[Row]] = {}
    lines: list[list[Row]] = []
    for key in gates:
        for _, line in table.gates.lines(key, lane.tasks, request.queues, table.side.paused_queues):
            lines.append([row for row in line.peek(most + 1) if row.record.blockers == 1])
            rows.setdefault(key, []).extend(lines[-1])
    if not rows:
        return {}, None, False
    lines += claiming.ready_rows(table, lane, request.queues, most + 1)
    candidates = [[(claiming.order_of(row), claiming.candidate_of(row, rule)) for row in line] for line in lines]
    jobs = in_order(candidates, most + 1)
    choice = choose(rule, jobs, len(jobs), now + request.ahead, most=most)
    waiting = {row.record.id: key for key, some in rows.items() for row in some}
    shared = [gate_of(table, (one.name, "")) for one in _shared_limits(table, lane.tasks)]
    calls = call_up_batches(choice.batches, waiting, gates, shared, lane.limit, now)
    called = {id: row_of(table, id) for id in calls.called}
    for row in called.values():
        table.upsert(transitions.admitted(row, now))
    due = [at for at in (choice.next_at, calls.opens_at) if at is not None]
    return called, min(due, default=None), calls.has_more


def _shared_limits(table: Table, tasks: Sequence[str]) -> list[LimitDefinition]:
    """The limits without a key that each job of a task must pass."""
    found = {one.name: one for limits in task_limits(table, tasks).values() for one in limits}
    return [one for one in found.values() if one.key is None and one.kind != LimitKind.FAIR]
