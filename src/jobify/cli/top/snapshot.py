"""What ``jobify top`` shows: all jobs at one moment, and the throughput between two of these snapshots."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.client.arguments import Filters
from jobify.client.views import QueueView, WorkerView
from jobify.client.wait_reasons import ClusterState
from jobify.model.clock import SECOND
from jobify.model.cron import is_stopped
from jobify.model.public_status import ENDS, PUBLIC_STATUSES
from jobify.model.records import JobRecord

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.types import Microseconds

__all__ = ("Snapshot", "Throughput", "take_snapshot")

_MAX_JOBS: Final = 200
"""More than any terminal has lines."""
_MAX_SAMPLES: Final = 120
"""Snapshots in the history of the throughput."""


class Snapshot(NamedTuple):
    """The jobs of an app at one moment."""

    cluster: ClusterState
    queues: Sequence[QueueView]
    running: Sequence[JobRecord]
    """Those that have run the longest come first."""
    runs: int
    """Runs of schedules so far. They are counted apart, because a schedule does not end with a run."""
    stopped: Sequence[JobRecord] = ()
    """Schedules that failures have stopped, the most recent first."""

    @property
    def now(self) -> Microseconds:
        return self.cluster.now

    @property
    def workers(self) -> Sequence[WorkerView]:
        return self.cluster.workers

    @property
    def totals(self) -> dict[str, int]:
        """The number of jobs by status."""
        return {word: sum(queue.counts[word] for queue in self.queues) for word in PUBLIC_STATUSES}


class Throughput:
    """Jobs and runs of schedules that end per second. A deletion lowers the count; the rate is then 0."""

    def __init__(self) -> None:
        self._samples: deque[tuple[Microseconds, int]] = deque(maxlen=_MAX_SAMPLES)

    def record(self, snapshot: Snapshot) -> None:
        """Add a snapshot to the history."""
        self._samples.append((snapshot.now, snapshot.runs + sum(snapshot.totals[word] for word in ENDS)))

    def rates(self) -> list[float]:
        """Jobs per second between each snapshot and the previous one, the oldest first."""
        return [
            max(0, later - earlier) * SECOND / max(at - before, 1)
            for (before, earlier), (at, later) in pairwise(self._samples)
        ]


def take_snapshot(session: Session) -> Snapshot:
    """Read queues, workers, running jobs and schedules."""
    cluster = session.cluster_state()
    running = session.queries.find(Filters(statuses=("running",)), limit=_MAX_JOBS, is_newest_first=False)
    schedules = list(session.queries.schedule_records())
    stopped = sorted(filter(is_stopped, schedules), key=lambda job: -(job.finished_at or 0))
    return Snapshot(
        cluster=cluster,
        queues=session.app.queues(),
        running=sorted(running, key=lambda job: job.started_at or cluster.now),
        runs=sum(row.run_count for row in schedules),
        stopped=stopped,
    )
