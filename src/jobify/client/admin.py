"""Changes to queues, schedules and ended jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeAlias

from jobify.client.arguments import Filters
from jobify.client.queries import Queries
from jobify.exceptions import ConfigurationError, JobNotFoundError
from jobify.gateway.connection import StorageConnection
from jobify.jobs.row_builder import run_of_schedule
from jobify.model.clock import Clock
from jobify.model.cron import is_paused, is_stopped
from jobify.model.ids import check_text, text_ids
from jobify.model.records import CancelResult, JobRecord, SummaryIds
from jobify.storage.base import Storage
from jobify.types import Microseconds, UUIDGenerator

__all__ = ("Admin",)

Matches: TypeAlias = Callable[[JobRecord], bool]

_BATCH = 500


class Admin:
    """Writes in the caller's thread."""

    def __init__(
        self,
        connection: StorageConnection,
        queries: Queries,
        clock: Clock,
        new_id: UUIDGenerator,
        delete_at: Callable[[Microseconds], Microseconds | None],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._clock = clock
        self._new_id = text_ids(new_id)
        self._delete_at = delete_at

    def pause_queue(self, queue: str) -> None:
        """Keep workers from claiming jobs of this queue."""
        name = check_text(queue, what="queue")
        with self._connection as storage:
            storage.pause_queue(name)
        self._connection.notify(workers=True)

    def resume_queue(self, queue: str) -> None:
        """Undo :meth:`pause_queue`."""
        name = check_text(queue, what="queue")
        with self._connection as storage:
            storage.resume_queue(name)
        self._connection.notify(workers=True)

    def pause_schedule(self, job_id: str) -> bool:
        """Pause a schedule; whether it is one that has not ended."""
        with self._connection as storage:
            (is_done,) = storage.pause((job_id,))
        self._connection.notify(workers=True)
        return is_done

    def resume_schedule(self, job_id: str) -> bool:
        """Undo :meth:`pause_schedule`, revive a schedule that was stopped, or retry one that is parked; whether it was
        any of these."""
        now = self._clock.now()
        with self._connection as storage, storage.transaction():
            record = next(iter(storage.get(SummaryIds((job_id,)))), None)
            is_revived = record is not None and _can_be_retried(record)
            (is_done,) = storage.retry((job_id,), now=now) if is_revived else storage.resume((job_id,), now=now)
        self._connection.notify(workers=True)
        return is_done

    def run_now(self, job_id: str) -> str:
        """Enqueue one job with the task and arguments of a schedule, due now; its id. The rule is not affected."""
        with self._connection as storage:
            record = next(iter(storage.get((job_id,))), None)
            if record is None:
                raise JobNotFoundError(job_id)
            if record.rule is None:
                raise ConfigurationError(f"Job {job_id!r} is no schedule. For a job that has failed there is retry().")
            row = run_of_schedule(record, self._new_id(), self._clock.now())
            storage.insert((row,))
        self._connection.notify(workers=True)
        return row.id

    def delete(self, ids: Sequence[str], still: Matches | None = None, *, with_dependents: bool = False) -> int:
        """Delete jobs that are not running, with everything that belongs to them; how many.

        Dependents of a job that had not ended are cancelled; jobs that others still need stay. ``still``: delete only
        jobs for which it holds at that moment.
        """
        total = deleted = self._delete(ids, still, with_dependents)
        while deleted and len(ids) > _BATCH:  # jobs that only a later one needed
            deleted = self._delete(ids, still, with_dependents)
            total += deleted
        self._connection.notify(workers=True, clients=True)
        return total

    def _delete(self, ids: Sequence[str], still: Matches | None, with_dependents: bool) -> int:
        deleted = 0
        for start in range(0, len(ids), _BATCH):
            with self._batch(ids[start : start + _BATCH], still, with_dependents) as (storage, some):
                now = self._clock.now()
                deleted += storage.delete(some, now=now, delete_at=self._delete_at(now))
        return deleted

    def retry(self, ids: Sequence[str], still: Matches | None = None, *, with_dependents: bool = True) -> list[bool]:
        """Retry failed jobs, their cancelled dependents, and parked jobs, in one transaction; for each, whether.

        A schedule that has ended by its rule has not failed. ``still``: retry only jobs for which it holds at that
        moment; the others are not in the result.
        """
        with self._batch(ids, still) as (storage, some):
            ended = {
                row.id for row in storage.get(SummaryIds(some)) if row.rule is not None and not _can_be_retried(row)
            }
            meant = [id for id in dict.fromkeys(some) if id not in ended]
            done = storage.retry(meant, now=self._clock.now(), with_dependents=with_dependents) if meant else ()
            answers = dict(zip(meant, done, strict=True))
        self._connection.notify(workers=True)
        return [answers.get(id, False) for id in some]

    def cancel(
        self, ids: Sequence[str], still: Matches | None = None, *, with_dependents: bool = False
    ) -> dict[str, CancelResult]:
        """Cancel jobs, in one transaction, without waiting for those that run; the result for each. ``still``: as for
        :meth:`retry`."""
        with self._batch(ids, still, with_dependents) as (storage, some):
            now = self._clock.now()
            answers = storage.cancel(some, reason="cancelled", now=now, delete_at=self._delete_at(now)) if some else []
            met = dict(zip(some, answers, strict=True))
        self._connection.notify(workers=True, clients=True)
        return met

    @contextmanager
    def _batch(
        self, ids: Sequence[str], still: Matches | None, with_dependents: bool = False
    ) -> Iterator[tuple[Storage, Sequence[str]]]:
        """The storage, and the jobs to change: those for which ``still`` holds, and all that depends on them. They are
        determined in the transaction that changes them."""
        with self._connection as storage:
            if still is None and not with_dependents:
                yield storage, ids
                return
            with storage.transaction():
                if still is not None:
                    found = {job.id: job for job in storage.get(SummaryIds(ids))}
                    ids = [id for id in ids if id in found and still(found[id])]
                yield storage, _with_dependents(storage, ids) if with_dependents else ids

    def purge(self, filters: Filters) -> int:
        """Delete the ended jobs that match and that no other job needs, a bounded number at a time; how many."""
        total = 0
        while deleted := self._purge_matching(filters):
            total += deleted
        return total

    def _purge_matching(self, filters: Filters) -> int:
        deleted, ids = 0, (record.id for record in self._queries.all_ended(filters))
        while batch := list(islice(ids, _BATCH)):
            deleted += self.delete(batch)
        return deleted

    def purge_due(self) -> int:
        """Delete jobs whose retention is over, a bounded number at a time; how many."""
        total = 0
        while deleted := self._purge_some():
            total += deleted
        return total

    def _purge_some(self) -> int:
        with self._connection as storage:
            return storage.purge(now=self._clock.now(), limit=_BATCH)


def _can_be_retried(schedule: JobRecord) -> bool:
    """Whether a schedule was stopped, or is parked and not paused."""
    return is_stopped(schedule) or (schedule.parking is not None and not is_paused(schedule))


def _with_dependents(storage: Storage, ids: Sequence[str]) -> list[str]:
    """These jobs, and all that depends on them, directly or not."""
    reached = dict.fromkeys(ids)
    waiting = list(reached)
    while waiting:
        fresh = [child for child in storage.relations(waiting.pop()).children if child not in reached]
        reached |= dict.fromkeys(fresh)
        waiting += fresh
    return list(reached)
