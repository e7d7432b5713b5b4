"""Claims: which jobs an owner gets.

Ordinary ones, groups of suspects that run apart, and parked calls that did not fit other code.
"""

from __future__ import annotations

import heapq
from typing import Final

from jobify.model.records import BatchRule, Claim, Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.batch_decisions import (
    Candidate,
    batch_lanes,
    candidate,
    choose,
    in_order,
    joined,
    lookahead,
    with_batches,
    with_single_jobs,
    without_batches,
)
from jobify.storage.memory import transitions
from jobify.storage.memory.rows import SCHEDULED, Row
from jobify.storage.memory.table import Table
from jobify.storage.suspicion import Suspicion, group_size
from jobify.types import Microseconds

__all__ = ("candidate_of", "claim", "order_of", "ready_rows")

_STEP: Final = 1000
"""Jobs that one claim considers at most when they have become due."""


def claim(table: Table, request: ClaimRequest, now: Microseconds) -> Claimed:
    """Take the jobs of the request; called inside ``with table``."""
    return with_single_jobs(_claim(table, request, now), request)


def _claim(table: Table, request: ClaimRequest, now: Microseconds) -> Claimed:
    if request.scope is ClaimScope.APART:
        claims = _claim_apart(table, request, now)
        return Claimed(claims, False, None, bool(_apart(table, request, now)))
    if request.scope is ClaimScope.PARKED:
        return _claim_parked(table, request, now)
    claimed = _claim_ordinary(table, request, now)
    if request.scope is ClaimScope.ANY and not (claimed.claims or claimed.has_more):
        claimed = claimed._replace(claims=_claim_apart(table, request, now))
    has_parked = bool(table.parked())
    return claimed._replace(has_suspects=bool(_apart(table, request, now)), has_parked=has_parked)


def _claim_ordinary(table: Table, request: ClaimRequest, now: Microseconds) -> Claimed:
    claims: list[Claim] = []
    has_more = False
    due_by = now + request.ahead
    _promote(table, due_by)
    for lane in without_batches(request).slots:
        taken, is_more_left = _claim_lane(table, lane, request, now)
        claims += taken
        has_more = has_more or is_more_left
    staged = table.staged.first()
    next_due_at = None if staged is None else staged.record.due_at
    claimed = Claimed(claims, has_more or (next_due_at is not None and next_due_at <= due_by), next_due_at)
    for lane, rule in batch_lanes(request):
        claimed = joined(claimed, _claim_batches(table, lane, rule, request, now))
    return claimed


def _claim_batches(table: Table, lane: TaskSlots, rule: BatchRule, request: ClaimRequest, now: Microseconds) -> Claimed:
    """Take whole batches of a lane; what makes none is not touched."""
    lines = [
        [(order_of(row), candidate_of(row, rule, with_options=rule.key is not None)) for row in rows]
        for rows in ready_rows(table, lane, request.queues, lookahead(rule, lane.limit) + 1)
    ]
    jobs = in_order(lines, lookahead(rule, lane.limit) + 1)
    choice = choose(rule, jobs, lane.limit, now + request.ahead)
    claims = [_taken(table, job.number, request, now) for batch in choice.batches for job in batch]
    taken, batches = with_batches(claims, choice, lambda claim: claim.id)
    return Claimed(taken, choice.has_more, choice.next_at, batches=tuple(batches))


def _taken(table: Table, id: str, request: ClaimRequest, now: Microseconds) -> Claim:
    row = table.find(id)
    assert row is not None
    row = transitions.claimed(row, request, now)
    table.upsert(row)
    return transitions.claim_of(row.record)


def ready_rows(table: Table, lane: TaskSlots, queues: tuple[str, ...] | None, most: int) -> list[list[Row]]:
    """The first ready jobs of each queue and task of a lane."""
    return [queue.peek(most) for queue in table.ready(lane.tasks, queues)]


def order_of(row: Row) -> tuple[int, int, int]:
    """Where a job stands in the order of claims."""
    return -row.record.priority, row.record.due_at, row.seq


def candidate_of(row: Row, rule: BatchRule, *, with_options: bool = True) -> Candidate:
    """A ready job, as it is chosen for a batch."""
    job = row.record
    return candidate(rule, job.id, job.due_at, job.created_at, job.options if with_options else None)


