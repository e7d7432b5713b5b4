"""Bring back what was cancelled for jobs that are tried again. Which that is, :mod:`jobify.storage.revival` decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jobify.storage.memory import rows
from jobify.storage.memory.dependencies import Dependencies, cause_of
from jobify.storage.memory.rows import Row
from jobify.storage.memory.table import Table
from jobify.storage.memory.ties import Barrier, Edge, Gate, Link, edges_of
from jobify.storage.revival import Known, plan
from jobify.types import Microseconds

__all__ = ("revive",)


def revive(table: Table, jobs: Dependencies, ids: Iterable[str], *, now: Microseconds) -> None:
    """Let those wait again that were cancelled for jobs with these ids, which wait again."""
    retried = [row for row in map(table.find, ids) if row is not None]
    fallen = dict(sorted((row.seq, row) for root in retried for row in _fallen_with(table, root)))
    if not fallen:
        return
    gates = {gate: -number for number, gate in enumerate(dict.fromkeys(row.gate for row in fallen.values()), 1) if gate}
    edges = _edges(fallen, gates)
    parents = {parent for parent, _ in edges if parent > 0 and parent not in fallen}
    known = {seq: _known(table, row) for seq in parents if (row := table.numbered(seq)) is not None}
    candidates = {seq: row.record.id for seq, row in fallen.items()}
    revival = plan(candidates, edges, known, _refused(table, fallen))
    links: dict[int, Gate] = {number: gate for gate, number in gates.items()}
    for seq, blockers in revival.blockers.items():
        table.upsert(rows.revived(fallen[seq], now, blockers))
    for number, waiting in revival.waiting.items():
        jobs.set_barrier(links[number], Barrier(waiting))
    for parent, child in revival.opened:
        if parent > 0:
            _reopen(table, parent, links[child] if child < 0 else rows.edge_of(fallen[child]))
    for seq, how in revival.fallen.items():
        row = fallen[seq]
        root = table.numbered(how.root)
        cause = row.cause if root is None else rows.edge_of(root)
        table.upsert(row._replace(record=row.record._replace(error=how.reason), cause=cause))


def _fallen_with(table: Table, root: Row) -> Iterable[Row]:
    """What was cancelled for a job, directly or through others."""
    cause, waiting, seen = rows.edge_of(root), [root], {root.seq}
    while waiting:
        for tie in edges_of(waiting.pop().children):
            child = table.linked(tie)
            if child is not None and child.seq not in seen and _fell_with(child, cause):
                seen.add(child.seq)
                waiting.append(child)
                yield child


def _fell_with(row: Row, cause: Edge) -> bool:
    return row.cause is not None and row.cause[:2] == cause[:2]


def _edges(fallen: Mapping[int, Row], gates: Mapping[Gate, int]) -> list[tuple[int, int]]:
    """The dependencies of these, and those of the gates before them, which have negative numbers."""
    direct: list[tuple[int, int]] = []
    before: dict[tuple[int, int], None] = {}
    for seq, row in fallen.items():
        if row.gate is None:
            direct += [(parent.seq, seq) for parent in row.parents]
            continue
        number = gates[row.gate]
        direct.append((number, seq))
        if (row.parents[0].seq, number) not in before:
            before.update(dict.fromkeys((parent.seq, number) for parent in row.parents))
    return [*direct, *before]


def _known(table: Table, row: Row) -> Known:
    tie, cause = cause_of(row, table)
    return Known(row.record.id, row.record.status, tie.seq, cause)


def _refused(table: Table, fallen: Mapping[int, Row]) -> list[int]:
    """Those whose unique keys other jobs have."""
    keys: set[str] = set()
    refused = []
    for seq, row in fallen.items():
        key = row.record.unique_key
        if key is not None and (key in keys or table.holder(key) is not None):
            refused.append(seq)
        elif key is not None:
            keys.add(key)
    return refused


def _reopen(table: Table, parent: int, link: Link) -> None:
    row = table.numbered(parent)
    if row is not None and link not in row.waiters:
        table.upsert(row._replace(waiters=(*row.waiters, link)))
