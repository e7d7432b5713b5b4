"""Gates of limits in memory, made of definitions, settings, times and what rows hold. Called inside ``with table:``."""

from __future__ import annotations

from collections.abc import Iterable

from jobify.model.limit_gates import LimitDefinition, LimitGate, LimitKind
from jobify.storage.limit_decisions import GateKey
from jobify.storage.memory.rows import GateTimes, Row
from jobify.storage.memory.table import Table

__all__ = ("active_of", "gate_of", "keep_times", "known_gates", "row_of", "task_limits", "waited_gates")


def gate_of(table: Table, key: GateKey) -> LimitGate:
    definition = table.side.limits[key[0]]
    settings, times = table.side.limit_settings, table.side.gate_times.get(key, GateTimes())
    maximum = settings.get(key, settings.get((key[0], ""), definition.maximum))
    return LimitGate(
        0, *key, definition.kind, maximum, definition.per, definition.burst, active_of(table, key),
        times.tat, times.closed_until, False, times.turned_at,
    )  # fmt: skip


def active_of(table: Table, key: GateKey) -> int:
    """How many functions run that hold it."""
    if not table.side.kept_limits:
        return table.gates.held[key]
    kept = [one.unit for one in table.side.kept_limits.values() if key in one.gates]
    units = {unit for unit in kept if unit is not None and not table.gates.is_held(key, unit)}
    return table.gates.held[key] + kept.count(None) + len(units)


def known_gates(table: Table) -> set[GateKey]:
    """Those that are held, or waited for."""
    kept = (key for one in table.side.kept_limits.values() for key in one.gates)
    return {*table.gates.held, *table.gates.waiting, *kept}


def keep_times(table: Table, gates: Iterable[LimitGate]) -> None:
    """Write what changes beside what is held."""
    kinds = (LimitKind.RATE, LimitKind.FAIR)
    times = {
        (gate.name, gate.key): GateTimes(gate.tat, gate.closed_until, gate.turned_at)
        for gate in gates
        if gate.kind in kinds
    }
    if times:
        table.side = table.side._replace(gate_times={**table.side.gate_times, **times})


def waited_gates(table: Table) -> list[LimitGate]:
    """Those at which a job waits."""
    return [gate_of(table, key) for key in table.gates.waiting]


def task_limits(table: Table, tasks: Iterable[str]) -> dict[str, list[LimitDefinition]]:
    """See :meth:`jobify.storage.limiting.LimitPort.task_limits`."""
    side = table.side
    return {task: [side.limits[name] for name in side.task_limits[task]] for task in tasks if task in side.task_limits}


def row_of(table: Table, id: str) -> Row:
    """The row of a job that is there."""
    row = table.find(id)
    assert row is not None
    return row
