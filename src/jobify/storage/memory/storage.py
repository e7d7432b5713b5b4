"""The port over a table in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from jobify.model.records import (
    AttemptRecord,
    CancelResult,
    Claimed,
    ClaimRequest,
    CountKey,
    Expired,
    JobQuery,
    JobRecord,
    MessageKind,
    MessageRecord,
    NewJob,
    OwnerProfile,
    OwnerRecord,
    Progress,
    Recovered,
    Relations,
    Report,
    Settled,
    Settlement,
)
from jobify.storage.base import BegunJobs, Notifier
from jobify.storage.kinship import Kinship
from jobify.storage.memory import limits, operations, owners, queries, transitions
from jobify.storage.memory.dependencies import Dependencies, revive
from jobify.storage.memory.limit_calls import LimitCalls
from jobify.storage.memory.merging import MergeCalls
from jobify.storage.memory.rows import RUNNING, SCHEDULED, PendingCancel, Row, has_ended
from jobify.storage.memory.table import Table
from jobify.storage.memory.times import Times
from jobify.storage.suspicion import Death
from jobify.storage.timekeeping import Timekeeping
from jobify.types import Microseconds

__all__ = ("MemoryStorage",)


class MemoryStorage(LimitCalls, MergeCalls):
    """Keep jobs as long as this object lives; ``close`` and ``open`` change nothing about them.

    Nothing is encoded or copied: payloads and results may be any objects. Of the jobs that have ended the newest
    ``keep`` stay, with their messages and relations, until ``purge`` finds that their ``delete_at`` has come; and no
    more of them than weigh ``keep_bytes`` (an estimate), so memory is bounded. One that another job needs stays in any
    case. Unless it ``keeps_arguments``, a job that has ended loses them if it cannot be retried, nor come back with
    one that is.
    """

    is_durable: bool = False
    is_shared: bool = False
    is_in_memory: bool = True
    claims_first: bool = False
    poll_interval: float = 0.0
    clock = None

    def __init__(self, keep: int = 10_000, *, keep_bytes: int = 64_000_000, keeps_arguments: bool = True) -> None:
        self._table = Table()
        self._jobs = Dependencies(self._table, keep, keep_bytes=keep_bytes, keeps_arguments=keeps_arguments)
        self._owner_ids = itertools.count(1)
        self._seqs = itertools.count(1)

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        pass

    def close(self) -> None:
        with self._table as table:
            owners.close(table)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._table.block():
            yield

    nonblocking = nonblocking_claims = unflushed_writes = None

    @property
    def times(self) -> Timekeeping:
        return Times(self._table)

    # -- owners --------------------------------------------------------------------------------------------------------

    def register(self, profile: OwnerProfile, *, now: Microseconds) -> int:
        owner = next(self._owner_ids)
        with self._table as table:
            owners.register(table, owner, profile, now)
        return owner

    def heartbeat(self, owner: int, *, now: Microseconds) -> None:
        with self._table as table:
            owners.heartbeat(table, owner, now)

    def deregister(self, owner: int) -> None:
        with self._table as table:
            owners.deregister(table, self._jobs, owner)

    def leave(self, owner: int) -> Callable[[], None]:
        with self._table as table:
            owners.leave(table, owner)
        return partial(self._release, owner)

    def _release(self, owner: int) -> None:
        with self._table as table:
            if owner in table.side.leaving:
                owners.release(table, owner)

    def owners(self) -> list[OwnerRecord]:
        return list(self._table.committed_side().owners.values())

    def recent_deaths(self, *, now: Microseconds) -> Sequence[Microseconds]:
        return owners.recent_deaths(self._table, now)

    def begun(self, owner: int) -> BegunJobs | None:
        return None

    def recover(
        self,
        *,
        now: Microseconds,
        max_crashes: int,
        delete_at: Microseconds | None,
        on_death: Callable[[Death], object] | None = None,
    ) -> list[Recovered]:
        with self._table as table:
            released = owners.release_departed(table, self._jobs, now=now)
            deaths = owners.recover_dead(table, self._jobs, now=now, max_crashes=max_crashes, delete_at=delete_at)
            judged = owners.end_held(table, self._jobs, now=now, max_crashes=max_crashes, delete_at=delete_at)
        if on_death is not None:
            for death in deaths:
                on_death(death)
        return [*released, *(job for death in deaths for job in death.jobs), *judged]

    # -- jobs that wait ------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        with self._table as table:
            return operations.insert(table, self._jobs, self._seqs, jobs)

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        with self._table as table:
            return operations.replace(table, self._seqs, job, progress or transitions.NO_PROGRESS)

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool = True) -> list[bool]:
        with self._table as table:
            answers = [operations.retry(table, id, now) for id in ids]
            if with_dependents:
                done = [id for id, is_done in zip(ids, answers, strict=True) if is_done]
                revive(table, self._jobs, done, now=now)
            return answers

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        with self._table as table:
            return limits.claim(table, request, now)

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        with self._table as table:
            row = table.find(id)
            if row is None or row.record.status != SCHEDULED:
                return False
            table.upsert(transitions.rescheduled(row, due_at=due_at, now=now))
            return True

    def pause(self, ids: Sequence[str]) -> list[bool]:
        with self._table:
            return [self._pause(id) for id in ids]

    def _pause(self, id: str) -> bool:
        row = self._table.find(id)
        if row is None or row.record.rule is None or has_ended(row):
            return False
        if not row.is_paused:
            self._table.upsert(transitions.paused(row))
        return True

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        with self._table:
            was_paused = {id: self._resume(id, now) for id in dict.fromkeys(ids)}
            return [was_paused[id] for id in ids]

    def _resume(self, id: str, now: Microseconds) -> bool:
        row = self._table.find(id)
        if row is None or not row.is_paused:
            return False
        self._table.upsert(transitions.resumed(row, now))
        return True

    def pause_queue(self, queue: str) -> None:
        self._pause_queues(self._table.side.paused_queues | {queue})

    def resume_queue(self, queue: str) -> None:
        self._pause_queues(self._table.side.paused_queues - {queue})

    def _pause_queues(self, queues: frozenset[str]) -> None:
        with self._table as table:
            table.side = table.side._replace(paused_queues=queues)

    # -- jobs that run -------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        with self._table:
            return [self._settle(settlement) for settlement in settlements]

    def _settle(self, settlement: Settlement) -> Settled:
        row = self._held(settlement.id, settlement.owner, settlement.fence)
        if row is None:
            return Settled.REFUSED
        has_effect = self._jobs.upsert(transitions.settled(row, settlement))
        met = limits.settled(self._table, row, settlement)
        return Settled.CASCADED if has_effect or row.successor is not None else met

    def report(self, reports: Sequence[Report]) -> list[bool]:
        with self._table:
            return [self._report(report) for report in reports]

    def _report(self, report: Report) -> bool:
        row = self._held(report.job_id, report.owner, report.fence)
        if row is None:
            return False
        self._table.upsert(transitions.reported(row, report))
        return True

    def _held(self, id: str, owner: int, fence: int) -> Row | None:
        """The row, if this claim holds."""
        row = self._table.find(id)
        if row is None or row.record.status != RUNNING or (row.record.owner, row.record.fence) != (owner, fence):
            return None
        return row

    def add_history(self, attempts: Sequence[AttemptRecord]) -> None:
        with self._table as table:
            for line in attempts:
                row = table.find(line.job_id)
                if row is not None:
                    table.upsert(transitions.with_history(row, (line,)))

    def cancel_requests(self, owner: int) -> list[str]:
        return [row.record.id for row in self._table.held_by(owner) if row.cancel is not None]

    # -- jobs that end -------------------------------------------------------------------------------------------------

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        with self._table as table:
            met = operations.cancel(table, self._jobs, ids, PendingCancel(reason, now, delete_at))
        return [met[id] for id in ids]

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        with self._table as table:
            return operations.expire(table, self._jobs, now=now, limit=limit, delete_at=delete_at)

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        with self._table as table:
            return operations.delete(table, self._jobs, ids, now=now, delete_at=delete_at)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        with self._table as table:
            return operations.purge(table, now=now, limit=limit)

    def trim(self, *, keep: int, limit: int) -> int:
        with self._table as table:
            return operations.trim(table, keep=keep, limit=limit)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        barriers = self._table.committed_side().barriers
        found = self._table.committed(dict.fromkeys(ids))
        return [row.record if row.gate is None else queries.shown(row, barriers) for row in found]

    def find(self, query: JobQuery) -> list[JobRecord]:
        return queries.page(self._matching(query), query)

    def count(self, query: JobQuery) -> Mapping[CountKey, int]:
        return queries.tally(self._matching(query))

    def _matching(self, query: JobQuery) -> Iterator[JobRecord]:
        barriers = self._table.committed_side().barriers
        return (queries.shown(row, barriers) for row in self._table.committed() if queries.matches(row.record, query))

    def count_purgeable(self, *, now: Microseconds) -> Mapping[CountKey, int]:
        return queries.count_purgeable(self._table, now)

    def find_unique(self, key: str) -> str | None:
        return self._table.holder(key)

    def relations(self, id: str) -> Relations:
        for row in self._table.committed((id,)):
            return queries.relations(row, self._table.committed_finder())
        return Relations((), ())

    def parents(self, id: str) -> list[tuple[str, JobRecord | None]]:
        find = self._table.committed_finder()
        found = [(edge, find(edge.seq)) for row in self._table.committed((id,)) for edge in row.parents]
        return [(edge.id, None if parent is None else parent.record) for edge, parent in found]

    def kinship(self, id: str, *, limit: int) -> Kinship:
        for row in self._table.committed((id,)):
            return queries.kinship(row, self._table.committed_finder(), limit)
        return Kinship((), (), True)

    def messages(self, id: str, *, after: int, limit: int, kind: MessageKind | None = None) -> list[MessageRecord]:
        rows = self._table.committed((id,))
        return [message for row in rows for message in queries.messages_after(row, after, limit, kind)]

    def paused_queues(self) -> list[str]:
        return sorted(self._table.committed_side().paused_queues)

    def attempts(self, id: str) -> list[AttemptRecord]:
        return [line for row in self._table.committed((id,)) for line in row.history]

    def has_external_changes(self) -> bool:
        return False

    @property
    def notifier(self) -> Notifier | None:
        return None