def _claim_apart(table: Table, request: ClaimRequest, now: Microseconds) -> list[Claim]:
    """Take some of those that died together."""
    waiting = _apart(table, request, now)
    if not waiting:
        return []
    first = waiting[0][1]
    claims: list[Claim] = []
    for lane in request.slots:
        some = [row for row, known in waiting if known.death == first.death and row.record.task in lane.tasks]
        for row in some[: min(lane.limit, group_size(first.company) - len(claims))]:
            row = transitions.claimed(row, request._replace(ahead=0), now)
            table.upsert(row)
            claims.append(transitions.claim_of(row.record))
    return claims


def _apart(table: Table, request: ClaimRequest, now: Microseconds) -> list[tuple[Row, Suspicion]]:
    """The jobs that wait to run apart and that this request could take, in their order."""
    tasks = {task for lane in request.slots if lane.limit for task in lane.tasks}
    found = [
        (row, row.suspicion)
        for row in table.suspects()
        if row.suspicion is not None
        and row.suspicion.is_apart
        and not row.suspicion.is_held
        and _waits_apart(row, now)
        and row.record.task in tasks
        and (request.queues is None or row.record.queue in request.queues)
        and row.record.queue not in table.side.paused_queues
    ]
    return sorted(found, key=lambda pair: (pair[1].death, pair[0].seq))


def _waits_apart(row: Row, now: Microseconds) -> bool:
    """Whether it waits for nothing but to run apart."""
    job = row.record
    return job.status == SCHEDULED and job.is_apart and job.blockers == 1 and (job.ready or job.due_at <= now)


def _promote(table: Table, due_by: Microseconds) -> None:
    """Bring what has become due to where claims look, a bounded number at a time."""
    for _ in range(_STEP):
        row = table.staged.first()
        if row is None or row.record.due_at > due_by:
            return
        table.upsert(row._replace(record=row.record._replace(ready=True)))


def _claim_lane(table: Table, lane: TaskSlots, request: ClaimRequest, now: Microseconds) -> tuple[list[Claim], bool]:
    """Take the first jobs of a lane, whichever of its queues they are in; and whether there are more."""
    claims: list[Claim] = []
    queues = [queue for queue in table.ready(lane.tasks, request.queues) if queue.first() is not None]
    heads = [(queue.head, queue) for queue in queues]
    heapq.heapify(heads)
    while heads and len(claims) < lane.limit:
        queue = heads[0][1]
        row = queue.first()
        assert row is not None
        row = transitions.claimed(row, request, now)
        table.upsert(row)
        claims.append(transitions.claim_of(row.record))
        if queue.first() is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (queue.head, queue))
    return claims, bool(heads)


def _claim_parked(table: Table, request: ClaimRequest, now: Microseconds) -> Claimed:
    """Take calls that did not fit other code."""
    claims: list[Claim] = []
    has_more = False
    waiting = sorted(
        (row for row in table.parked() if _fits_code(table, row, request, now)),
        key=lambda row: (-row.record.priority, row.record.due_at, row.seq),
    )
    for lane in request.slots:
        some = [row for row in waiting if row.record.task in lane.tasks]
        has_more = has_more or len(some) >= lane.limit > 0
        for row in some[: lane.limit]:
            row = _unparked_and_claimed(row, request, now)
            table.upsert(row)
            claims.append(transitions.claim_of(row.record))
    return Claimed(claims, has_more, None)


def _fits_code(table: Table, row: Row, request: ClaimRequest, now: Microseconds) -> bool:
    """Whether it waits for nothing but other code, which may be that of the request."""
    job = row.record
    return (
        request.code not in row.codes
        and job.blockers == 1
        and (job.ready or job.due_at <= now)
        and (request.queues is None or job.queue in request.queues)
        and job.queue not in table.side.paused_queues
    )


def _unparked_and_claimed(row: Row, request: ClaimRequest, now: Microseconds) -> Row:
    record = row.record._replace(parking=None, blockers=row.record.blockers - 1)
    return transitions.claimed(row._replace(record=record), request._replace(ahead=0), now)
