"""Which jobs of a task make batches: the same decisions in every storage.

A batch has jobs of one key, in the order of claims, at most as many as its rule says. It goes when it is full, or when
the oldest of its jobs could run for the time of the rule (since its due time, or its insert if that was later). The
batch with the first job goes first.

No two claims share a batch. What makes none yet is not changed; ``next_due_at`` of the answer says when the first one
goes that is not full. A job that lacks the key of the rule is claimed in no batch, UNKEYED. One that runs apart, or was
parked, is a batch of one. The claims of batches come after those of other lanes.

A claim looks at a bounded number of ready jobs (:func:`lookahead`). If more are ready than that, none need wait for
others: where no batch of them goes by itself, the largest one goes as it is. So whatever is ready comes into view as
long as there is a free slot, and nothing starves behind jobs of many other keys. With many thousands of ready jobs of
as many keys, batches are smaller than they could be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, Final, NamedTuple

from jobify.model.limit_gates import LimitState, limits_of_options
from jobify.model.records import BatchRule, Claim, Claimed, ClaimRequest, TaskSlots
from jobify.types import Microseconds

__all__ = (
    "BatchChoice",
    "Candidate",
    "batch_lanes",
    "candidate",
    "choose",
    "in_order",
    "joined",
    "lookahead",
    "with_batches",
    "with_single_jobs",
    "without_batches",
)

_LEAST: Final = 1000
_SIZES: Final = 4
"""So many jobs are looked at, or so many full batches if these are more."""
UNKEYED: Final = ""
"""In the place of a key: that of the job is not known. A key is JSON, and so is never empty."""


class Candidate(NamedTuple):
    """A ready job of a task whose jobs are taken in batches."""

    number: Any
    """What the storage calls it."""
    key: str | None
    """None: the rule has no key. ``UNKEYED``: the job does not have it yet."""
    since: Microseconds
    """When it could run."""
    cost: int = 1
    """For rates; 1 where it has not been read."""


class BatchChoice(NamedTuple):
    """What a claim takes."""

    batches: list[list[Candidate]]
    """What goes as batches; also jobs without their key, listed together, which are no batch."""
    next_at: Microseconds | None
    """When the first batch goes that is not full. None if none waits for that."""
    has_more: bool
    """Whether more could be taken now."""


def batch_lanes(request: ClaimRequest) -> list[tuple[TaskSlots, BatchRule]]:
    """The lanes of a request that take batches, with their rules."""
    return [(lane, lane.batch) for lane in request.slots if lane.batch is not None]


def without_batches(request: ClaimRequest) -> ClaimRequest:
    """The request with the other lanes only."""
    return request._replace(slots=tuple(lane for lane in request.slots if lane.batch is None))


def lookahead(rule: BatchRule, limit: int) -> int:
    """How many jobs to look at, in the order of claims."""
    most = max(_LEAST, _SIZES * rule.size)
    return most if rule.key is not None else min(most, max(limit, 1) * rule.size)


def candidate(
    rule: BatchRule, number: Any, due_at: Microseconds, created_at: Microseconds, options: str | None
) -> Candidate:
    """A ready job. Without its options the cost is 1."""
    its = limits_of_options(options)
    key = None if rule.key is None else its.limit_keys.get(rule.key, UNKEYED)
    return Candidate(number, key, max(due_at, created_at), its.cost)


def choose(
    rule: BatchRule, jobs: Sequence[Candidate], limit: int, due_by: Microseconds, *, most: int | None = None
) -> BatchChoice:
    """Make at most ``limit`` batches of the first ready jobs, in their order; ``due_by``: batches that would go by then
    go now. ``most``: how many jobs are considered, by default as :func:`lookahead` says; whether there are more
    counts."""
    most = lookahead(rule, limit) if most is None else most
    is_whole = len(jobs) <= most
    batches = _batches(rule, jobs[:most])
    next_at: Microseconds | None = None
    going: list[list[Candidate]] = []
    for batch in batches:
        at = _goes_at(rule, batch, due_by)
        if at <= due_by:
            going.append(batch)
        else:
            next_at = at if next_at is None else min(next_at, at)
    if not (going or is_whole):
        going = [max(batches, key=len)]
    return BatchChoice(going[: max(limit, 0)], next_at, not is_whole or len(going) > limit)


def _batches(rule: BatchRule, jobs: Iterable[Candidate]) -> list[list[Candidate]]:
    """Batches of these jobs, full or not, in the order of their first jobs."""
    batches: list[list[Candidate]] = []
    growing: dict[str | None, list[Candidate]] = {}
    for job in jobs:
        batch = growing.get(job.key)
        if batch is None or len(batch) == rule.size:
            batch = growing[job.key] = []
            batches.append(batch)
        batch.append(job)
    return batches


def _goes_at(rule: BatchRule, batch: Sequence[Candidate], due_by: Microseconds) -> Microseconds:
    """When a batch goes; 0 for now."""
    if len(batch) == rule.size or batch[0].key == UNKEYED:
        return 0
    at = min(job.since for job in batch) + rule.wait
    return 0 if at > due_by + 2 * rule.wait else at  # the clock was set back: what was ready once stays ready


def in_order(lines: Iterable[Sequence[tuple[tuple[int, int, int], Candidate]]], most: int) -> list[Candidate]:
    """The first jobs of several lines, each in its own order, by what those at the heads are ordered by."""
    all_lines = [line for line in lines if line]
    heads = [(line[0][0], number, 0) for number, line in enumerate(all_lines)]
    heapify(heads)
    found: list[Candidate] = []
    while heads and len(found) < most:
        _, number, place = heads[0]
        line = all_lines[number]
        found.append(line[place][1])
        if place + 1 < len(line):
            heapreplace(heads, (line[place + 1][0], number, place + 1))
        else:
            heappop(heads)
    return found


def with_batches(
    claims: Sequence[Claim], choice: BatchChoice, number_of: Callable[[Claim], Any]
) -> tuple[list[Claim], list[tuple[str, ...]]]:
    """What was taken, in its order, and the batches of it: smaller ones where not all of a batch could be taken."""
    by_number = {number_of(claim): claim for claim in claims}
    taken: list[Claim] = []
    batches: list[tuple[str, ...]] = []
    for batch in choice.batches:
        some = [by_number[job.number] for job in batch if job.number in by_number]
        if batch[0].key == UNKEYED:
            some = [claim._replace(limits=LimitState.UNKEYED) for claim in some]
        elif some:
            batches.append(tuple(claim.id for claim in some))
        taken += some
    return taken, batches


def joined(first: Claimed, second: Claimed) -> Claimed:
    """The answers to the two parts of a request."""
    due = [at for at in (first.next_due_at, second.next_due_at) if at is not None]
    return Claimed(
        [*first.claims, *second.claims],
        first.has_more or second.has_more,
        min(due, default=None),
        first.has_suspects or second.has_suspects,
        first.has_parked or second.has_parked,
        first.has_limits or second.has_limits,
        first.moved + second.moved,
        first.batches + second.batches,
    )


def with_single_jobs(claimed: Claimed, request: ClaimRequest) -> Claimed:
    """The answer, where each job of a lane of batches that was claimed by itself is a batch: because it runs apart, or
    its call was parked."""
    tasks = {task for lane, _ in batch_lanes(request) for task in lane.tasks}
    known = {id for batch in claimed.batches for id in batch}
    single = [
        (claim.id,)
        for claim in claimed.claims
        if claim.task in tasks and claim.id not in known and claim.limits is not LimitState.UNKEYED
    ]
    return claimed._replace(batches=(*claimed.batches, *single)) if single else claimed
