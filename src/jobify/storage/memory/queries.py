"""Reading: find, count, relations, messages, the workflow of a job."""

from __future__ import annotations

import heapq
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from jobify.model.records import CountKey, JobQuery, JobRecord, MessageKind, MessageRecord, Relations
from jobify.storage.kinship import Kinship, Relative
from jobify.storage.memory.needs import Find, is_needed
from jobify.storage.memory.rows import RUNNING, Barrier, Gate, Row, edges_of
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("count_purgeable", "is_over", "kinship", "matches", "messages_after", "page", "relations", "shown", "tally")

_ERROR_LENGTH: Final = 300
"""Characters of an error that the workflow of a job shows."""


def shown(row: Row, barriers: Mapping[Gate, Barrier]) -> JobRecord:
    """The record as others see it: a barrier is one blocker in the row, and as many parents as it waits for."""
    if row.gate is None or row.record.blockers == 0 or row.gate not in barriers:
        return row.record
    return row.record._replace(blockers=row.record.blockers + barriers[row.gate].waiting - 1)


def relations(row: Row, find: Find) -> Relations:
    """What a job depends on and what depends on it, by the ids that they have now."""
    parents = ((edge, find(edge.seq)) for edge in row.parents)
    children = ((edge, find(edge.seq)) for edge in sorted(edges_of(row.children)))
    return Relations(
        tuple(edge.id if parent is None else parent.record.id for edge, parent in parents),
        tuple(child.record.id for edge, child in children if child is not None and child.version == edge.version),
    )


def matches(job: JobRecord, query: JobQuery) -> bool:
    """Whether a query asks for this job, wherever its page begins."""
    return (
        (query.statuses is None or job.status in query.statuses)
        and (query.tasks is None or job.task in query.tasks)
        and (query.queues is None or job.queue in query.queues)
        and (query.is_schedule is None or (job.rule is not None) is query.is_schedule)
        and (query.is_dead is None or job.is_dead is query.is_dead)
        and (query.owner is None or (job.status == RUNNING and job.owner == query.owner))
        and (query.created_after is None or job.created_at >= query.created_after)
        and (query.created_before is None or job.created_at < query.created_before)
        and (not query.metadata or _has_metadata(job.options, query.metadata))
    )


def _has_metadata(options: str | None, pairs: Iterable[tuple[str, Any]]) -> bool:
    try:
        metadata = json.loads(options or "{}").get("metadata")
    except (ValueError, AttributeError):  # not JSON, or not an object
        return False
    return isinstance(metadata, dict) and all(
        name in metadata and _is_equal(metadata[name], value) for name, value in pairs
    )


def _is_equal(one: object, other: object) -> bool:
    """As JSON has it: 1 is 1.0, but not true."""
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def page(jobs: Iterable[JobRecord], query: JobQuery) -> list[JobRecord]:
    """The first jobs after the place where the page begins, in the order of the query."""
    after, first = query.after_id, heapq.nsmallest
    if query.is_newest_first:
        first = heapq.nlargest
        jobs = (job for job in jobs if after is None or job.id < after)
    else:
        jobs = (job for job in jobs if after is None or job.id > after)
    return first(query.limit, jobs, key=lambda job: job.id)


def tally(jobs: Iterable[JobRecord]) -> Mapping[CountKey, int]:
    """How many there are of each kind."""
    return Counter(CountKey(job.task, job.queue, job.status, job.is_dead) for job in jobs)


def count_purgeable(table: Table, now: Microseconds) -> Mapping[CountKey, int]:
    """How many of each kind ``purge`` would find first."""
    find = table.committed_finder()
    return tally(row.record for row in table.committed() if is_over(row, now) and not is_needed(row, find))


def is_over(row: Row, now: Microseconds) -> bool:
    return row.record.delete_at is not None and row.record.delete_at <= now


def messages_after(row: Row, number: int, limit: int, kind: MessageKind | None) -> tuple[MessageRecord, ...]:
    """What the job has published after its message of this number, of one kind or of any. The numbers have no gaps."""
    if kind is not None:
        later = (message for message in row.messages if message.number > number and message.kind is kind)
        return tuple(islice(later, max(limit, 0)))
    first = row.messages[0].number if row.messages else 1
    start = max(number + 1 - first, 0)
    return row.messages[start : start + limit]


def kinship(start: Row, find: Find, limit: int) -> Kinship:
    """All that is connected with a job, the nearest first, at most so many jobs and barriers."""
    found: dict[int, Row] = {start.seq: start}
    gates: dict[Gate, int] = {}
    edges: dict[tuple[int, int], None] = {}
    waiting = deque([start])
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
    for edge in row.parents:
        parent = find(edge.seq)
        if parent is not None:
            yield parent
    for link in row.children:
        for edge in link.behind if isinstance(link, Gate) else (link,):
            child = find(edge.seq)
            if child is not None and child.version == edge.version:
                yield child


def _edges(row: Row, gates: dict[Gate, int]) -> Iterator[tuple[int, int]]:
    if row.gate is not None:
        yield gates.setdefault(row.gate, -len(gates) - 1), row.seq
    else:
        yield from ((edge.seq, row.seq) for edge in row.parents)
    for link in row.children:
        if isinstance(link, Gate):
            yield row.seq, gates.setdefault(link, -len(gates) - 1)


def _relative(row: Row) -> Relative:
    job = row.record
    error = None if job.error is None else job.error[:_ERROR_LENGTH]
    return Relative(row.seq, job.id, job.task, job.status, job.is_dead, error)
