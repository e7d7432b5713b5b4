"""What a process asks a storage for, and what it gets: claims. Part of :mod:`jobify.model.records`."""

from __future__ import annotations

from typing import NamedTuple

from jobify.model.limit_gates import LimitState
from jobify.model.status import ClaimScope
from jobify.types import Microseconds

__all__ = ("BatchRule", "Claim", "ClaimRequest", "Claimed", "TaskSlots")


class BatchRule(NamedTuple):
    """How the jobs of a task are taken together. Not stored: a claimant knows it from its code."""

    size: int
    """The most jobs of a batch, at least 1."""
    wait: Microseconds
    """How long a job waits for others, from when it could run (the later of ``due_at`` and ``created_at``). Then it is
    taken with those that are ready, however few."""
    key: str | None = None
    """The jobs of a batch have the same value of this key, by its text in their ``limit_keys``. None: all jobs of the
    task may be in one batch."""


class TaskSlots(NamedTuple):
    """Tasks that share slots, and the number of free slots."""

    tasks: tuple[str, ...]
    limit: int
    """How many jobs may be taken; with ``batch``, how many batches."""
    batch: BatchRule | None = None
    """Set: these are the names of one task, whose jobs are taken in batches."""


class ClaimRequest(NamedTuple):
    owner: int
    slots: tuple[TaskSlots, ...]
    queues: tuple[str, ...] | None = None
    """Only these queues. None means every queue."""
    ahead: Microseconds = 0
    """Jobs that are due within this time are claimed, too, so that they start at the due time."""
    scope: ClaimScope = ClaimScope.ANY
    code: str = ""
    """With the scope ``PARKED``: the code of the claimant. Calls that did not fit it are not claimed."""


class Claim(NamedTuple):
    """A job that its claimant may now run. ``(id, owner, fence)`` is the proof of ownership."""

    id: str
    task: str
    queue: str
    priority: int
    due_at: Microseconds
    created_at: Microseconds
    payload: bytes
    rule: str | None
    offset_at: Microseconds | None
    options: str | None
    origin: int | None
    fence: int
    attempt: int
    """The number of this attempt, from 1."""
    run_count: int
    failure_count: int
    crashes: int
    expires_at: Microseconds | None
    is_snoozed: bool = False  # of a schedule: its task has postponed this run
    limits: LimitState = LimitState.NONE  # not a column: whether it holds limits


class Claimed(NamedTuple):
    """The answer to a :class:`ClaimRequest`."""

    claims: list[Claim]
    has_more: bool
    """Whether eligible jobs may be left. If so, claim again as soon as a slot is free."""
    next_due_at: Microseconds | None
    """When the earliest job that was not considered is due. None if there is none. Past only if ``has_more``."""
    has_suspects: bool = False
    """Whether jobs that this request could take wait to run apart."""
    has_parked: bool = False
    """Whether any call is parked, of any task. It is claimed with the scope ``PARKED``."""
    has_limits: bool = False  # whether any task has limits
    moved: int = 0
    """How many eligible jobs this call has made to wait for a limit."""
    batches: tuple[tuple[str, ...], ...] = ()
    """The batches among ``claims``: the ids of the jobs of each, in order."""
