"""Bring back what was cancelled for jobs that are tried again. Which that is, :mod:`jobify.storage.revival` decides.
Called inside the transaction that puts those jobs back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobify.storage.revival import Known, Revival, plan
from jobify.storage.sqlite.dependencies import parent_state, unkeep_parents
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import rows_for, write_for, write_rows
from jobify.types import Microseconds

__all__ = ("revive",)


def revive(database: Session, ids: Sequence[str], *, now: Microseconds) -> None:
    """Let those wait again that were cancelled for jobs with these ids, which wait again."""
    fallen = sorted(rows_for(database, "cancelled_for", ids))
    if not fallen:
        return
    candidates = {seq: id for seq, id, _ in fallen}
    edges = _edges(database, candidates)
    parents = {parent for parent, _ in edges if parent > 0 and parent not in candidates}
    known = {
        standing.seq: Known(id, standing.status, *standing.root(id))
        for id, *columns in rows_for(database, "parent_states_by_seq", sorted(parents))
        for standing in (parent_state(columns),)
    }
    refused = _refused(database, [(seq, key) for seq, _, key in fallen if key is not None])
    _write(database, plan(candidates, edges, known, refused), now)


def _edges(database: Session, candidates: Iterable[int]) -> list[tuple[int, int]]:
    """The dependencies of these, and those of the barriers before them."""
    edges = [(parent, child) for parent, child in rows_for(database, "edges_into", list(candidates))]
    barriers = sorted({parent for parent, _ in edges if parent < 0})
    return edges + [(parent, child) for parent, child in rows_for(database, "edges_into", barriers)]


def _refused(database: Session, keys: Sequence[tuple[int, str]]) -> list[int]:
    """Of these jobs with their unique keys, those that cannot have them."""
    taken = set(rows_for(database, "keys_taken", [key for _, key in keys]))
    refused = []
    for seq, key in keys:
        if key in taken:
            refused.append(seq)
        taken.add(key)
    return refused


def _write(database: Session, revival: Revival, now: Microseconds) -> None:
    write_rows(database, "revive", [(seq, blockers, now) for seq, blockers in revival.blockers.items()])
    write_rows(database, "close_barriers", [(-number, count) for number, count in revival.waiting.items()])
    write_rows(database, "reopen", revival.opened)
    write_for(database, "mark_parents", sorted({parent for parent, _ in revival.opened if parent > 0}))
    write_rows(database, "change_cause", [(seq, how.root, how.reason) for seq, how in revival.fallen.items()])
    unkeep_parents(database, list(revival.fallen))
