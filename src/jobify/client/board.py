"""Which jobs, queues, workers and schedules there are. Reads in the caller's thread; that waits for no writer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from jobify.client.access import Access
from jobify.client.asking import Filters
from jobify.client.views import QueueView, ScheduleView, Unserved, WorkerView
from jobify.clock import Clock, from_datetime, to_datetime
from jobify.cron import rule_from_json
from jobify.exceptions import ConfigurationError, PayloadError
from jobify.records import CountKey, JobQuery, JobRecord, OwnerRecord
from jobify.result import JobResult, ResultDesk
from jobify.status import ENDED, JobStatus
from jobify.types import Microseconds
from jobify.words import counts_by_word, rows_of, word_of

__all__ = ("Board",)

_PAGE = 1000
_WAITING = (JobStatus.SCHEDULED.value,)
_ENDS_BADLY = (JobStatus.FAILED.value, JobStatus.TIMEOUT.value, JobStatus.PERMANENTLY_FAILED.value)


class Board:
    """Lists and counts."""

    def __init__(self, access: Access, desk: ResultDesk, clock: Clock, zone: tzinfo) -> None:
        self._access = access
        self._desk = desk
        self._clock = clock
        self._zone = zone

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def jobs(
        self, filters: Filters, *, limit: int, after: str | None = None, is_newest_first: bool = True
    ) -> list[JobResult[Any]]:
        """A page of jobs, in order of id, which is that of time."""
        query = self.query(filters)._replace(limit=_count(limit), after_id=after, is_newest_first=is_newest_first)
        return [JobResult(record.id, self._desk) for record in self._access.look().find(query)]

    def dead_letters(self, filters: Filters, *, limit: int, after: str | None = None) -> list[JobResult[Any]]:
        """Jobs that failed or are dead, the newest first."""
        query = self.query(filters)._replace(
            statuses=_ENDS_BADLY, limit=_count(limit), after_id=after, is_newest_first=True
        )
        return [JobResult(record.id, self._desk) for record in self._access.look().find(query)]

    def stats(self, filters: Filters) -> dict[str, int]:
        """How many jobs there are, by the six words."""
        return counts_by_word(self._access.look().count(self.query(filters)))

    def purgeable(self) -> dict[str, int]:
        """How many ended jobs may be deleted by now, by the six words."""
        return counts_by_word(self._access.look().count_purgeable(now=self._clock.now()))

    def records(self, filters: Filters) -> Iterator[JobRecord]:
        """All rows that match, page by page."""
        query = self.query(filters)._replace(limit=_PAGE)
        while page := self._access.look().find(query):
            yield from page
            query = query._replace(after_id=page[-1].id)

    def query(self, filters: Filters) -> JobQuery:
        """What to ask the storage; ConfigurationError for a filter that cannot be."""
        rows = None if filters.status is None else rows_of(filters.status)
        return JobQuery(
            statuses=None if rows is None else rows.statuses,
            is_dead=None if rows is None else rows.is_dead,
            tasks=None if filters.task is None else (filters.task,),
            queues=None if filters.queue is None else (filters.queue,),
            created_after=self._at(filters.created_after, "created_after"),
            created_before=self._at(filters.created_before, "created_before"),
            metadata=_pairs(filters.metadata),
        )

    def _at(self, moment: datetime | None, what: str) -> Microseconds | None:
        if moment is None:
            return None
        if not isinstance(moment, datetime):
            raise ConfigurationError(f"{what} is {moment!r}; it must be a datetime.")
        return from_datetime(moment, zone=self._zone)

    # -- around them ---------------------------------------------------------------------------------------------------

    def workers(self) -> list[WorkerView]:
        """Every process in the list, the dead among them until somebody removes them."""
        storage = self._access.look()
        return [self._worker(owner, storage.find(_runs(owner))) for owner in storage.owners()]

    def _worker(self, owner: OwnerRecord, jobs: Sequence[JobRecord]) -> WorkerView:
        profile = owner.profile
        return WorkerView(
            id=owner.id,
            host=owner.host,
            pid=owner.pid,
            role=profile.role.value,
            queues=profile.queues,
            tasks=profile.tasks,
            concurrency=profile.concurrency,
            started_at=to_datetime(owner.started_at, zone=self._zone),
            seen_at=to_datetime(owner.seen_at, zone=self._zone),
            is_alive=owner.is_alive,
            jobs=tuple(job.id for job in jobs),
        )

    def queues(self) -> list[QueueView]:
        """Every queue that has jobs, is paused, or is named by a worker; by name."""
        storage, workers = self._access.look(), self.workers()
        by_queue: dict[str, dict[CountKey, int]] = {}
        for key, count in storage.count(JobQuery()).items():
            by_queue.setdefault(key.queue, {})[key] = count
        paused = set(storage.paused_queues())
        named = {queue for worker in workers for queue in worker.queues or () if worker.is_alive}
        return [
            QueueView(
                name=name,
                is_paused=name in paused,
                counts=counts_by_word(by_queue.get(name, {})),
                workers=sum(worker.serves(name) for worker in workers),
            )
            for name in sorted(by_queue.keys() | paused | named)
        ]

    def unserved(self) -> list[Unserved]:
        """Jobs that wait for a worker that nobody has started, by task and queue."""
        storage, workers = self._access.look(), self.workers()
        waiting: Counter[tuple[str, str]] = Counter()
        for key, count in storage.count(JobQuery(statuses=_WAITING)).items():
            waiting[key.task, key.queue] += count
        found = []
        for (task, queue), count in sorted(waiting.items()):
            reason = _obstacle(task, queue, workers)
            if reason is not None:
                found.append(Unserved(task, queue, count, reason))
        return found

    def schedules(self) -> list[ScheduleView]:
        """Every job with a cron rule, in order of id."""
        query = JobQuery(is_schedule=True, limit=_PAGE)
        found: list[ScheduleView] = []
        while page := self._access.look().find(query):
            found += map(self._schedule, page)
            query = query._replace(after_id=page[-1].id)
        return found

    def _schedule(self, record: JobRecord) -> ScheduleView:
        has_ended = record.status in ENDED
        return ScheduleView(
            id=record.id,
            task_name=record.task,
            queue_name=record.queue,
            cron=_expression(record.rule),
            status=word_of(record.status, record.is_dead),
            is_paused=record.blockers > 0,
            next_at=None if has_ended else to_datetime(record.due_at, zone=self._zone),
            run_count=record.run_count,
            failure_count=record.failure_count,
        )


def _runs(owner: OwnerRecord) -> JobQuery:
    return JobQuery(statuses=(JobStatus.RUNNING.value,), owner=owner.id, limit=_PAGE)


def _obstacle(task: str, queue: str, workers: Sequence[WorkerView]) -> str | None:
    """Why no live worker takes jobs of this task in this queue; None if one does."""
    serving = [worker for worker in workers if worker.serves(queue)]
    if any(task in worker.tasks for worker in serving):
        return None
    if serving:
        return f"No worker that serves the queue {queue!r} knows the task {task!r}."
    if any(worker.is_alive and worker.role == "worker" for worker in workers):
        return f"No worker serves the queue {queue!r}."
    return "No worker is running."


def _expression(rule: str | None) -> str | None:
    try:
        return None if rule is None else rule_from_json(rule).expression
    except PayloadError:  # of a newer release, or damaged
        return None


def _count(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"The limit is {limit!r}; it must be a whole number of at least 1.")
    return limit


def _pairs(metadata: Mapping[str, Any] | None) -> tuple[tuple[str, str | int | float | bool | None], ...]:
    pairs = tuple((metadata or {}).items())
    for key, value in pairs:
        if not (isinstance(key, str) and isinstance(value, str | int | float | bool | None)):
            raise ConfigurationError(f"The metadata to look for has {key!r}: {value!r}. Use texts, numbers, booleans.")
    return pairs
