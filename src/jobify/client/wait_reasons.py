"""Why a job does not run, or no longer: its note.

A queue that seems to hang mostly has one of these reasons: no worker serves the queue, no worker has the task, the
queue is paused, the job waits for others or for a limit, its call does not fit the code, or its worker has died and
there is no other to recover it. This module derives them from the processes that are alive and from their profiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Final, NamedTuple

from jobify.client.views import UnservedReason, WorkerView, unserved_reason, worker_view
from jobify.model.clock import SECOND, from_datetime
from jobify.model.cron import is_stopped
from jobify.model.durations import how_long, until
from jobify.model.limit_gates import LimitKind, LimitWait
from jobify.model.records import JobRecord, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.base import Storage
from jobify.storage.end_reasons import is_snoozed
from jobify.storage.ownership import HEARTBEAT
from jobify.types import Microseconds

__all__ = ("UNSERVED_NOTES", "ClusterState", "explain", "limit_text", "ordinal", "read_cluster_state", "stopped_note")

UNSERVED_NOTES: Final = {
    UnservedReason.NO_WORKER: "no worker runs",
    UnservedReason.QUEUE_UNSERVED: "no worker serves this queue",
    UnservedReason.TASK_UNKNOWN: "no worker knows this task",
    UnservedReason.TASK_ELSEWHERE: "no worker of this queue knows this task",
}

_COUNTED: Final = 10_000
"""Places in a line that are counted."""
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
    limit_waits: Mapping[str, LimitWait] = {}
    """What jobs wait for that a limit has held back, by id; of others the note says less."""

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

    def waits_for(self, job: JobRecord) -> str | None:
        """The limit that holds a job back, in a few words."""
        wait = self.limit_waits.get(job.id)
        return None if wait is None else limit_text(wait)

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
        if job.waits_for_limit:
            return self.problem(job.task, job.queue) or f"waits for {self.waits_for(job) or 'a limit'}"
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
    return job.blockers - bool(job.is_apart) - (job.parking is not None) - job.waits_for_limit


def read_cluster_state(
    storage: Storage, *, now: Microseconds, zone: tzinfo, jobs: Iterable[JobRecord] = ()
) -> ClusterState:
    """The state as it is now, with what is to be known for the notes of these jobs."""
    limited = [job.id for job in jobs if job.waits_for_limit]
    return ClusterState(
        [worker_view(owner, (), zone) for owner in storage.owners()],
        frozenset(storage.paused_queues()),
        now,
        storage.limit_waits(limited) if limited else {},
    )


def limit_text(wait: LimitWait) -> str:
    """What a job waits for that a limit has held back: ``limit openai 10/10, 214th in line``."""
    name = f"limit {wait.name}" + (f" of {wait.key}" if wait.key else "")
    if not wait.maximum:
        state = " (closed)"
    else:
        state = f" {wait.active}/{wait.maximum}" if wait.kind == LimitKind.CONCURRENCY else ""
    place = f"{ordinal(wait.position)} in line" if wait.position <= _COUNTED else f"behind {_COUNTED:,} others"
    return f"{name}{state}, {place}"


def ordinal(number: int) -> str:
    """A number in words of English.

    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 214, 122)]
    ['1st', '2nd', '3rd', '4th', '11th', '214th', '122nd']
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


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
