"""Jobs: insert, replace, settle, cancel, retry, delete."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias, TypeVar

from jobify.model.records import AttemptRecord, CancelResult, Expired, NewJob, Progress, Settled, Settlement
from jobify.model.status import JobStatus
from jobify.storage.end_reasons import EXPIRED
from jobify.storage.sqlite.cascades import forget_parents, propagate_deletion, propagate_end
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.deferred import drop_cancels, end_cancelled, replace_with_successors
from jobify.storage.sqlite.dependencies import add_edges, parent_states
from jobify.storage.sqlite.errors import ClaimLost
from jobify.storage.sqlite.ids import rows_for, write_for
from jobify.storage.sqlite.needs import make_room, set_aside_needed, without_needed
from jobify.storage.sqlite.parked import park, unpark
from jobify.storage.sqlite.revival import revive
from jobify.storage.sqlite.rows import decode_rows
from jobify.storage.sqlite.statements import (
    CHUNK,
    Rows,
    Values,
    attempt_values,
    chunks,
    id_values,
    job_values,
    row_values,
    settlement_values,
    sql,
)
from jobify.storage.sqlite.values import LARGE, store_value
from jobify.storage.suspicion import is_unfinished
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

    def _write_batch(
        self, name: str, values_of: _ValuesOf[T], batch: Sequence[T], *, is_acknowledged: bool = True, **fields: str
    ) -> None:
        """Run statement ``name`` for a batch: all of it, or none. If it is not too long, that is one statement."""
        if len(batch) > CHUNK:
            with self._database.atomic():
                for piece in chunks(batch):
                    self._write_batch(name, values_of, piece, is_acknowledged=is_acknowledged, **fields)
        elif batch:
            rows, values = values_of(batch)
            self._database.write(sql(name, rows=rows, **fields), values, is_acknowledged=is_acknowledged)

    # -- insert --------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        for job in jobs:  # not any(): a generator costs this hot path more than the comparison
            if job.parents or len(job.payload) > LARGE:
                with self._database.atomic():
                    return self._insert_special(jobs)
        try:
            self._write_batch("insert", job_values, jobs)
        except sqlite3.IntegrityError:
            with self._database.atomic():
                return self._insert_free(jobs)
        return [True] * len(jobs)

    def _insert_special(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert jobs some of which have parents, or large arguments."""
        known = parent_states(self._database, jobs)  # before any of them makes room
        is_added = self._insert_free([_without_large_payload(job) for job in jobs])
        for job, added in zip(jobs, is_added, strict=True):
            if added and len(job.payload) > LARGE:
                reference = store_value(self._database, job.payload)
                self._database.write(sql("refer_to_payload"), (reference, job.id))
        if any(job.parents for job in jobs):
            add_edges(self._database, [job for job, added in zip(jobs, is_added, strict=True) if added], known)
        return is_added

    def _insert_free(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert the jobs whose ids and unique keys are free, after ended ones have made room."""
        ids = self._taken("unfinished", [job.id for job in jobs])
        keys = self._taken("keys_taken", [job.unique_key for job in jobs if job.unique_key is not None])
        is_free: list[bool] = []
        for job in jobs:
            is_free.append(job.id not in ids and (job.unique_key is None or job.unique_key not in keys))
            if is_free[-1]:
                ids.add(job.id)
                if job.unique_key is not None:
                    keys.add(job.unique_key)
        free = [job for job, is_one in zip(jobs, is_free, strict=True) if is_one]
        make_room(self._database, free)
        self._write_batch("insert", job_values, free)
        return is_free

    def _taken(self, name: str, words: Sequence[str]) -> set[str]:
        """Those of ``words`` that belong to jobs which have not ended."""
        return set(rows_for(self._database, name, words))

    def _write_ids(self, name: str, ids: Sequence[str]) -> int:
        """Run statement ``name`` for jobs, any number; how many rows it changed."""
        return write_for(self._database, name, ids)

    # -- put, move -----------------------------------------------------------------------------------------------------

    def replace(self, job: NewJob, progress: Progress | None) -> bool:
        if job.parents or job.unique_key is not None:
            raise ValueError(
                f"Job {job.id!r} cannot be put with parents or a unique key: it would have to wait. Insert it."
            )
        with self._database.atomic():
            reference = store_value(self._database, job.payload) if len(job.payload) > LARGE else None
            set_aside_needed(self._database, [job])
            row = (*_successor_row(_without_large_payload(job), progress or Progress(0, 0)), reference)
            if self._database.write(sql("replace"), row):
                forget_parents(self._database, [job.id])
                return True
            self._database.write(sql("drop_successor"), (job.id,))
            self._database.write(sql("successor"), row)
            self._database.write(sql("mark_successor"), (job.id,))
        return False

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        return self._database.write(sql("reschedule"), (due_at, due_at, now, id)) == 1

    # -- settle --------------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        for settlement in settlements:  # not any(): a generator costs this hot path more than the comparison
            if settlement.parking is not None or (settlement.result is not None and len(settlement.result) > LARGE):
                with self._database.atomic():
                    return self._settle_held(settlements)
        try:
            self._settle_all(settlements)
        except ClaimLost:
            with self._database.atomic():
                return self._settle_held(settlements)
        return [Settled.APPLIED] * len(settlements)

    def _settle_all(self, settlements: Sequence[Settlement]) -> None:
        """Settle all of them, or raise ClaimLost and settle none."""
        if len({settlement.id for settlement in settlements}) < len(settlements):
            raise ClaimLost  # two for one job: at most one of them holds
        history = _history(settlements)
        if not history:
            self._write_batch("settle", settlement_values, settlements, is_acknowledged=False, if_plain=_IF_PLAIN)
            return
        with self._database.atomic():
            self._write_batch("settle", settlement_values, settlements, if_plain=_IF_PLAIN)
            self.add_history(history)

    def _settle_held(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """Settle those whose claim holds, each as what is pending for its job wants it."""
        first = {_claim_of(s): number for number, s in reversed(list(enumerate(settlements)))}
        pending = self._pending(list(first))
        holds = [first[_claim_of(s)] == number and _claim_of(s) in pending for number, s in enumerate(settlements)]
        held = [(s, pending[_claim_of(s)]) for s, is_held in zip(settlements, holds, strict=True) if is_held]
        replaced = [s.id for s, its in held if its.has_successor]
        self.add_history(_history([s for s, _ in held]))
        self._write_ids("drop_results", [s.id for s, its in held if its.has_large_result])
        remaining = self._without_special(held, replaced)
        self._settle_each(remaining)
        self._end_waiting(held)
        park(self._database, remaining)
        changed = {*replaced, *propagate_end(self._database, [s.id for s, its in held if its.is_linked])}
        return [_met(s, is_held, changed) for s, is_held in zip(settlements, holds, strict=True)]

    def _settle_each(self, settlements: Sequence[Settlement]) -> None:
        """Settle these, whose claims hold. Large results go beside their rows."""
        rows = [s._replace(result=b"") if _has_large_result(s) else s for s in settlements]
        self._write_batch("settle", settlement_values, rows, if_plain="")
        for settlement in settlements:
            if settlement.result is not None and _has_large_result(settlement):
                reference = store_value(self._database, settlement.result)
                self._database.write(sql("refer_to_result"), (reference, settlement.id))

    def _end_waiting(self, held: Sequence[tuple[Settlement, _Pending]]) -> None:
        """What has ended waits for nothing. What runs apart does so no more, unless it was given back unfinished."""
        self._write_ids("clear_blockers", [s.id for s, its in held if its.blockers and s.status != JobStatus.SCHEDULED])
        acquitted = [s.id for s, its in held if its.runs_apart and not is_unfinished(s, its.attempt, its.run_count)]
        self._write_ids("acquit", acquitted)
        self._write_ids("forget_suspects", acquitted)

    def _without_special(
        self, held: Sequence[tuple[Settlement, _Pending]], replaced: Sequence[str]
    ) -> list[Settlement]:
        """See to the jobs which do not become what their settlements say; the settlements that remain."""
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
            rows, values = row_values(piece)
            for id, owner, fence, *pending in decode_rows(
                self._database.row(sql("valid_claims", rows=rows), values)[0]
            ):
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
                for id, status in decode_rows(self._database.row(sql("statuses", ids=size), values)[0]):
                    met.setdefault(id, _CANCELS.get(status, CancelResult.ENDED))
                self._cancel(size, values, (reason, now, delete_at), set(met.values()))
            propagate_end(self._database, [id for id, result in met.items() if result is CancelResult.CANCELLED])
        return [met.get(id, CancelResult.MISSING) for id in ids]

    def _cancel(self, size: int, ids: list[str], how: tuple[str, int, int | None], met: set[CancelResult]) -> None:
        write = self._database.write
        if CancelResult.CANCELLED in met:
            write(sql("cancel_waiting", ids=size), [*how, *ids])
        if CancelResult.REQUESTED in met:
            write(sql("request_cancel", ids=size), [*how, *ids])
            write(sql("mark_cancel", ids=size), ids)
            write(sql("delete_orphaned_successors"))

    def cancel_requests(self, owner: int) -> list[str]:
        return decode_rows(self._database.row(sql("cancel_requests"), (owner,))[0])

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        if not self._expired(now, limit):  # without a lock
            return []
        with self._database.atomic():
            expired = self._expired(now, limit)
            ids = [job.id for job in expired]
            write_for(self._database, "cancel_waiting", ids, before=[EXPIRED, now, delete_at])
            propagate_end(self._database, ids)
        return expired

    def _expired(self, now: Microseconds, limit: int) -> list[Expired]:
        return [Expired._make(row) for row in decode_rows(self._database.row(sql("expired"), (now, limit))[0])]

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool) -> list[bool]:
        with self._database.atomic():
            answers = [self._database.write(sql("retry"), (now, id)) == 1 for id in ids]
            if with_dependents:
                revive(self._database, [id for id, is_done in zip(ids, answers, strict=True) if is_done], now=now)
            return unpark(self._database, ids, answers, now=now)

    # -- delete, record, purge, trim -----------------------------------------------------------------------------------

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        with self._database.atomic():
            unneeded = without_needed(self._database, ids)
            propagate_deletion(self._database, unneeded, now=now, delete_at=delete_at)
            return self._write_ids("delete", unneeded)

    def add_history(self, attempts: Sequence[AttemptRecord]) -> None:
        self._write_batch("add_history", attempt_values, attempts)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        if self._purgeable(now, 1) == (0, {}):  # without a lock
            return 0
        deleted, has_more = 0, True
        while has_more and deleted < limit:
            with self._database.atomic():  # each time: others write in between
                purged, has_more = self._purge_some(now, limit - deleted)
            deleted += purged
        return deleted

    def _purge_some(self, now: Microseconds, limit: int) -> tuple[int, bool]:
        """Delete some of the jobs that may be deleted, not too many bytes of them at once; how many, and whether to go
        on in this call."""
        number, wanted = self._purgeable(now, limit)
        if number == 0:
            return 0, False
        self._write_ids("keep_for_child", list(wanted))
        heirs = list(wanted.values())
        write_for(self._database, "mark_children_of_kept", heirs)
        write_for(self._database, "mark_causes_of_kept", heirs)
        number -= len(wanted)
        if self._database.write(sql("purge_messages"), (now, number, LARGE, _LARGE_MESSAGES)) == _LARGE_MESSAGES:
            return 0, True
        parts = decode_rows(self._database.row(sql("purgeable_parts"), (now, number))[0])
        bounded = sum(1 for total in accumulate(parts) if total <= _PARTS) or min(number, 1)
        return self._database.write(sql("purge"), (now, bounded)), bounded == number

    def _purgeable(self, now: Microseconds, limit: int) -> tuple[int, dict[str, int]]:
        """Of the first jobs that may be deleted, at most ``limit``: how many there are, and which of them must stay for
        the sake of another job."""
        number, wanted = self._database.row(sql("purgeable"), (now, limit))
        return number, dict(decode_rows(wanted))

    def trim(self, *, keep: int, limit: int) -> int:
        with self._database.atomic():
            trimmed = self._database.write(sql("trim"), (keep, limit))
            return trimmed + self._database.write(sql("trim_messages"), (keep, limit - trimmed))


_Claim = tuple[str, int, int]

_LARGE_MESSAGES = 16
_PARTS = 128
"""Large messages, and parts of large values (32 MB), that one transaction of ``purge`` deletes at most; of one job it
deletes all."""

_IF_PLAIN = """AND held.has_successor = 0 AND held.has_cancel = 0 AND held.has_dependents = 0 AND held.has_kept = 0
        AND held.blockers = 0 AND held.result_ref IS NULL"""

_CANCELS = {JobStatus.SCHEDULED.value: CancelResult.CANCELLED, JobStatus.RUNNING.value: CancelResult.REQUESTED}


class _Pending(NamedTuple):
    """What waits for the end of a running job."""

    has_successor: int
    has_cancel: int
    is_linked: int
    """Whether others depend on it, or are kept for its sake."""
    blockers: int
    is_paused: int
    has_large_result: int
    """Whether the result of an earlier run of the schedule stands beside the row."""

    attempt: int
    run_count: int

    @property
    def runs_apart(self) -> bool:
        """Whether it is on trial: what runs has no other blocker beside a pause."""
        return self.blockers > self.is_paused


def _has_large_result(settlement: Settlement) -> bool:
    return settlement.result is not None and len(settlement.result) > LARGE


def _without_large_payload(job: NewJob) -> NewJob:
    return job._replace(payload=b"") if len(job.payload) > LARGE else job


def _met(settlement: Settlement, is_held: bool, changed: set[str]) -> Settled:
    if not is_held:
        return Settled.REFUSED
    return Settled.CASCADED if settlement.id in changed else Settled.APPLIED


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
        job.expires_at,
        job.rule,
        job.options,
        job.payload,
    )
