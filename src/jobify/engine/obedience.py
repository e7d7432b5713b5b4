"""Cancels that came from elsewhere: whoever runs the job obeys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobify.engine.attempt import Attempt, Interruption
from jobify.engine.backend import Backend
from jobify.engine.service import Service

__all__ = ("Obedience",)


class Obedience(Service):
    """Interrupts the jobs here that somebody elsewhere wants cancelled; looks when it is woken up."""

    def __init__(self, backend: Backend, find_attempt: Callable[[str], Attempt | None]) -> None:
        super().__init__()
        self._backend = backend
        self._find_attempt = find_attempt
        self._bell = asyncio.Event()

    def wake(self) -> None:
        """There may be a request."""
        self._bell.set()

    async def run(self) -> None:
        self._bell.set()  # a look that failed may have missed one
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self.step()

    async def step(self) -> None:
        """One look."""
        storage, owner = self._backend.storage, self._backend.owner
        for job_id in await self._backend.gate.call(lambda: storage.cancel_requests(owner)):
            attempt = self._find_attempt(job_id)
            if attempt is not None and not attempt.is_last:  # else it was wanted without an interruption
                attempt.interrupt(Interruption.CANCEL)
