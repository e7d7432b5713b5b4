"""Jobs whose process died go back to where another process finds them.

A process that lives holds a lock that the kernel drops at its death, so a dead one is known for certain and at once.
Every process looks at the locks of the others twice a second (once, if there were none); whoever is first takes the
jobs back, in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobify.config import Limits
from jobify.engine.execution.job_log import JobLog
from jobify.engine.service import Periodic
from jobify.gateway.backend import Backend
from jobify.gateway.notification import ORDER
from jobify.model.clock import Clock
from jobify.model.records import JobRecord, Recovered, SummaryIds
from jobify.model.status import JobStatus
from jobify.runtime.logs import get_logger
from jobify.storage.suspicion import Death

__all__ = ("Recovery",)

log = get_logger("jobify.engine")

_INTERVAL = 0.5
"""Seconds between two looks: what a crash may cost, while another process lives."""
_ALONE = 1.0
"""The same while there was no other process at the last look."""
_FEW = 3
"""Jobs that the line about a death names."""


class Recovery(Periodic):
    """Takes jobs from dead owners and calls ``on_recovered`` if there were any."""

    def __init__(
        self, backend: Backend, limits: Limits, clock: Clock, job_log: JobLog, on_recovered: Callable[[], None]
    ) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._job_log = job_log
        self._limits = limits
        self._clock = clock
        self._on_recovered = on_recovered

    async def step(self) -> None:
        recovered, deaths, records, owners = await self._backend.gate.tend(self._recover)
        self._interval = _INTERVAL if owners > 1 else _ALONE
        for death in deaths:
            self._report_death(death)
        for job in recovered:
            self._report(job, records.get(job.id))
        if recovered:
            self._backend.gate.spread(ORDER)
            self._on_recovered()

    def _recover(self) -> tuple[list[Recovered], list[Death], dict[str, JobRecord], int]:
        """What was taken from the dead; the deaths; the rows of jobs for the log and the hooks, by id; the number
        of processes."""
        storage, now = self._backend.storage, self._clock.now()
        deaths: list[Death] = []
        recovered = storage.recover(
            now=now,
            max_crashes=self._limits.max_crashes,
            delete_at=self._limits.retention.delete_at(JobStatus.FAILED, is_dead=True, now=now),
            on_death=deaths.append,
        )
        told = [job.id for job in recovered if job.is_crash and self._needs_row(job)]
        rows = storage.get(SummaryIds(told)) if told else []
        return recovered, deaths, {row.id: row for row in rows}, len(storage.owners())

    def _needs_row(self, job: Recovered) -> bool:
        """Whether it ends, or hooks are called for it."""
        return job.status != JobStatus.SCHEDULED or (job.attempt > 0 and self._job_log.tells_of_retries(job.task))

    def _report_death(self, death: Death) -> None:
        """One line for all jobs that a process held."""
        if not death.jobs:
            return
        held = "1 job" if len(death.jobs) == 1 else f"{len(death.jobs)} jobs"
        how = f"{death.begun} had begun" + (", apart from all others" if death.is_trial else "")
        log.warning(
            "Process %d on %s died and held %s (%s): %s.", death.pid, death.host, held, how, _listed(death.jobs)
        )

    def _report(self, job: Recovered, row: JobRecord | None) -> None:
        """Tell of a job that does not go on, and call hooks. The others have the line about the death."""
        if not job.is_crash:
            log.info("Job %s (%s) was released by a process that had left before it ended.", job.id, job.task)
        elif row is None:
            return
        elif job.status == JobStatus.FAILED:
            self._job_log.condemned(row, self._limits.max_crashes)
        elif job.status == JobStatus.CANCELLED:
            self._job_log.cancelled_with_process(row)
        elif row.crashes < self._limits.max_crashes:  # else its last crash is doubted, and may be told as its end yet
            self._job_log.lost(row, job.attempt, now=self._clock.now())


def _listed(jobs: Sequence[Recovered]) -> str:
    """The first few, and how many more."""
    some = ", ".join(f"{job.id} ({job.task})" for job in jobs[:_FEW])
    return some if len(jobs) <= _FEW else f"{some} and {len(jobs) - _FEW} more"
