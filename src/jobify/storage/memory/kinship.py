"""The workflow that a job belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from jobify.storage.kinship import Kinship, Relative
from jobify.storage.memory.needs import Find
from jobify.storage.memory.rows import Row
from jobify.storage.memory.ties import Gate

__all__ = ("kinship",)

_SAID = 300
"""Characters of an error that are told."""


def kinship(asked: Row, find: Find, limit: int) -> Kinship:
    """All that is connected with a job, the nearest first, at most so many jobs and barriers."""
    found: dict[int, Row] = {asked.seq: asked}
    gates: dict[Gate, int] = {}
    edges: dict[tuple[int, int], None] = {}
    waiting = deque([asked])
    is_whole = True
    while waiting:
        row = waiting.popleft()
        edges.update(dict.fromkeys(_edges(row, gates)))
        for other in _neighbours(row, find):
            if other.seq in found:
                continue
            if len(found) >= limit:
                is_whole = False
                break
            found[other.seq] = other
            waiting.append(other)
    known = tuple(edge for edge in edges if all(number < 0 or number in found for number in edge))
    return Kinship(tuple(_relative(found[seq]) for seq in sorted(found)), known, is_whole)


def _neighbours(row: Row, find: Find) -> Iterator[Row]:
    """Parents and children, each time a gate is met all that it knows."""
    for tie in row.parents:
        parent = find(tie.seq)
        if parent is not None:
            yield parent
    for link in row.children:
        for tie in link.behind if isinstance(link, Gate) else (link,):
            child = find(tie.seq)
            if child is not None and child.version == tie.version:
                yield child


def _edges(row: Row, gates: dict[Gate, int]) -> Iterator[tuple[int, int]]:
    if row.gate is not None:
        yield gates.setdefault(row.gate, -len(gates) - 1), row.seq
    else:
        yield from ((tie.seq, row.seq) for tie in row.parents)
    for link in row.children:
        if isinstance(link, Gate):
            yield row.seq, gates.setdefault(link, -len(gates) - 1)


def _relative(row: Row) -> Relative:
    job = row.record
    error = None if job.error is None else job.error[:_SAID]
    return Relative(row.seq, job.id, job.task, job.status, job.is_dead, error)
