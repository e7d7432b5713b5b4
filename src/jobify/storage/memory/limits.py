"""Limits in memory. What jobs hold and wait for is in their rows, so whatever changes a row changes that, too.

Called inside ``with table:``. The decisions are those of :mod:`jobify.storage.limit_decisions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jobify.model.limit_gates import (
    NEVER,
    LimitDefinition,
    LimitGate,
    LimitKind,
    LimitRecord,
    LimitRefusal,
    LimitWait,
    limits_of_options,
)
from jobify.model.records import Claimed, ClaimRequest, NewJob, Settled, Settlement
from jobify.storage.batch_decisions import batch_lanes, without_batches
from jobify.storage.limit_decisions import (
    GateKey,
    Need,
    admit,
    give_places,
    held_batches,
    is_next_in_line,
    left_room,
    needs_of,
    openings,
    places_of,
    with_states,
)
from jobify.storage.limit_waiters import InLine, WaitingLine, call_up
from jobify.storage.memory import claiming, gate_transitions, transitions
from jobify.storage.memory.batch_lines import open_batches
from jobify.storage.memory.gates import active_of, gate_of, keep_times, known_gates, row_of, task_limits, waited_gates
from jobify.storage.memory.queue import Queue
from jobify.storage.memory.rows import SCHEDULED, KeptLimits, Row
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = (
    "claim",
    "define",
    "keys",
    "let_go",
    "limits",
    "set_maximum",
    "settled",
    "shift",
    "take_places",
    "task_limits",
    "waits",
)


def claim(table: Table, request: ClaimRequest, now: Microseconds) -> Claimed:
    """A claim whose jobs are admitted by their limits."""
    if not table.side.task_limits:
        return claiming.claim(table, request, now)
    called: dict[str, Row] = {}
    has_more, due = False, []
    if request.scope.covers_ordinary:
        called, has_more = _open(table, without_batches(request), now)
        for lane, rule in batch_lanes(request):
            some, opens_at, is_more_left = open_batches(table, lane, rule, request, now)
            called.update(some)
            due.append(opens_at)
            has_more = has_more or is_more_left
    claimed = claiming.claim(table, request, now)
    taken = {claim.id for claim in claimed.claims}
    for row in called.values():
        if row.record.id not in taken:
            table.upsert(row)  # it waits as before
    needs, unkeyed = needs_of(claimed.claims, task_limits(table, [claim.task for claim in claimed.claims]))
    gates = {key: gate_of(table, key) for need in needs for key in need.all_gates}
    places = {id: _place_of(row) for id, row in called.items()}
    decisions = admit(needs, gates, places, now, claimed.batches)
    for need in decisions.held:
        _hold(table, need)
    for id in unkeyed:
        table.upsert(gate_transitions.not_started(row_of(table, id)))
    for one in decisions.refused:
        table.upsert(gate_transitions.refused(row_of(table, one.job.id), (one.gate.name, one.gate.key), one.place))
    keep_times(table, gates.values())
    gates_of_called = {id: row.waits_at for id, row in called.items()}
    due += [
        claimed.next_due_at,
        *openings(decisions),
        *(gate.opens_at(_wanted(table, gate)) for gate in waited_gates(table) if gate.is_timed),
    ]
    return claimed._replace(
        claims=with_states(claimed.claims, decisions, unkeyed),
        next_due_at=min((at for at in due if at is not None and (at > now or at == claimed.next_due_at)), default=None),
        has_more=claimed.has_more or has_more or left_room(gates_of_called, decisions, unkeyed),
        has_limits=True,
        moved=len(decisions.refused),
        batches=held_batches(claimed.batches, decisions, unkeyed),
    )


def _wanted(table: Table, gate: LimitGate) -> int:
    """The least cost of a job that waits at a gate and is the first in its line."""
    lines = table.gates.all_lines((gate.name, gate.key))
    heads = [row for row in map(Queue.first, lines) if row is not None]
    return min((limits_of_options(row.record.options).cost for row in heads), default=1)


def _hold(table: Table, need: Need) -> None:
    table.upsert(row_of(table, need.claim.id)._replace(held=need.holds, unit=need.unit))


def _waiting_rows(table: Table) -> list[Row]:
    return [row for rows in table.gates.waiting.values() for row in rows.values()]


def take_places(table: Table, jobs: Sequence[NewJob], now: Microseconds) -> list[LimitRefusal | None]:
    """See :meth:`jobify.storage.limiting.LimitPort.take_places`."""
    places = places_of(jobs, task_limits(table, [job.task for job in jobs]))
    gates = {key: gate_of(table, key) for place in places for key in place.all_gates}
    waiting = {key: _waiting(table, key) for key in gates}
    for key in {key for place in places if len(place.gates) > 1 for key, _ in place.gates}:
        waiting[key] += sum(_has_place_beside(table, row, key) for row in _waiting_rows(table))
    given, refused = give_places(places, gates, waiting, now)
    for one in given:
        table.upsert(gate_transitions.held_back(row_of(table, one.job.id), (one.gate.name, one.gate.key), one.place))
    keep_times(table, gates.values())
    return [refused.get(job.id) for job in jobs]


def _has_place_beside(table: Table, row: Row, key: GateKey) -> bool:
    """Whether a job has a place at a gate, and stands in the line of another limit that refuses some."""
    assert row.waits_at is not None
    limits, (its, _) = table.side.limits, row.waits_at
    if (
        its == key[0]
        or limits[its].on_excess == "wait"
        or key[0] not in table.side.task_limits.get(row.record.task, ())
    ):
        return False
    path = limits[key[0]].key
    return path is None or limits_of_options(row.record.options).limit_keys.get(path) == key[1]


# -- jobs that wait ----------------------------------------------------------------------------------------------------


def _open(table: Table, request: ClaimRequest, now: Microseconds) -> tuple[dict[str, Row], bool]:
    """Let jobs go on that wait at open gates: of the request's tasks and queues, as many as may be taken. Their rows
    before, by id; and whether there is room for more."""
    lanes = {task: number for number, lane in enumerate(request.slots) if lane.limit for task in lane.tasks}
    left = [lane.limit for lane in request.slots]
    room: dict[GateKey, int] = {}
    lines: list[WaitingLine] = []
    for gate in waited_gates(table):
        key, number = (gate.name, gate.key), gate.room(now)
        for (_, task), line in (
            table.gates.lines(key, lanes, request.queues, table.side.paused_queues) if number else ()
        ):
            number = min(number, _fair_room(table, gate, task, now))
            most = min(number, left[lanes[task]])
            rows = line.peek(most + 1)
            lines.append(WaitingLine(key, key, lanes[task], [_in_line(row) for row in rows[:most]], len(rows) <= most))
        room[key] = number
    calls = call_up(lines, room, left)
    called = {job.id: row_of(table, job.id) for _, job in calls.called}
    for row in (*called.values(), *(row_of(table, job.id) for job in calls.passed)):
        table.upsert(transitions.admitted(row, now))
    return called, calls.has_more


def _in_line(row: Row) -> InLine:
    job = row.record
    return InLine(job.id, row.seq, -job.priority, job.due_at, _place_of(row), job.blockers == 1)


def _fair_room(table: Table, gate: LimitGate, task: str, now: Microseconds) -> int:
    """How many jobs of a task that has turns the task's other limits have room for, as far as these have no key: more
    need not be called, because they would have to go on waiting."""
    if gate.kind != LimitKind.FAIR:
        return NEVER
    rooms = [gate_of(table, (one.name, "")).room(now) for one in task_limits(table, [task])[task] if one.key is None]
    return min(rooms, default=NEVER)


# -- ends of claims ----------------------------------------------------------------------------------------------------


def settled(table: Table, row: Row, settlement: Settlement) -> Settled:
    """A claim has ended that had to do with limits. ``row``: before."""
    its = settlement.limits
    if its is None:
        return Settled.APPLIED
    if its.options is not None and (after := table.find(row.record.id)) is not None:
        table.upsert(after._replace(record=after.record._replace(options=its.options)))
    after = table.find(row.record.id)
    turn = next((key for key in row.held if table.side.limits[key[0]].kind == LimitKind.FAIR), None)
    if turn is not None and after is not None and is_next_in_line(settlement) and after.record.status == SCHEDULED:
        place = gate_of(table, turn).tat  # it has not run: it is the next one in its line
        table.upsert(gate_transitions.held_back(after, turn, place))
    if its.closed_until is not None:
        gates = [gate_of(table, key) for key in row.held]
        for gate in gates:
            gate.close(its.closed_until)
        keep_times(table, gates)
    if its.is_kept and row.held:
        kept = KeptLimits(row.held, row.unit)
        table.side = table.side._replace(kept_limits={**table.side.kept_limits, _claim_of(settlement): kept})
        return Settled.APPLIED
    return Settled.FREED if _is_room_made(table, row.held, row.unit) else Settled.APPLIED


def _is_room_made(table: Table, held: Iterable[GateKey], unit: str | None) -> bool:
    """Whether a job waits at one of these gates, which a job does not hold any more."""
    return any(key in table.gates.waiting and not _is_held_by(table, key, unit) for key in held)


def _is_held_by(table: Table, key: GateKey, unit: str | None) -> bool:
    kept = table.side.kept_limits.values()
    return unit is not None and (
        table.gates.is_held(key, unit) or any(one.unit == unit and key in one.gates for one in kept)
    )


def _claim_of(settlement: Settlement) -> tuple[str, int, int]:
    return settlement.id, settlement.owner, settlement.fence


def let_go(table: Table, claim: tuple[str, int, int]) -> bool:
    """See :meth:`jobify.storage.limiting.LimitPort.let_go`."""
    held, unit = table.side.kept_limits.get(claim, KeptLimits((), None))
    kept = {one: gates for one, gates in table.side.kept_limits.items() if one != claim}
    table.side = table.side._replace(kept_limits=kept)
    return _is_room_made(table, held, unit)


# -- definitions -------------------------------------------------------------------------------------------------------


def define(table: Table, tasks: Mapping[str, Sequence[LimitDefinition]], now: Microseconds) -> None:
    """See :meth:`jobify.storage.limiting.LimitPort.define_limits`."""
    side, former = table.side, _timed(table)
    listed = {**side.task_limits, **{task: tuple(one.name for one in limits) for task, limits in tasks.items()}}
    limits = {**side.limits, **{one.name: one for of_task in tasks.values() for one in of_task}}
    table.side = side._replace(limits=limits, task_limits={task: names for task, names in listed.items() if names})
    other_keys = {
        name for name, one in side.limits.items() if (one.kind, one.key) != (limits[name].kind, limits[name].key)
    }
    for row in _waiting_rows(table):
        assert row.waits_at is not None
        name = row.waits_at[0]
        if name in other_keys or name not in listed.get(row.record.task, ()):
            table.upsert(transitions.admitted(row, row.record.due_at))
    _keep_counts(table, former, now)


def _timed(table: Table) -> list[LimitGate]:
    """The gates that have admitted something by a rate."""
    return [gate_of(table, key) for key in table.side.gate_times]


def _keep_counts(table: Table, former: Iterable[LimitGate], now: Microseconds) -> None:
    """Definitions or settings of these gates may have changed."""
    gates = [(gate_of(table, (before.name, before.key)), before) for before in former]
    for gate, before in gates:
        gate.keep_count(before, now)
    keep_times(table, [gate for gate, _ in gates])


def shift(table: Table, change: Microseconds, since: Microseconds, now: Microseconds) -> None:
    """See :meth:`jobify.storage.timekeeping.Timekeeping.shift`."""
    gates = [gate for gate in _timed(table) if gate.kind == LimitKind.RATE and not since <= gate.turned_at <= now]
    for gate in gates:
        gate.shift(change)
    keep_times(table, gates)


def set_maximum(table: Table, name: str, key: str | None, maximum: int | None, now: Microseconds) -> None:
    """See :meth:`jobify.storage.limiting.LimitPort.set_limit`."""
    former = _timed(table)
    settings = {gate: value for gate, value in table.side.limit_settings.items() if gate != (name, key or "")}
    if maximum is not None:
        settings[name, key or ""] = maximum
    table.side = table.side._replace(limit_settings=settings)
    _keep_counts(table, former, now)


# -- reading -----------------------------------------------------------------------------------------------------------


def limits(table: Table) -> list[LimitRecord]:
    """See :meth:`jobify.storage.limiting.LimitPort.limits`."""
    names = {name for listed in table.side.task_limits.values() for name in listed}
    records = [_record(table, (name, "")) for name in sorted(names)]
    known = known_gates(table)
    return [
        record._replace(
            active=sum(active_of(table, key) for key in known if key[0] == record.name),
            waiting=sum(_waiting(table, key) for key in known if key[0] == record.name),
        )
        for record in records
    ]


def keys(table: Table, name: str, limit: int) -> list[LimitRecord]:
    """See :meth:`jobify.storage.limiting.LimitPort.limit_keys`."""
    known = {key for key in (*known_gates(table), *table.side.limit_settings) if key[0] == name and key[1]}
    found = [_record(table, key) for key in known]
    return sorted(found, key=lambda one: (-one.waiting, -one.active, one.key))[:limit]


def _record(table: Table, key: GateKey) -> LimitRecord:
    gate, is_set = gate_of(table, key), key in table.side.limit_settings
    return LimitRecord(
        *key, gate.kind, gate.maximum, gate.per, gate.burst, is_set, gate.active, _waiting(table, key),
        table.side.limits[key[0]].key,
    )  # fmt: skip


def _waiting(table: Table, key: GateKey) -> int:
    return len(table.gates.waiting.get(key, ()))


def waits(table: Table, ids: Iterable[str]) -> dict[str, LimitWait]:
    """See :meth:`jobify.storage.limiting.LimitPort.limit_waits`."""
    found: dict[str, LimitWait] = {}
    for row in filter(None, map(table.find, ids)):
        if row.waits_at is not None and row.record.status == SCHEDULED:
            gate = gate_of(table, row.waits_at)
            line = [other for other in _waiting_rows(table) if _stands_before(other, row)]
            wait = LimitWait(gate.name, gate.key, gate.kind, gate.maximum, gate.active, len(line) + 1)
            found[row.record.id] = wait
    return found


def _stands_before(other: Row, row: Row) -> bool:
    return (
        other.waits_at == row.waits_at
        and (other.record.task, other.record.queue) == (row.record.task, row.record.queue)
        and _place(other) < _place(row)
    )


def _place(row: Row) -> tuple[int, int, int]:
    return -row.record.priority, _place_of(row), row.seq


def _place_of(row: Row) -> int:
    return row.record.due_at if row.place is None else row.place
