"""Gates of limits in a SQL database, and what claims hold. Called inside a transaction.

Gates are locked once in a transaction, in the order of their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobify.model.limit_gates import LimitGate
from jobify.storage.limit_decisions import GateKey
from jobify.storage.sql.statements import Row, Statements
from jobify.types import Microseconds

__all__ = ("Gates", "Holder", "release_limits")


class Holder(NamedTuple):
    """What a claim holds."""

    id: str
    fence: int
    gate: int
    batch: str | None
    """That of the job, which holds the gate once. None: the claim holds it by itself."""


class Gates:
    """Reads, locks and writes gates."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def locked(self, keys: Iterable[GateKey], ids: Iterable[int] = ()) -> dict[GateKey, LimitGate]:
        """The gates of these keys, which are made where they are missing, and others by their ids."""
        wanted = list(dict.fromkeys(keys))
        found = self.by_key(wanted)
        missing = sorted(set(wanted) - {(gate.name, gate.key) for gate in found})
        if missing:
            self._statements.run_rows("add_gates", missing)
            found += self.by_key(missing)
        known = {gate.id for gate in found}
        if self._statements.locks_rows:
            found = self.locked_by_id(known.union(ids))
        else:
            found += self.by_id(set(ids) - known)
        return {(gate.name, gate.key): gate for gate in found}

    def locked_by_id(self, ids: Iterable[int]) -> list[LimitGate]:
        """These gates, as they are once they are locked."""
        ordered = sorted(ids)
        if self._statements.locks_rows:
            self._statements.rows_for("lock_gates", ordered)
        return self.by_id(ordered)

    def locked_of(self, names: Sequence[str]) -> list[LimitGate]:
        """All gates of these limits."""
        return self.locked_by_id(self._statements.rows_for("gates_of_limits", names))

    def by_id(self, ids: Iterable[int]) -> list[LimitGate]:
        """These gates as they are."""
        return [gate_of(columns) for columns in self._statements.rows_for("gates", sorted(ids))]

    def by_key(self, keys: Sequence[GateKey]) -> list[LimitGate]:
        """The gates of these keys as they are."""
        return [gate_of(columns) for columns in self._statements.rows_of("gates_of_keys", keys)] if keys else []

    def write(self, gates: Iterable[LimitGate]) -> None:
        """Write gates that are locked."""
        rows = [
            (g.id, g.active, g.tat, g.closed_until, g.opens_at(), int(g.is_waited), g.turned_at)
            for g in sorted(gates, key=lambda gate: gate.id)
        ]
        self._statements.run_rows("change_gates", rows)

    def holders(self, rows: Iterable[Row]) -> list[Holder]:
        """Rows that say what claims hold."""
        return [Holder._make(row) for row in rows]

    def release_settled(
        self, holders: Sequence[Holder], closings: Mapping[int, Microseconds], at: Microseconds
    ) -> tuple[dict[int, LimitGate], set[int]]:
        """These claims were settled at this time and hold nothing any more; their gates by id, and those of them in
        which there is a place more. ``closings``: until when rates close."""
        gates, freed = self._count_down(holders, closings, at)
        self._statements.run_for("drop_holders", list(dict.fromkeys(holder.id for holder in holders)))
        return gates, freed

    def release(self, holders: Sequence[Holder]) -> list[LimitGate]:
        """These claims hold nothing any more, kept or not; the gates in which there is a place more."""
        gates, freed = self._count_down(holders, {}, 0)
        for id, fence in dict.fromkeys((holder.id, holder.fence) for holder in holders):
            self._statements.run("drop_holder", id, fence)
        return [gates[gate] for gate in freed]

    def _count_down(
        self, holders: Sequence[Holder], closings: Mapping[int, Microseconds], at: Microseconds
    ) -> tuple[dict[int, LimitGate], set[int]]:
        gates = self.locked_by_id({holder.gate for holder in holders}.union(closings))
        counts = self._places(holders)
        for gate in gates:
            gate.release(counts[gate.id], at)
            if gate.id in closings:
                gate.close(closings[gate.id])
        self.write(gates)
        return {gate.id: gate for gate in gates}, counts.keys() & {gate.id for gate in gates}

    def _places(self, holders: Sequence[Holder]) -> Counter[int]:
        """How many places of each gate these claims release: of a batch, the last one releases its own. The gates are
        locked, so that two ends of a batch at once see each other."""
        counts = Counter(holder.gate for holder in holders if holder.batch is None)
        batches = list(dict.fromkeys(holder.batch for holder in holders if holder.batch is not None))
        if batches:
            leaving = {holder[:3] for holder in holders}
            others = self.holders(self._statements.rows_for("holders_of_batches", batches))
            held = {(one.gate, one.batch) for one in others if one[:3] not in leaving}
            counts.update(gate for gate, _ in {(one.gate, one.batch) for one in holders if one.batch} - held)
        return counts


def release_limits(statements: Statements, owners: Sequence[int]) -> None:
    """These owners hold no limits any more. Called inside the transaction that takes their jobs."""
    gates = Gates(statements)
    gates.release(gates.holders(statements.rows_for("holders_of_owners", owners)))


def gate_of(columns: Sequence[Any]) -> LimitGate:
    """A row of ``gate_columns``."""
    gate = LimitGate(*columns)
    gate.is_waited = bool(gate.is_waited)
    return gate
