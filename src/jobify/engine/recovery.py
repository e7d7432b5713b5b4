"""Jobs whose process died go back to where another process finds them.

A process that lives holds a lock that the kernel drops at its death, so a dead one is known for certain and at once.
Every process looks at the locks of the others twice a second (once, if there were none); whoever is first takes the
jobs back, in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobify.clock import Clock
from jobify.engine.backend import Backend
from jobify.engine.news import ORDER
from jobify.engine.service import Periodic
from jobify.records import Recovered
from jobify.settings import Limits
from jobify.status import JobStatus

__all__ = ("Recovery",)

log = logging.getLogger("jobify.engine")

_INTERVAL = 0.5
"""Seconds between two looks: what a crash may cost, while another process lives."""
_ALONE = 1.0
"""The same while there was no other process at the last look."""


class Recovery(Periodic):
    """Takes jobs from dead owners and calls ``on_recovered`` if there were any."""

    def __init__(self, backend: Backend, limits: Limits, clock: Clock, on_recovered: Callable[[], None]) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._on_recovered = on_recovered

    async def step(self) -> None:
        recovered, owners = await self._backend.gate.tend(self._look)
        self._interval = _INTERVAL if owners > 1 else _ALONE
        for job in recovered:
            self._report(job)
        if recovered:
            self._backend.gate.spread(ORDER)
            self._on_recovered()

    def _look(self) -> tuple[list[Recovered], int]:
        """What was taken from the dead; how many processes there are."""
        storage, now = self._backend.storage, self._clock.now()
        recovered = storage.recover(
            now=now,
            max_crashes=self._limits.max_crashes,
            delete_at=self._limits.retention.delete_at(JobStatus.FAILED, is_dead=True, now=now),
        )
        return recovered, len(storage.owners())

    def _report(self, job: Recovered) -> None:
        if not job.is_crash:
            log.info("Job %s (%s) was released by a process that had left before it ended.", job.id, job.task)
        elif job.status == JobStatus.FAILED:
            log.error("Job %s (%s) took %d processes down and failed.", job.id, job.task, self._limits.max_crashes)
        elif job.status == JobStatus.CANCELLED:
            log.warning("Job %s (%s) lost its process. It was to be cancelled, and is.", job.id, job.task)
        else:
            log.warning("Job %s (%s) lost its process and runs again.", job.id, job.task)
