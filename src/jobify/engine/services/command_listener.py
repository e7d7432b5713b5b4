"""Orders that came from elsewhere: whoever runs a job that is to be cancelled interrupts it; and which queues are
paused."""

from __future__ import annotations

import asyncio
from typing import Final

from jobify.engine.execution.attempt import Interruption, RunningAttempts
from jobify.engine.service import Service
from jobify.gateway.backend import Backend

__all__ = ("CommandListener",)

_COURTESY: Final = 0.002
"""Seconds from a ring to a look. Most rings are about work, which is so claimed first; and many rings are one look."""


class CommandListener(Service):
    """Brings this process in line with what others want; looks when it is woken up."""

    def __init__(self, backend: Backend, attempts: RunningAttempts) -> None:
        super().__init__()
        self._backend = backend
        self._attempts = attempts
        self._bell = asyncio.Event()

    def wake(self) -> None:
        """There may be an order."""
        self._bell.set()

    async def run(self) -> None:
        self._bell.set()  # a look that failed may have missed one
        while True:
            await self._bell.wait()
            await asyncio.sleep(_COURTESY)
            self._bell.clear()
            await self.step()
            self.succeed()

    async def step(self) -> None:
        """One look."""
        doubts = self._backend.queues.version
        unwanted, paused = await self._backend.gate.call(self._ask, flush=False)
        self._backend.queues.update(paused, doubts=doubts)
        for job_id in unwanted:
            attempt = self._attempts.find(job_id)
            if attempt is not None and not attempt.is_last:  # else it was wanted without an interruption
                attempt.interrupt(Interruption.CANCEL)

    def _ask(self) -> tuple[list[str], list[str]]:
        storage = self._backend.storage
        return storage.cancel_requests(self._backend.owner), storage.paused_queues()
