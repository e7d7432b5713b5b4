"""Jobs that others may still need, when something is to delete them or to take their place: see
:mod:`jobify.storage.needs`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from jobify.model.records import NewJob
from jobify.model.status import JobStatus
from jobify.storage.memory.rows import SUCCESS, Edge, Gate, Row, edges_of, has_ended
from jobify.storage.memory.table import Table
from jobify.storage.needs import aside_id, parents_before, spared

__all__ = ("is_needed", "make_room", "make_room_if_needed", "without_needed")

Find: TypeAlias = Callable[[int], Row | None]
"""A row by its seq."""

_DONE = frozenset({SUCCESS, JobStatus.CANCELLED.value})


def is_needed(row: Row, find: Find) -> bool:
    """Whether a job that depends on this ended one may still run."""
    if row.record.status not in _DONE:
        return False
    children = (_linked(edge, find) for edge in edges_of(row.children))
    return any(child is not None and _wants(child, find) for child in children)


def _linked(edge: Edge, find: Find) -> Row | None:
    row = find(edge.seq)
    return row if row is not None and row.version == edge.version else None


def _wants(child: Row, find: Find) -> bool:
    """Whether it may still run: it has not ended, or may be tried again, alone or with what it was cancelled for."""
    if child.record.status not in _DONE:
        return True
    if child.record.status == SUCCESS or child.cause is None:
        return False
    root = _linked(child.cause, find)
    return root is not None and root.record.status not in _DONE


def make_room(table: Table, jobs: Sequence[NewJob]) -> Mapping[str, str]:
    """Let ended jobs give their ids to these; the new ids of those that stay, because they are needed, or because
    another one of ``jobs`` that comes first depends on them."""
    wanted = parents_before(jobs)
    ended = {row.seq: row for job in jobs if (row := table.find(job.id)) is not None and has_ended(row)}
    if not ended:
        return {}
    kept = {seq for seq, row in ended.items() if row.record.id in wanted}
    kept |= spared(_needs(ended.values(), table.numbered), ended.keys() - kept)
    times = {job.id: job.created_at for job in jobs}
    for seq, row in ended.items():
        if seq not in kept:
            table.remove(row)
    return {row.record.id: _set_aside(table, row, times[row.record.id]) for row in map(ended.__getitem__, sorted(kept))}


def make_room_if_needed(table: Table, job: NewJob) -> None:
    """Give another id to the ended job that has the id of this one, if it is needed."""
    old = table.find(job.id)
    if old is not None and has_ended(old) and is_needed(old, table.numbered):
        _set_aside(table, old, job.created_at)


def without_needed(table: Table, found: Iterable[Row]) -> list[Row]:
    """These rows, without ended ones that others need which are not among them."""
    victims = {row.seq: row for row in found}
    kept = spared(_needs(victims.values(), table.numbered), victims.keys())
    return [row for seq, row in victims.items() if seq not in kept]


def _needs(found: Iterable[Row], find: Find) -> list[tuple[int, int]]:
    """Pairs: one of these jobs, if it has ended and may be needed, and one that wants it."""
    needs: list[tuple[int, int]] = []
    gates: dict[Gate, int] = {}
    for row in found:
        if row.record.status not in _DONE:
            continue
        for link in row.children:
            if isinstance(link, Edge):
                needs += [(row.seq, link.seq)] if (child := _linked(link, find)) and _wants(child, find) else []
                continue
            if link not in gates:
                gates[link] = -len(gates) - 1
                behind = ((edge.seq, _linked(edge, find)) for edge in link.behind)
                needs += [(gates[link], seq) for seq, child in behind if child is not None and _wants(child, find)]
            needs.append((row.seq, gates[link]))
    return needs


def _set_aside(table: Table, row: Row, now: int) -> str:
    """Give an ended job another id, and leave it to the janitor; that id."""
    name = aside_id(row.record.id, lambda id: table.find(id) is not None)
    delete_at = now if row.record.delete_at is None else min(now, row.record.delete_at)
    table.remove(row)
    history = tuple(line._replace(job_id=name) for line in row.history)
    table.upsert(row._replace(record=row.record._replace(id=name, delete_at=delete_at), history=history))
    return name
