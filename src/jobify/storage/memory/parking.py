"""Parked calls: who may claim them, and what makes them wait like any other job."""

from __future__ import annotations

from jobify.model.records import Claim, Claimed, ClaimRequest
from jobify.storage.memory import rows
from jobify.storage.memory.rows import Row
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("claim_parked", "unparked")


def claim_parked(table: Table, request: ClaimRequest, now: Microseconds) -> Claimed:
    """Take calls that did not fit other code."""
    claims: list[Claim] = []
    has_more = False
    waiting = sorted(
        (row for row in table.parked() if _fits(table, row, request, now)),
        key=lambda row: (-row.record.priority, row.record.due_at, row.seq),
    )
    for lane in request.slots:
        some = [row for row in waiting if row.record.task in lane.tasks]
        has_more = has_more or len(some) >= lane.limit > 0
        for row in some[: lane.limit]:
            row = _claimed(row, request, now)
            table.upsert(row)
            claims.append(rows.claim_of(row.record))
    return Claimed(claims, has_more, None)


def _fits(table: Table, row: Row, request: ClaimRequest, now: Microseconds) -> bool:
    """Whether it waits for nothing but other code, which may be that of the request."""
    job = row.record
    return (
        request.code not in row.codes
        and job.blockers == 1
        and (job.ready or job.due_at <= now)
        and (request.queues is None or job.queue in request.queues)
        and job.queue not in table.side.paused_queues
    )


def _claimed(row: Row, request: ClaimRequest, now: Microseconds) -> Row:
    record = row.record._replace(parking=None, blockers=row.record.blockers - 1)
    return rows.claimed(row._replace(record=record), request._replace(ahead=0), now)


def unparked(row: Row, now: Microseconds) -> Row:
    """A parked job that is due at once, for any code."""
    job = row.record
    record = job._replace(
        parking=None, blockers=job.blockers - 1, ready=True, due_at=now, fence=job.fence + 1, error=None
    )
    return row._replace(record=record, codes=())
