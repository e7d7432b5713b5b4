"""Apply cancel requests, queue pauses and limits that other processes have stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from jobify.engine.execution.attempt import Interruption, RunningAttempts
from jobify.engine.service import Service
from jobify.gateway.backend import Backend
from jobify.router.registry import Endpoint

__all__ = ("CommandListener",)

_DELAY: Final = 0.002
"""Seconds from a wake-up to the check, because most wake-ups are about work, which is claimed first, and several
wake-ups share one check."""


class CommandListener(Service):
    """Checks for cancel requests, paused queues, and limits of tasks that have none in the code of this process."""

    def __init__(self, backend: Backend, attempts: RunningAttempts, endpoints: Sequence[Endpoint]) -> None:
        super().__init__()
        self._backend = backend
        self._attempts = attempts
        self._tasks = [endpoint.name for endpoint in endpoints if not endpoint.limits]
        self._wakeup = asyncio.Event()

    def wake(self) -> None:
        """There may be a request."""
        self._wakeup.set()

    async def run(self) -> None:
        self._wakeup.set()  # because a check that failed may have missed a request
        while True:
            await self._wakeup.wait()
            await asyncio.sleep(_DELAY)
            self._wakeup.clear()
            await self.step()
            self.succeed()

    async def step(self) -> None:
        """Check once."""
        version = self._backend.queues.version
        cancelled, paused, limited = await self._backend.gate.call(self._read, flush=False)
        self._backend.limited_tasks = limited
        self._backend.queues.update(paused, version=version)
        for job_id in cancelled:
            attempt = self._attempts.find(job_id)
            if attempt is None or attempt.is_last:  # this run of a schedule is to finish
                continue
            if attempt.interruption is not Interruption.CANCEL:  # once: what it cleans up must not be interrupted
                attempt.interrupt(Interruption.CANCEL)

    def _read(self) -> tuple[list[str], list[str], frozenset[str]]:
        storage = self._backend.storage
        limited = frozenset(storage.task_limits(self._tasks) if self._backend.has_limits else ())
        return storage.cancel_requests(self._backend.owner), storage.paused_queues(), limited
