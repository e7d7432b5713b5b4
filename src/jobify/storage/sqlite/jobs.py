"""Jobs: insert, replace, settle, cancel, delete."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from jobify.records import AttemptRecord, CancelResult, NewJob, Progress, Settlement
from jobify.status import JobStatus
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.failures import ClaimLost
from jobify.storage.sqlite.pending import drop_cancels, end_cancelled, replace_with_successors
from jobify.storage.sqlite.rows import listed
from jobify.storage.sqlite.statements import (
    CHUNK,
    Rows,
    Values,
    attempt_values,
    chunks,
    claim_values,
    id_values,
    job_values,
    settlement_values,
    sql,
)
from jobify.types import Microseconds

__all__ = ("Jobs",)

T = TypeVar("T")
_ValuesOf: TypeAlias = Callable[[Sequence[T]], tuple[Rows, Values]]


class Jobs:
    """The writing calls of :class:`jobify.storage.base.Storage`, claims and owners apart.

    The usual case of each is one statement, which is a transaction by itself; a case that is not usual makes that
    statement fail as a whole, and is then done step by step in a transaction.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _write_batch(self, name: str, values_of: _ValuesOf[T], batch: Sequence[T]) -> None:
        """Run statement ``name`` for a batch: all of it, or none. If it is not too long, that is one statement."""
        if len(batch) > CHUNK:
            with self._database.atomic():
                for piece in chunks(batch):
                    self._write_batch(name, values_of, piece)
        elif batch:
            rows, values = values_of(batch)
            self._database.write(sql(name, rows=rows), values)

    # -- insert --------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        try:
            self._write_batch("insert", job_values, jobs)
        except sqlite3.IntegrityError:
            with self._database.atomic():
                return self._insert_free(jobs)
        return [True] * len(jobs)

    def _insert_free(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert the jobs whose ids are free, after ended ones have made room."""
        first = {job.id: number for number, job in reversed(list(enumerate(jobs)))}
        taken: set[str] = set()
        for ids in chunks(list(first)):
            size, values = id_values(ids)
            self._database.write(sql("delete_ended", ids=size), values)
            taken.update(listed(self._database.row(sql("unfinished", ids=size), values)[0]))
        is_free = [first[job.id] == number and job.id not in taken for number, job in enumerate(jobs)]
        self._write_batch("insert", job_values, [job for job, free in zip(jobs, is_free, strict=True) if free])
        return is_free

    # -- put, move -----------------------------------------------------------------------------------------------------

    def put(self, job: NewJob, progress: Progress | None) -> bool:
        row = _successor_row(job, progress or Progress(0, 0))
        if self._database.write(sql("put"), row):
            return True
        with self._database.atomic():
            if self._database.write(sql("put"), row):  # it has ended meanwhile
                return True
            self._database.write(sql("successor"), row)
            self._database.write(sql("await_end"), (job.id,))
        return False

    def move(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        return self._database.write(sql("move"), (due_at, now, id)) == 1

    # -- settle --------------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        try:
            self._settle_all(settlements)
        except ClaimLost:
            with self._database.atomic():
                return self._settle_held(settlements)
        return [True] * len(settlements)

    def _settle_all(self, settlements: Sequence[Settlement]) -> None:
        """Settle all of them, or raise ClaimLost and settle none."""
        if len({settlement.id for settlement in settlements}) < len(settlements):
            raise ClaimLost  # two for one job: at most one of them holds
        history = _history(settlements)
        if not history:
            self._write_batch("settle", settlement_values, settlements)
            return
        with self._database.atomic():
            self._write_batch("settle", settlement_values, settlements)
            self.record(history)

    def _settle_held(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle those whose claim holds, each as what is pending for its job wants it."""
        first = {_claim_of(s): number for number, s in reversed(list(enumerate(settlements)))}
        pending = self._pending(list(first))
        holds = [first[_claim_of(s)] == number and _claim_of(s) in pending for number, s in enumerate(settlements)]
        held = [(s, pending[_claim_of(s)]) for s, is_held in zip(settlements, holds, strict=True) if is_held]
        self.record(_history([s for s, _ in held]))
        self._write_batch("settle", settlement_values, self._without_special(held))
        return holds

    def _without_special(self, held: Sequence[tuple[Settlement, _Pending]]) -> list[Settlement]:
        """See to the jobs for which something is pending; the settlements that remain are plain ones."""
        replaced = [s.id for s, pending in held if pending.has_successor]
        wanted_gone = [s for s, pending in held if pending.has_cancel and not pending.has_successor]
        cancelled = [s.id for s in wanted_gone if s.status == JobStatus.SCHEDULED]
        replace_with_successors(self._database, replaced)
        end_cancelled(self._database, cancelled)
        drop_cancels(self._database, [s.id for s in wanted_gone if s.status != JobStatus.SCHEDULED])
        special = {*replaced, *cancelled}
        return [s for s, _ in held if s.id not in special]

    def _pending(self, claims: Sequence[_Claim]) -> dict[_Claim, _Pending]:
        """Of these claims those that hold, and what is pending for their jobs."""
        found: dict[_Claim, _Pending] = {}
        for piece in chunks(claims):
            rows, values = claim_values(piece)
            for id, owner, fence, *pending in listed(self._database.row(sql("held", rows=rows), values)[0]):
                found[id, owner, fence] = _Pending._make(pending)
        return found

    # -- cancel --------------------------------------------------------------------------------------------------------

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        met: dict[str, CancelResult] = {}
        with self._database.atomic():
            for some in chunks(ids):
                size, values = id_values(some)
                for id, status in listed(self._database.row(sql("statuses", ids=size), values)[0]):
                    met.setdefault(id, _CANCELS.get(status, CancelResult.ENDED))
                self._cancel(size, values, (reason, now, delete_at), set(met.values()))
        return [met.get(id, CancelResult.MISSING) for id in ids]

    def _cancel(self, size: int, ids: list[str], how: tuple[str, int, int | None], met: set[CancelResult]) -> None:
        write = self._database.write
        if CancelResult.CANCELLED in met:
            write(sql("cancel_waiting", ids=size), [*how, *ids])
        if CancelResult.REQUESTED in met:
            write(sql("request_cancel", ids=size), [*how, *ids])
            write(sql("mark_cancel", ids=size), ids)
            write(sql("tidy_successors"))

    def cancel_requests(self, owner: int) -> list[str]:
        return listed(self._database.row(sql("cancel_requests"), (owner,))[0])

    # -- delete, record, purge, trim -----------------------------------------------------------------------------------

    def delete(self, ids: Sequence[str]) -> int:
        deleted = 0
        with self._database.atomic():
            for some in chunks(ids):
                size, values = id_values(some)
                deleted += self._database.write(sql("delete", ids=size), values)
        return deleted

    def record(self, attempts: Sequence[AttemptRecord]) -> None:
        self._write_batch("record", attempt_values, attempts)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        return self._database.write(sql("purge"), (now, limit))

    def trim(self, *, keep: int, limit: int) -> int:
        return self._database.write(sql("trim"), (keep, limit))


_Claim = tuple[str, int, int]

_CANCELS = {
    JobStatus.SCHEDULED.value: CancelResult.CANCELLED,
    JobStatus.RUNNING.value: CancelResult.REQUESTED,
}


class _Pending(NamedTuple):
    """What waits for the end of a running job."""

    has_successor: int
    has_cancel: int


def _claim_of(settlement: Settlement) -> _Claim:
    return settlement.id, settlement.owner, settlement.fence


def _history(settlements: Sequence[Settlement]) -> list[AttemptRecord]:
    return [line for settlement in settlements for line in settlement.history]


def _successor_row(job: NewJob, progress: Progress) -> tuple[object, ...]:
    """The parameters of ``put`` and ``successor``."""
    return (
        job.id,
        job.task,
        job.queue,
        job.priority,
        job.ready,
        job.due_at,
        job.offset_at,
        job.created_at,
        job.origin,
        progress.run_count,
        progress.failure_count,
        job.rule,
        job.options,
        job.payload,
    )
