"""The gates of limits as rows: locked, read and written back. See :mod:`jobify.storage.sql.limits`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jobify.model.limit_gates import LimitGate
from jobify.storage.sql.statements import Statements

__all__ = ("change", "gate_of", "gates_by_id", "locked_gates")


def locked_gates(statements: Statements, ids: Iterable[int]) -> list[LimitGate]:
    """The gates with these ids, locked in their order, as they are after that."""
    ordered = sorted(ids)
    if statements.locks_rows:
        statements.rows_for("lock_gates", ordered)
    return gates_by_id(statements, ordered)


def gates_by_id(statements: Statements, ids: Sequence[int]) -> list[LimitGate]:
    return [gate_of(columns) for columns in statements.rows_for("gates", ids)]


def change(statements: Statements, gates: Iterable[LimitGate]) -> None:
    rows = [(g.id, g.active, g.tat, g.closed_until, g.opens_at(), int(g.is_waited)) for g in gates]
    statements.run_rows("change_gates", rows)


def gate_of(columns: Sequence[Any]) -> LimitGate:
    gate = LimitGate(*columns)
    gate.is_waited = bool(gate.is_waited)
    return gate
