"""The port over a table in memory."""

from __future__ import annotations

import heapq
import itertools
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from jobify.records import (
    AttemptRecord,
    CancelResult,
    Claim,
    Claimed,
    ClaimRequest,
    JobQuery,
    JobRecord,
    Lane,
    NewJob,
    OwnerRecord,
    Progress,
    Recovered,
    Settlement,
)
from jobify.storage.base import Bell
from jobify.storage.memory import rows
from jobify.storage.memory.rows import RUNNING, SCHEDULED, PendingCancel
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("MemoryStorage",)

_STEP: Final = 1000
"""Jobs that one claim considers at most when they have become due."""


class MemoryStorage:
    """Keep jobs as long as this object lives; ``close`` and ``open`` change nothing about them.

    Nothing is encoded or copied: payloads and results may be any objects.
    """

    is_durable: bool = False
    is_shared: bool = False

    def __init__(self) -> None:
        self._table = Table()
        self._owners: dict[int, OwnerRecord] = {}
        self._owner_ids = itertools.count(1)
        self._seqs = itertools.count(1)

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        pass

    def close(self) -> None:
        self._owners = {id: owner._replace(is_alive=False) for id, owner in self._owners.items()}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        owners = dict(self._owners)
        with self._table.block():
            try:
                yield
            except BaseException:
                self._owners = owners
                raise

    @property
    def on_the_spot(self) -> None:
        return None

    # -- owners --------------------------------------------------------------------------------------------------------

    def register(self, *, now: Microseconds) -> int:
        owner = next(self._owner_ids)
        self._owners[owner] = OwnerRecord(owner, socket.gethostname(), os.getpid(), now, True)
        return owner

    def retire(self, owner: int) -> None:
        with self._table as table:
            for row in table.held_by(owner):
                table.keep(rows.given_back(row))
        self._owners.pop(owner, None)

    def owners(self) -> list[OwnerRecord]:
        return list(self._owners.values())

    def recover(self, *, now: Microseconds, max_crashes: int, delete_at: Microseconds | None) -> list[Recovered]:
        dead = [owner.id for owner in self._owners.values() if not owner.is_alive]
        recovered = []
        with self._table as table:
            for row in itertools.chain.from_iterable(map(table.held_by, dead)):
                after = rows.lost(row, now)
                if after.record.crashes >= max_crashes and after.successor is None and after.cancel is None:
                    after = rows.quarantined(after, now=now, delete_at=delete_at)
                else:
                    after = rows.given_back(after)
                table.keep(after)
                recovered.append(Recovered(row.record.id, row.record.task, after.record.status, row.record.origin))
        for owner in dead:
            del self._owners[owner]
        return recovered

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        with self._table:
            return [self._insert(job) for job in jobs]

    def _insert(self, job: NewJob) -> bool:
        old = self._table.find(job.id)
        if old is not None and not rows.has_ended(old):
            return False
        self._table.keep(rows.new(next(self._seqs), job))
        return True

    def put(self, job: NewJob, progress: Progress | None = None) -> bool:
        progress = progress or rows.NO_PROGRESS
        with self._table as table:
            old = table.find(job.id)
            if old is None:
                table.keep(rows.new(next(self._seqs), job, progress))
            elif old.record.status == RUNNING:
                record = old.record._replace(has_successor=True)
                table.keep(old._replace(record=record, successor=(job, progress)))
                return False
            else:
                table.keep(rows.replaced(old, job, progress))
            return True

    def move(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        with self._table as table:
            row = table.find(id)
            if row is None or row.record.status != SCHEDULED:
                return False
            table.keep(rows.moved(row, due_at=due_at, now=now))
            return True

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        with self._table:
            return [self._settle(settlement) for settlement in settlements]

    def _settle(self, settlement: Settlement) -> bool:
        row = self._table.find(settlement.id)
        if row is None or row.record.status != RUNNING:
            return False
        if (row.record.owner, row.record.fence) != (settlement.owner, settlement.fence):
            return False
        self._table.keep(rows.settled(row, settlement))
        return True

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        cancel = PendingCancel(reason, now, delete_at)
        with self._table:
            met = {id: self._cancel(id, cancel) for id in dict.fromkeys(ids)}
        return [met[id] for id in ids]

    def _cancel(self, id: str, cancel: PendingCancel) -> CancelResult:
        row = self._table.find(id)
        if row is None:
            return CancelResult.MISSING
        if row.record.status == SCHEDULED:
            self._table.keep(rows.cancelled(row, cancel))
            return CancelResult.CANCELLED
        if row.record.status == RUNNING:
            record = row.record._replace(is_cancel_requested=True, has_successor=False)
            self._table.keep(row._replace(record=record, cancel=cancel, successor=None))
            return CancelResult.REQUESTED
        return CancelResult.ENDED

    def cancel_requests(self, owner: int) -> list[str]:
        return [row.record.id for row in self._table.held_by(owner) if row.cancel is not None]

    def delete(self, ids: Sequence[str]) -> int:
        deleted = 0
        with self._table as table:
            for row in filter(None, map(table.find, dict.fromkeys(ids))):
                if row.record.status != RUNNING:
                    table.remove(row)
                    deleted += 1
        return deleted

    def record(self, attempts: Sequence[AttemptRecord]) -> None:
        with self._table as table:
            for line in attempts:
                row = table.find(line.job_id)
                if row is not None:
                    table.keep(rows.told(row, (line,)))

    def purge(self, *, now: Microseconds, limit: int) -> int:
        deleted = 0
        with self._table as table:
            while deleted < limit and (row := table.expiring.first()) is not None:
                if row.record.delete_at is None or row.record.delete_at > now:
                    break
                table.remove(row)
                deleted += 1
        return deleted

    def trim(self, *, keep: int, limit: int) -> int:
        trimmed = 0
        with self._table as table:
            for row in table.schedules():
                excess = min(len(row.history) - keep, limit - trimmed)
                if excess > 0:
                    table.keep(row._replace(history=row.history[excess:]))
                    trimmed += excess
        return trimmed

    # -- claims --------------------------------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        claims: list[Claim] = []
        has_more = False
        with self._table as table:
            self._promote(now)
            for lane in request.lanes:
                taken, is_more_left = self._claim_lane(lane, request, now)
                claims += taken
                has_more = has_more or is_more_left
            staged = table.staged.first()
        next_due_at = None if staged is None else staged.record.due_at
        return Claimed(claims, has_more or (next_due_at is not None and next_due_at <= now), next_due_at)

    def _promote(self, now: Microseconds) -> None:
        """Bring what has become due to where claims look, a bounded number at a time."""
        for _ in range(_STEP):
            row = self._table.staged.first()
            if row is None or row.record.due_at > now:
                return
            self._table.keep(row._replace(record=row.record._replace(ready=True)))

    def _claim_lane(self, lane: Lane, request: ClaimRequest, now: Microseconds) -> tuple[list[Claim], bool]:
        """Take the first jobs of a lane, whichever of its queues they are in; and whether there are more."""
        claims: list[Claim] = []
        queues = [queue for queue in self._table.ready(lane.tasks, request.queues) if queue.first() is not None]
        heads = [(queue.head, queue) for queue in queues]
        heapq.heapify(heads)
        while heads and len(claims) < lane.limit:
            queue = heads[0][1]
            row = queue.first()
            assert row is not None
            row = rows.claimed(row, request.owner, now)
            self._table.keep(row)
            claims.append(rows.claim_of(row.record))
            if queue.first() is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (queue.head, queue))
        return claims, bool(heads)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        return [row.record for row in self._table.committed(dict.fromkeys(ids))]

    def find(self, query: JobQuery) -> list[JobRecord]:
        jobs = (job for job in self._matching(query) if query.after_id is None or job.id > query.after_id)
        return heapq.nsmallest(query.limit, jobs, key=lambda job: job.id)

    def count(self, query: JobQuery) -> Mapping[tuple[str, str, str], int]:
        return Counter((job.task, job.queue, job.status) for job in self._matching(query))

    def _matching(self, query: JobQuery) -> Iterator[JobRecord]:
        for row in self._table.committed():
            job = row.record
            if (
                (query.statuses is None or job.status in query.statuses)
                and (query.tasks is None or job.task in query.tasks)
                and (query.queues is None or job.queue in query.queues)
                and (query.is_schedule is None or (job.rule is not None) is query.is_schedule)
            ):
                yield job

    def attempts(self, id: str) -> list[AttemptRecord]:
        return [line for row in self._table.committed((id,)) for line in row.history]

    def changed(self) -> bool:
        return False

    @property
    def bell(self) -> Bell | None:
        return None
