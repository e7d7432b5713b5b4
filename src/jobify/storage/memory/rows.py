"""A job as memory keeps it: its row, and the edges to the jobs that it is connected with.

A row is an immutable value. :mod:`~jobify.storage.memory.transitions` says what each event makes of one.

Edges name a job by number and version, so that another job with the same id is not meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from jobify.model.records import AttemptRecord, JobRecord, MessageRecord, NewJob, Progress
from jobify.model.status import FAILURES, TERMINAL, JobStatus
from jobify.storage.limit_decisions import GateKey
from jobify.storage.suspicion import Suspicion
from jobify.types import Microseconds

__all__ = (
    "ENDED",
    "RUNNING",
    "SCHEDULED",
    "SUCCESS",
    "Barrier",
    "Edge",
    "Gate",
    "GateTimes",
    "KeptLimits",
    "Link",
    "PendingCancel",
    "Row",
    "can_be_retried",
    "changed",
    "edge_of",
    "edges_of",
    "has_ended",
    "holds",
    "runs_apart",
)

SCHEDULED, RUNNING, SUCCESS = JobStatus.SCHEDULED.value, JobStatus.RUNNING.value, JobStatus.SUCCESS.value
ENDED = frozenset(status.value for status in TERMINAL)


class Edge(NamedTuple):
    """A job, as another one knows it."""

    seq: int
    version: int
    """What was put in the place of a child, or of a cause, is another job; what was put in that of a parent is waited
    for as that was."""
    id: str
    """The id that it had."""


class Gate:
    """A barrier: all behind it wait for all of the same parents, each of which holds the gate instead of so many edges.

    ``behind`` grows while the call goes on that makes it, and never after. How far it is open says :class:`Barrier`.
    """

    __slots__ = ("behind",)

    def __init__(self) -> None:
        self.behind: list[Edge] = []


Link: TypeAlias = Edge | Gate
"""What a parent holds: a child, or a barrier with children behind it."""


class Barrier(NamedTuple):
    """How a gate stands."""

    waiting: int
    """How many of the parents have not succeeded yet."""
    ended_at: Microseconds = 0
    """When the last of those that have ended did."""


def edges_of(links: Iterable[Link]) -> Iterator[Edge]:
    """The children that these links lead to."""
    for link in links:
        if isinstance(link, Gate):
            yield from link.behind
        else:
            yield link


class GateTimes(NamedTuple):
    """The times of a gate of a rate; see :class:`~jobify.model.limit_gates.LimitGate`."""

    tat: Microseconds = 0
    closed_until: Microseconds = 0
    turned_at: Microseconds = 0


class KeptLimits(NamedTuple):
    """What a function holds that still runs, although its claim has been settled."""

    gates: tuple[GateKey, ...]
    unit: str | None
    """The batch that holds them once."""


class PendingCancel(NamedTuple):
    """What ``cancel`` said about a running job."""

    reason: str
    at: Microseconds
    delete_at: Microseconds | None


class Row(NamedTuple):
    """A job, with what belongs to it and what waits for its end."""

    seq: int
    """The order of insertion."""
    record: JobRecord
    version: int = 0
    """How often another job has been put in this place."""
    is_paused: bool = False
    history: tuple[AttemptRecord, ...] = ()
    messages: tuple[MessageRecord, ...] = ()
    parents: tuple[Edge, ...] = ()
    gate: Gate | None = None
    """The barrier between the parents and this job, if there is one."""
    children: tuple[Link, ...] = ()
    waiters: tuple[Link, ...] = ()
    """Those of the children that wait for the end of this job; empty once it has ended."""
    suspicion: Suspicion | None = None
    """That it had begun in a process that died. It may be out of date: see ``attempt`` there."""
    codes: tuple[str, ...] = ()
    """The code that its call did not fit."""
    successor: tuple[NewJob, Progress] | None = None
    cancel: PendingCancel | None = None
    held: tuple[GateKey, ...] = ()
    """The gates of limits that it holds, as long as it runs."""
    unit: str | None = None
    """The batch that holds them once for all of its jobs."""
    waits_at: GateKey | None = None
    """The gate of a limit that it waits at; one of its blockers."""
    place: int | None = None
    """Its place there, in a line of turns."""
    claimed_key: str | None = None
    """The unique key that it had before its last claim."""
    cause: Edge | None = None
    """What it was cancelled for: a job that ended, or was deleted, and took this one with it."""


def has_ended(row: Row) -> bool:
    """Whether it makes room for a new job. A status that is not known has not ended."""
    return row.record.status in ENDED


def holds(row: Row, unique_key: str) -> bool:
    """Whether no other job may have this key because of this one."""
    return row.record.unique_key == unique_key and not has_ended(row)


def edge_of(row: Row) -> Edge:
    """How others know this job."""
    return Edge(row.seq, row.version, row.record.id)


def can_be_retried(row: Row) -> bool:
    """Whether it has failed, timed out or been stopped for good."""
    return row.record.status in FAILURES


def runs_apart(row: Row) -> bool:
    """Whether it is on trial, or waits to be: whatever else blocks a job is gone when it runs, but a pause."""
    others = row.is_paused + (row.record.parking is not None) + (row.waits_at is not None)
    return row.record.blockers > others


def changed(row: Row, **fields: Any) -> Row:
    return row._replace(record=row.record._replace(**fields))
