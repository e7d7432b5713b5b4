"""Workers, queues and schedules as values, jobs that no worker serves, and why a job waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import Enum, auto
from typing import Final, NamedTuple

from jobify.model.clock import SECOND, from_datetime, to_datetime
from jobify.model.cron import is_stopped
from jobify.model.durations import how_long, until
from jobify.model.public_status import PublicStatus
from jobify.model.records import JobRecord, OwnerRecord, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.base import Storage
from jobify.storage.end_reasons import is_snoozed
from jobify.storage.ownership import HEARTBEAT
from jobify.types import Microseconds

__all__ = (
    "UNSERVED_NOTES",
    "ClusterState",
    "QueueView",
    "ScheduleView",
    "Unserved",
    "UnservedReason",
    "WorkerView",
    "explain",
    "read_cluster_state",
    "stopped_note",
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


# -- wait reasons ------------------------------------------------------------------------------------------------------
# Why a job does not run, or no longer: its note.
#
# A queue that seems to hang mostly has one of these reasons: no worker serves the queue, no worker has the task, the
# queue is paused, the job waits for others, its call does not fit the code, or its worker has died and there is no
# other to recover it. This module derives them from the processes that are alive and from their profiles.

UNSERVED_NOTES: Final = {
    UnservedReason.NO_WORKER: "no worker runs",
    UnservedReason.QUEUE_UNSERVED: "no worker serves this queue",
    UnservedReason.TASK_UNKNOWN: "no worker knows this task",
    UnservedReason.TASK_ELSEWHERE: "no worker of this queue knows this task",
}

_SILENT: Final = 3 * HEARTBEAT
"""Seconds without a heartbeat after which a live process is considered to hang, or to be stopped."""
_OVERDUE: Final = 10.0
"""Seconds after which a job that could run waits for a slot, and not for the next claim."""


class ClusterState(NamedTuple):
    """Which processes there are, and what they may not take."""

    processes: Sequence[WorkerView]
    """Also those that have died and were not removed yet."""
    paused: frozenset[str]
    now: Microseconds

    @property
    def workers(self) -> list[WorkerView]:
        """The living processes that claim jobs."""
        return [process for process in self.processes if process.is_at_work]

    def problem(self, task: str, queue: str) -> str | None:
        """What keeps any job of this task in this queue from being taken; None: nothing does."""
        if queue in self.paused:
            return "the queue is paused"
        missing = unserved_reason(task, queue, self.processes)
        return None if missing is None else UNSERVED_NOTES[missing]

    def note(self, job: JobRecord) -> str:
        """What there is to say about a job in a few words; empty: nothing."""
        if job.status == JobStatus.RUNNING:
            requested = "cancellation requested" if job.is_cancel_requested else ""
            return self.trouble(job) or requested or ("" if job.progress is None else f"{job.progress:g} %")
        if job.status != JobStatus.SCHEDULED:
            return stopped_note(job, self.now) or job.error or ""
        return self._blocked(job) or self.problem(job.task, job.queue) or self._waiting(job)

    def trouble(self, job: JobRecord) -> str:
        """Why a job that is running makes no progress: its worker is gone, or hangs; empty: it is well."""
        owner = next((process for process in self.processes if process.id == job.owner), None)
        if owner is None:  # it came, or was removed, between two reads
            return ""
        silence = self._silence(owner)
        if not owner.is_alive:  # the time of its death is unknown; a job that it began later than it was seen is a sign
            seen = silence if job.started_at is None else min(silence, (self.now - job.started_at) / SECOND)
            return f"its worker ({owner.pid}) is gone, last seen {how_long(max(seen, 0))} ago; {self._heir(job)}"
        return f"its worker ({owner.pid}) has not answered for {how_long(silence)}" if silence > _SILENT else ""

    def _heir(self, job: JobRecord) -> str:
        """What becomes of a job whose process has died. Any process that claims jobs takes it from the dead one."""
        if not self.workers:
            return f"the next worker that starts {'cancels it' if job.is_cancel_requested else 'takes it up'}"
        if job.is_cancel_requested:
            return "another worker cancels it within seconds"
        problem = self.problem(job.task, job.queue)
        return "another worker takes it up within seconds" if problem is None else problem

    def _blocked(self, job: JobRecord) -> str:
        """What the job waits for beside its time."""
        others = _others(job)
        if others > 0:
            return "paused" if job.rule is not None else f"waits for {others} other{'s' * (others > 1)}"
        if job.parking is not None:
            return f"parked {until(job.parking.at, now=self.now)}: {job.parking.reason}"
        if job.blockers:
            problem = self.problem(job.task, job.queue)
            return problem or "waits to run apart: processes that ran it have died"
        return ""

    def _waiting(self, job: JobRecord) -> str:
        """What a job waits for that a worker would take."""
        if job.due_at > self.now:
            when = until(job.due_at, now=self.now)
            if is_snoozed(job.error):
                return f"due {when}; {job.error}"
            if job.error is None:
                return f"due {when}"
            return f"due {when}; last run: {job.error}" if job.failure_count else f"tries again {when}: {job.error}"
        if job.error is not None and not is_snoozed(job.error):
            return f"tries again: {job.error}"
        silent = min(self._silence(worker) for worker in self.workers if worker.serves(job.queue))
        if silent > _SILENT:
            return f"no worker of this queue has answered for {how_long(silent)}"
        return "waits for a free slot" if self.now - job.due_at > _OVERDUE * SECOND else ""

    def _silence(self, process: WorkerView) -> float:
        """Seconds since its last heartbeat."""
        return max(0.0, (self.now - from_datetime(process.seen_at, zone=UTC)) / SECOND)


def _others(job: JobRecord) -> int:
    """How many other jobs it waits for; of a schedule, whether it is paused."""
    return job.blockers - bool(job.is_apart) - (job.parking is not None)


def read_cluster_state(storage: Storage, *, now: Microseconds, zone: tzinfo) -> ClusterState:
    """The state as it is now. Reads no jobs."""
    return ClusterState(
        [worker_view(owner, (), zone) for owner in storage.owners()], frozenset(storage.paused_queues()), now
    )


def explain(storage: Storage, state: ClusterState, job: JobRecord) -> str:
    """The note of one job. What waits for others is followed up to the job that the wait is about, with its note."""
    note, seen = state.note(job), {job.id}
    while job.status == JobStatus.SCHEDULED and job.rule is None and _others(job) > 0:
        parents = storage.get(SummaryIds(storage.relations(job.id).parents))
        waited = [parent for parent in parents if parent.status not in TERMINAL and parent.id not in seen]
        if not waited:
            return note
        job = next((parent for parent in waited if state.note(parent)), waited[0])
        seen.add(job.id)
        root = state.note(job) or ("running" if job.status == JobStatus.RUNNING else "ready")
        note = f"{note.partition(': ')[0]}: {job.task} {job.id} ({root})"
    return note


def stopped_note(job: JobRecord, now: Microseconds) -> str:
    """Since when a schedule is stopped, and by which error; empty if it is not."""
    if not is_stopped(job):
        return ""
    when = until(job.finished_at or now, now=now)
    return f"stopped {when}: {job.error}" if job.error else f"stopped {when}"
