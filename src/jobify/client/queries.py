"""Lists and counts of jobs, queues, workers and schedules. Reads in the caller's thread, and waits for no writer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from jobify.client.arguments import Filters
from jobify.client.views import (
    QueueView,
    ScheduleView,
    Unserved,
    UnservedReason,
    WorkerView,
    unserved_reason,
    worker_view,
)
from jobify.exceptions import ConfigurationError
from jobify.gateway.connection import StorageConnection
from jobify.jobs.job_result import JobResult
from jobify.jobs.result_backend import ResultBackend
from jobify.model.clock import Clock, from_datetime, to_datetime
from jobify.model.cron import is_paused, is_stopped, rule_as_written
from jobify.model.limit_gates import LimitWait
from jobify.model.public_status import (
    ENDS,
    PUBLIC_STATUSES,
    counts_by_name,
    counts_by_status,
    public_status,
    status_filter,
)
from jobify.model.records import CountKey, JobQuery, JobRecord
from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.end_reasons import is_snoozed
from jobify.types import Microseconds

__all__ = ("Queries",)

_PAGE = 1000
_RUNNING = JobQuery(statuses=(JobStatus.RUNNING.value,), has_values=False)
_MOST = 2**31
_WAITING = (JobStatus.SCHEDULED.value,)
_REASONS = {
    UnservedReason.NO_WORKER: "No worker is running.",
    UnservedReason.QUEUE_UNSERVED: "No worker serves the queue {queue!r}.",
    UnservedReason.TASK_UNKNOWN: "No worker that serves the queue {queue!r} knows the task {task!r}.",
    UnservedReason.TASK_ELSEWHERE: "No worker that serves the queue {queue!r} knows the task {task!r}.",
}


class Queries:
    """Lists and counts."""

    def __init__(
        self,
        connection: StorageConnection,
        operations: ResultBackend,
        clock: Clock,
        zone: tzinfo,
        names_of: Callable[[str], Sequence[str]],
    ) -> None:
        self._names_of = names_of
        """The names that jobs of a task may be stored under."""
        self._connection = connection
        self._operations = operations
        self._clock = clock
        self._zone = zone

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def jobs(
        self, filters: Filters, *, limit: int, after: str | None = None, is_newest_first: bool = True
    ) -> list[JobResult[Any]]:
        """A page of jobs, in order of id, which is the order of creation."""
        found = self.find(filters, limit=limit, after=after, is_newest_first=is_newest_first)
        return [JobResult(record.id, self._operations) for record in found]

    def find(
        self, filters: Filters, *, limit: int, after: str | None = None, is_newest_first: bool = True
    ) -> list[JobRecord]:
        """:meth:`jobs`, as rows."""
        query = self._query(filters)._replace(limit=_count(limit), after_id=after, is_newest_first=is_newest_first)
        return self._connection.reader().find(query)

    def dead_letters(self, filters: Filters, *, limit: int, after: str | None = None) -> list[JobResult[Any]]:
        """Jobs that failed or are dead, the newest first."""
        return self.jobs(filters._replace(statuses=("failed", "dead")), limit=limit, after=after)

    def stats(self, filters: Filters) -> dict[str, int]:
        """How many jobs there are, by the six words."""
        return counts_by_status(self.counts(filters))

    def counts(self, filters: Filters) -> Mapping[CountKey, int]:
        """How many jobs there are, by task, queue and status."""
        return self._connection.reader().count(self._query(filters))

    def purgeable(self) -> dict[str, int]:
        """How many ended jobs may be deleted by now, by the six words."""
        return counts_by_status(self._connection.reader().count_purgeable(now=self._clock.now()))

    def count_ended(self, filters: Filters) -> int:
        """How many ended jobs match."""
        return sum(self.counts(_only_ended(filters)).values())

    def all_ended(self, filters: Filters) -> Iterator[JobRecord]:
        """The rows of all ended jobs that match."""
        return self._all(self._query(_only_ended(filters)))

    def _all(self, query: JobQuery) -> Iterator[JobRecord]:
        """All rows that match, page by page."""
        query = query._replace(limit=_PAGE)
        while page := self._connection.reader().find(query):
            yield from page
            query = query._replace(after_id=page[-1].id)

    def _query(self, filters: Filters) -> JobQuery:
        """The query for these filters; ConfigurationError for an invalid one."""
        rows = None if filters.statuses is None else status_filter(filters.statuses)
        return JobQuery(
            statuses=None if rows is None else rows.statuses,
            is_dead=None if rows is None else rows.is_dead,
            tasks=None if filters.tasks is None else self._stored_names(filters.tasks),
            queues=None if filters.queues is None else tuple(filters.queues),
            is_schedule=filters.is_schedule,
            created_after=self._at(filters.created_after, "created_after"),
            created_before=self._at(filters.created_before, "created_before"),
            metadata=_pairs(filters.metadata),
            has_values=False,
        )

    def _stored_names(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """These tasks, by all names that their jobs may be stored under."""
        return tuple(dict.fromkeys(name for task in tasks for name in self._names_of(task)))

    def _at(self, moment: datetime | None, what: str) -> Microseconds | None:
        if moment is None:
            return None
        if not isinstance(moment, datetime):
            raise ConfigurationError(f"{what} is {moment!r}; it must be a datetime.")
        return from_datetime(moment, zone=self._zone)

    # -- queues, workers, schedules ------------------------------------------------------------------------------------

    def workers(self) -> list[WorkerView]:
        """Every registered process, including dead ones until they are removed."""
        running: defaultdict[int | None, list[str]] = defaultdict(list)
        for job in self._all(_RUNNING):
            running[job.owner].append(job.id)
        return [worker_view(owner, running[owner.id], self._zone) for owner in self._connection.reader().owners()]

    def _processes(self) -> list[WorkerView]:
        """:meth:`workers`, without what they run."""
        return [worker_view(owner, (), self._zone) for owner in self._connection.reader().owners()]

    def queues(self) -> list[QueueView]:
        """Every queue that has jobs, is paused, or is named by a worker; by name."""
        storage, workers = self._connection.reader(), self._processes()
        counts = storage.count(JobQuery())
        by_queue = counts_by_name(counts, "queue")
        waiting = {(key.queue, key.task) for key in counts if key.status in _WAITING}
        unknown = [
            (queue, task) for queue, task in sorted(waiting) if unserved_reason(task, queue, workers) is not None
        ]
        paused = self.paused_queues()
        named = {queue for worker in workers for queue in worker.queues or () if worker.is_alive}
        return [
            QueueView(
                name=name,
                is_paused=name in paused,
                counts=by_queue.get(name) or dict.fromkeys(PUBLIC_STATUSES, 0),
                workers=sum(worker.serves(name) for worker in workers),
                unknown_tasks=tuple(task for queue, task in unknown if queue == name),
            )
            for name in sorted(by_queue.keys() | paused | named)
        ]

    def paused_queues(self) -> frozenset[str]:
        """The queues whose jobs no worker claims."""
        return frozenset(self._connection.reader().paused_queues())

    def limit_waits(self, ids: Sequence[str]) -> Mapping[str, LimitWait]:
        """What those of these jobs wait for that a limit holds back."""
        return self._connection.reader().limit_waits(ids) if ids else {}

    def unserved(self) -> list[Unserved]:
        """Jobs that wait although no live worker serves them, by task and queue."""
        storage, workers = self._connection.reader(), self._processes()
        waiting: Counter[tuple[str, str]] = Counter()
        for key, count in storage.count(JobQuery(statuses=_WAITING)).items():
            waiting[key.task, key.queue] += count
        found = []
        for (task, queue), count in sorted(waiting.items()):
            missing = unserved_reason(task, queue, workers)
            if missing is not None:
                found.append(Unserved(task, queue, count, _REASONS[missing].format(task=task, queue=queue)))
        return found

    def schedules(self) -> list[ScheduleView]:
        """Every job with a cron rule, in order of id."""
        return [self._schedule(record) for record in self.schedule_records()]

    def schedule_records(self) -> Iterator[JobRecord]:
        """:meth:`schedules`, as rows."""
        return self._all(JobQuery(is_schedule=True, has_values=False))

    def _schedule(self, record: JobRecord) -> ScheduleView:
        has_ended, rule = record.status in TERMINAL, rule_as_written(record.rule)
        return ScheduleView(
            id=record.id,
            task_name=record.task,
            queue_name=record.queue,
            cron=rule.get("expression"),
            zone=rule.get("zone"),
            status=public_status(record.status, record.is_dead),
            is_paused=is_paused(record),
            next_at=None if has_ended else to_datetime(record.due_at, zone=self._zone),
            run_count=record.run_count,
            failure_count=record.failure_count,
            error=None if record.status == JobStatus.CANCELLED or is_snoozed(record.error) else record.error,
            stopped_at=to_datetime(record.finished_at or 0, zone=self._zone) if is_stopped(record) else None,
        )


def _only_ended(filters: Filters) -> Filters:
    """These filters, for ended jobs only; ConfigurationError if they ask for others."""
    others = [word for word in filters.statuses or () if word in PUBLIC_STATUSES and word not in ENDS]
    if others:
        raise ConfigurationError(
            f"Jobs that are {others[0]!r} have not ended, and are not purged. Use job.cancel() or app.delete_jobs()."
        )
    return filters._replace(statuses=filters.statuses or sorted(ENDS))


def _count(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"The limit is {limit!r}; it must be a whole number of at least 1.")
    return min(limit, _MOST)


def _pairs(metadata: Sequence[tuple[str, Any]]) -> tuple[tuple[str, str | int | float | bool | None], ...]:
    for key, value in metadata:
        if not (isinstance(key, str) and isinstance(value, str | int | float | bool | None)):
            raise ConfigurationError(f"The metadata to look for has {key!r}: {value!r}. Use texts, numbers, booleans.")
    return tuple(metadata)
