"""Why a job still waits: the remark beside it.

What looks like a queue that hangs is mostly one of these: nobody serves the queue, no worker has the task, the queue is
paused, the job waits for others. They are found here once, from who is alive and what they say of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jobify.cli.moments import until
from jobify.client.views import Obstacle, obstacle
from jobify.cron import is_stopped
from jobify.status import JobStatus

if TYPE_CHECKING:
    from jobify.cli.desk import Desk
    from jobify.client.views import QueueView, WorkerView
    from jobify.records import JobRecord
    from jobify.types import Microseconds

__all__ = ("Scene", "look_around", "queue_note", "stopped_note")

_REMARKS = {
    Obstacle.NO_WORKER: "no worker runs",
    Obstacle.QUEUE_UNSERVED: "no worker serves this queue",
    Obstacle.TASK_UNKNOWN: "no worker knows this task",
    Obstacle.TASK_ELSEWHERE: "no worker of this queue knows this task",
}


class Scene(NamedTuple):
    """Who could run jobs, and what they may not take."""

    workers: Sequence[WorkerView]
    """The living ones that claim jobs."""
    paused: frozenset[str]
    now: Microseconds

    def problem(self, task: str, queue: str) -> str | None:
        """What keeps any job of this task in this queue from being taken; None: nothing does."""
        if queue in self.paused:
            return "the queue is paused"
        missing = obstacle(task, queue, self.workers)
        return None if missing is None else _REMARKS[missing]

    def note(self, job: JobRecord) -> str:
        """What there is to say about a job in a few words; empty: nothing."""
        if job.status == JobStatus.RUNNING:
            asked = "asked to stop" if job.is_cancel_requested else ""
            return asked or ("" if job.progress is None else f"{job.progress:g} %")
        if job.status != JobStatus.SCHEDULED:
            return stopped_note(job, self.now) or job.error or ""
        if job.blockers:
            return "paused" if job.rule is not None else f"waits for {job.blockers} other{'s' * (job.blockers > 1)}"
        problem = self.problem(job.task, job.queue)
        if problem is None and job.due_at > self.now:
            return f"due {until(job.due_at, now=self.now)}"
        return problem or (f"tries again: {job.error}" if job.error else "")


def look_around(desk: Desk) -> Scene:
    """The scene as it is now."""
    return Scene(
        [worker for worker in desk.app.workers() if worker.is_at_work], desk.board.paused_queues(), desk.app.now()
    )


def stopped_note(job: JobRecord, now: Microseconds) -> str:
    """Since when a schedule is stopped, and by which error; empty if it is not."""
    if not is_stopped(job):
        return ""
    when = until(job.finished_at or now, now=now)
    return f"stopped {when}: {job.error}" if job.error else f"stopped {when}"


def queue_note(queue: QueueView) -> str:
    """What there is to say about a queue in a few words; empty: nothing."""
    if queue.is_paused:
        return "paused"
    return _REMARKS[Obstacle.QUEUE_UNSERVED] if queue.problem else ""
