"""find and count: which jobs match, in which order, and how many of each kind."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from jobify.model.records import CountKey, JobQuery, JobRecord, Relations
from jobify.storage.memory.needs import Find
from jobify.storage.memory.rows import RUNNING, Row
from jobify.storage.memory.ties import Barrier, Gate, edges_of

__all__ = ("matches", "page", "relations", "shown", "tally")


def shown(row: Row, barriers: Mapping[Gate, Barrier]) -> JobRecord:
    """The record as others see it: a barrier is one blocker in the row, and as many parents as it waits for."""
    if row.gate is None or row.record.blockers == 0 or row.gate not in barriers:
        return row.record
    return row.record._replace(blockers=row.record.blockers + barriers[row.gate].waiting - 1)


def relations(row: Row, find: Find) -> Relations:
    """What a job depends on and what depends on it, by the ids that they have now."""
    parents = ((tie, find(tie.seq)) for tie in row.parents)
    children = ((tie, find(tie.seq)) for tie in sorted(edges_of(row.children)))
    return Relations(
        tuple(tie.id if parent is None else parent.record.id for tie, parent in parents),
        tuple(child.record.id for tie, child in children if child is not None and child.version == tie.version),
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
    except (ValueError, AttributeError):  # not JSON, or not an object: others wrote it, or nobody did
        return False
    return isinstance(metadata, dict) and all(
        name in metadata and _is_equal(metadata[name], value) for name, value in pairs
    )


def _is_equal(one: object, other: object) -> bool:
    """As JSON has it: 1 is 1.0, but not true."""
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def page(jobs: Iterable[JobRecord], query: JobQuery) -> list[JobRecord]:
    """The first jobs after the place where the page begins, in the order that is asked for."""
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
