"""Bring back what was cancelled for jobs that are tried again. Which that is, :mod:`jobify.storage.revival` decides.
Called inside the transaction that puts those jobs back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobify.storage.revival import Known, Revival, plan
from jobify.storage.sql.dependencies import parent_state, unkeep_parents
from jobify.storage.sql.statements import Statements
from jobify.types import Microseconds

__all__ = ("revive",)


def revive(statements: Statements, ids: Sequence[str], *, now: Microseconds) -> None:
    """Let those wait again that were cancelled for jobs with these ids, which wait again."""
    fallen = sorted(statements.rows_for("cancelled_for", ids))
    if not fallen:
        return
    candidates = {seq: id for seq, id, _ in fallen}
    edges = _edges(statements, candidates)
    parents = {parent for parent, _ in edges if parent > 0 and parent not in candidates}
    known = {
        standing.seq: Known(id, standing.status, *standing.root(id))
        for id, *columns in statements.rows_for("parent_states_by_seq", sorted(parents))
        for standing in (parent_state(columns),)
    }
    refused = _refused(statements, [(seq, key) for seq, _, key in fallen if key is not None])
    _write(statements, plan(candidates, edges, known, refused), now)


def _edges(statements: Statements, candidates: Iterable[int]) -> list[tuple[int, int]]:
    """The dependencies of these, and those of the barriers before them."""
    edges = [(parent, child) for parent, child in statements.rows_for("edges_into", list(candidates))]
    barriers = sorted({parent for parent, _ in edges if parent < 0})
    return edges + [(parent, child) for parent, child in statements.rows_for("edges_into", barriers)]


def _refused(statements: Statements, keys: Sequence[tuple[int, str]]) -> list[int]:
    """Of these jobs with their unique keys, those that cannot have them."""
    taken = set(statements.rows_for("keys_taken", [key for _, key in keys]))
    refused = []
    for seq, key in keys:
        if key in taken:
            refused.append(seq)
        taken.add(key)
    return refused


def _write(statements: Statements, revival: Revival, now: Microseconds) -> None:
    statements.run_rows("revive", [(seq, blockers, now) for seq, blockers in revival.blockers.items()])
    statements.run_rows("close_barriers", [(-number, count) for number, count in revival.waiting.items()])
    statements.run_rows("reopen", revival.opened)
    statements.run_for("mark_parents", sorted({parent for parent, _ in revival.opened if parent > 0}))
    statements.run_rows("change_cause", [(seq, how.root, how.reason) for seq, how in revival.fallen.items()])
    unkeep_parents(statements, list(revival.fallen))
