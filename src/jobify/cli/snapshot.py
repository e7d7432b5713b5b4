"""What ``jobify top`` shows, gathered in one go; and how much is done per second, from one look to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.cli.wait_reasons import ClusterState, read_cluster_state
from jobify.client.arguments import Filters
from jobify.client.views import QueueView, WorkerView
from jobify.model.clock import SECOND
from jobify.model.cron import is_stopped
from jobify.model.public_status import ENDS, PUBLIC_STATUSES
from jobify.model.records import JobRecord

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.types import Microseconds

__all__ = ("Snapshot", "Throughput", "take_snapshot")

_MAX_JOBS: Final = 200
"""No terminal has more lines for them."""
_MAX_SAMPLES: Final = 120
"""Looks that the history of the throughput goes back."""


class Snapshot(NamedTuple):
    """An app's jobs at one moment."""

    cluster: ClusterState
    queues: Sequence[QueueView]
    running: Sequence[JobRecord]
    """The ones that have run for longest, first."""
    runs: int
    """Runs of schedules so far: their jobs do not end with a run."""
    stopped: Sequence[JobRecord] = ()
    """Schedules that run no more until they are revived, the last stopped one first."""

    @property
    def now(self) -> Microseconds:
        return self.cluster.now

    @property
    def workers(self) -> Sequence[WorkerView]:
        return self.cluster.workers

    @property
    def totals(self) -> dict[str, int]:
        """How many jobs there are, by word."""
        return {word: sum(queue.counts[word] for queue in self.queues) for word in PUBLIC_STATUSES}


class Throughput:
    """How many jobs, and runs of schedules, end per second. What is deleted meanwhile looks like less that has ended:
    then it is 0."""

    def __init__(self) -> None:
        self._samples: deque[tuple[Microseconds, int]] = deque(maxlen=_MAX_SAMPLES)

    def record(self, snapshot: Snapshot) -> None:
        """Remember a look."""
        self._samples.append((snapshot.now, snapshot.runs + sum(snapshot.totals[word] for word in ENDS)))

    def rates(self) -> list[float]:
        """Jobs per second between each look and the one before, the oldest first."""
        return [
            max(0, later - earlier) * SECOND / max(at - before, 1)
            for (before, earlier), (at, later) in pairwise(self._samples)
        ]


def take_snapshot(session: Session) -> Snapshot:
    """Look at everything."""
    cluster = read_cluster_state(session)
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
