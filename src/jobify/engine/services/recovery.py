"""Release the jobs of processes that have died; keep the heartbeat of this one.

A live process holds a lock that the kernel drops at its death, so a death is certain and known at once. Every process
checks the locks of the others twice a second (once a second if there were none, or if each check is a query). The first
one that finds a dead owner releases its jobs, in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jobify.config import Limits
from jobify.engine.execution.job_log import JobLog
from jobify.engine.service import Periodic
from jobify.engine.services.looks import Looks
from jobify.gateway.backend import Backend
from jobify.gateway.notification import STATE_CHANGED
from jobify.model.clock import Clock
from jobify.model.records import JobRecord, Recovered, SummaryIds
from jobify.model.status import JobStatus
from jobify.runtime.logs import get_logger
from jobify.storage.base import HEARTBEAT, Storage
from jobify.storage.suspicion import Death

__all__ = ("Heartbeat", "Recovery")

log = get_logger("jobify.engine")

_INTERVAL = 0.5
"""Seconds between two checks: the longest delay after a crash while another process lives."""
_ALONE = 1.0
"""The same, if the last check found no other process."""
_FEW = 3
"""Jobs that the log line about a death names."""


class Recovery(Periodic):
    """Releases the jobs of dead owners, and calls ``on_recovered`` if there were any."""

    def __init__(
        self, backend: Backend, limits: Limits, clock: Clock, job_log: JobLog, on_recovered: Callable[[], None]
    ) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._job_log = job_log
        self._limits = limits
        self._clock = clock
        self._on_recovered = on_recovered
        self._looks = Looks(backend.storage)

    async def step(self) -> None:
        if self._looks.is_too_soon():
            return
        recovered, deaths, records, self._interval = await self._backend.gate.call(self._recover, flush=False)
        for death in deaths:
            self._report_death(death)
        for job in recovered:
            self._report(job, records.get(job.id))
        if recovered:
            self._backend.gate.notify(STATE_CHANGED)
            self._on_recovered()

    def _recover(self) -> tuple[list[Recovered], list[Death], dict[str, JobRecord], float]:
        """The released jobs; the deaths; the rows that the log and the hooks need, by id; when to look next."""
        storage, now = self._backend.storage, self._clock.now()
        deaths: list[Death] = []
        recovered = storage.recover(
            now=now,
            max_crashes=self._limits.max_crashes,
            delete_at=self._limits.retention.delete_at(JobStatus.FAILED, is_dead=True, now=now),
            on_death=deaths.append,
        )
        needed = [job.id for job in recovered if job.is_crash and self._needs_row(job)]
        rows = storage.get(SummaryIds(needed)) if needed else []
        return recovered, deaths, {row.id: row for row in rows}, self._next_interval(storage)

    def _next_interval(self, storage: Storage) -> float:
        """Seconds until the next check. Where each is a query, no other one is made to find out whether there are
        others."""
        return _ALONE if self._looks.cost_queries or len(storage.owners()) <= 1 else _INTERVAL

    def _needs_row(self, job: Recovered) -> bool:
        """Whether the job ends, or a hook is called for it."""
        return job.status != JobStatus.SCHEDULED or (job.attempt > 0 and self._job_log.has_retry_hooks(job.task))

    def _report_death(self, death: Death) -> None:
        """Log one line for all jobs that a dead process held."""
        if not death.jobs:
            return
        held = "1 job" if len(death.jobs) == 1 else f"{len(death.jobs)} jobs"
        how = f"{death.begun} had begun" + (", apart from all others" if death.is_trial else "")
        log.warning(
            "Process %d on %s died and held %s (%s): %s.", death.pid, death.host, held, how, _listed(death.jobs)
        )

    def _report(self, job: Recovered, row: JobRecord | None) -> None:
        """Log a job that does not run again, and call hooks. For the others there is the line about the death."""
        if not job.is_crash:
            log.info("Job %s (%s) was released: its process left before it had ended.", job.id, job.task)
        elif row is None:
            return
        elif job.status == JobStatus.FAILED:
            self._job_log.condemned(row, self._limits.max_crashes)
        elif job.status == JobStatus.CANCELLED:
            self._job_log.cancelled_with_process(row)
        elif row.crashes < self._limits.max_crashes:  # else its last crash is in doubt, and may turn out to be its end
            self._job_log.lost(row, job.attempt, now=self._clock.now())


def _listed(jobs: Sequence[Recovered]) -> str:
    """The first few, and how many more."""
    some = ", ".join(f"{job.id} ({job.task})" for job in jobs[:_FEW])
    return some if len(jobs) <= _FEW else f"{some} and {len(jobs) - _FEW} more"


class Heartbeat(Periodic):
    """Writes to the storage that this process lives, for the list of workers and in case that its lock file is lost."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        super().__init__(HEARTBEAT)
        self._backend = backend
        self._clock = clock

    async def run(self) -> None:
        await asyncio.sleep(self._interval)  # it has just been registered
        await super().run()

    async def step(self) -> None:
        storage, owner = self._backend.storage, self._backend.owner
        await self._backend.gate.call(lambda: storage.heartbeat(owner, now=self._clock.now()), flush=False)
