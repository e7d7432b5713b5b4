"""Workers, queues and schedules as values, and jobs that no worker serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import Enum, auto
from typing import Any

from jobify.model.clock import to_datetime
from jobify.model.public_status import PublicStatus
from jobify.model.records import OwnerRecord

__all__ = (
    "LimitView",
    "QueueView",
    "ScheduleView",
    "Unserved",
    "UnservedReason",
    "WorkerView",
    "unserved_reason",
    "worker_view",
)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A process that claims jobs, or (``role`` is ``client``) that only waits for their ends."""

    id: int
    host: str
    pid: int
    role: str
    queues: tuple[str, ...] | None
    """The queues that it serves; None: every queue."""
    tasks: tuple[str, ...]
    concurrency: int
    started_at: datetime
    seen_at: datetime
    is_alive: bool
    jobs: tuple[str, ...]
    """The ids of the jobs that it runs."""
    is_disconnected: bool = False
    """It has lost its connection to the server of the database, and may come back."""

    @property
    def is_at_work(self) -> bool:
        """Whether it is alive and claims jobs."""
        return self.is_alive and self.role == "worker"

    def serves(self, queue: str) -> bool:
        """Whether it claims jobs of this queue."""
        return self.is_at_work and (self.queues is None or queue in self.queues)


def worker_view(owner: OwnerRecord, jobs: Sequence[str], zone: tzinfo) -> WorkerView:
    """The view of a process that runs these jobs; times in ``zone``."""
    return WorkerView(
        id=owner.id,
        host=owner.host,
        pid=owner.pid,
        role=owner.profile.role.value,
        queues=owner.profile.queues,
        tasks=owner.profile.tasks,
        concurrency=owner.profile.concurrency,
        started_at=to_datetime(owner.started_at, zone=zone),
        seen_at=to_datetime(owner.seen_at, zone=zone),
        is_alive=owner.is_alive,
        jobs=tuple(jobs),
        is_disconnected=owner.is_disconnected,
    )


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue that has jobs, is paused, or is named by a worker."""

    name: str
    is_paused: bool
    counts: Mapping[str, int]
    """Jobs by the six words."""
    workers: int
    """Live workers that serve it."""
    unknown_tasks: tuple[str, ...] = ()
    """Tasks of waiting jobs that none of these workers knows: only these jobs do not run."""

    @property
    def problem(self) -> str | None:
        """Why no job of it runs although some wait; None if there is no such problem."""
        if not self.counts["pending"] or self.is_paused or self.workers:
            return None
        return f"No worker serves the queue {self.name!r}."


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A job with a cron rule."""

    id: str
    task_name: str
    queue_name: str
    cron: str | None
    """The expression; None if the rule cannot be read here."""
    zone: str | None
    """The name of the time zone in which every process reads it; None in old rows, which name none."""
    status: PublicStatus
    is_paused: bool
    next_at: datetime | None
    """When it runs next; None once it has ended."""
    run_count: int
    failure_count: int
    """Failures in a row."""
    error: str | None = None
    """``Type: message`` of the last failure; None if the last run succeeded."""
    stopped_at: datetime | None = None
    """When it was stopped, by ``max_failures`` or because it could not be run; None: it was not. One that has ended by
    its own rule (``max_runs``, a last date) was not stopped."""

    @property
    def is_stopped(self) -> bool:
        """Whether it runs again only after ``app.resume_schedule()``, or with another rule or other code."""
        return self.stopped_at is not None


@dataclass(frozen=True, slots=True)
class LimitView:
    """A limit of tasks, or one key of it."""

    name: str
    key: Any
    """The key, of one in ``keys``; else None."""
    kind: str
    """``concurrency``, ``rate`` or ``fair``."""
    limit: int
    """As it counts: of the code, or as ``set_limit`` has set it. Of a fair share 1, which says nothing."""
    per: float
    """Of a rate: seconds; else 0."""
    burst: int
    is_set: bool
    """Whether ``set_limit`` has set it."""
    active: int
    """Jobs that hold it."""
    waiting: int
    """Jobs that it holds back; of a fair share, those that wait for their turn."""
    keys: tuple[LimitView, ...] = ()
    """Of a limit with a key: up to 100 keys that jobs wait for, that have reached the limit, or that were set."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """Jobs that wait although they could run, because no live worker takes them."""

    task_name: str
    queue_name: str
    waiting: int
    reason: str


class UnservedReason(Enum):
    """Why no worker claims a job that could run."""

    NO_WORKER = auto()
    QUEUE_UNSERVED = auto()
    TASK_UNKNOWN = auto()
    TASK_ELSEWHERE = auto()
    """Workers know the task, but none of them serves the queue."""


def unserved_reason(task: str, queue: str, workers: Sequence[WorkerView]) -> UnservedReason | None:
    """Why no worker claims jobs of this task in this queue; None if one does."""
    working = [worker for worker in workers if worker.is_at_work]
    knowing = [worker for worker in working if task in worker.tasks]
    if any(worker.serves(queue) for worker in knowing):
        return None
    if not working:
        return UnservedReason.NO_WORKER
    if not any(worker.serves(queue) for worker in working):
        return UnservedReason.QUEUE_UNSERVED
    return UnservedReason.TASK_ELSEWHERE if knowing else UnservedReason.TASK_UNKNOWN
