"""A process says now and then that it is there, for people who look at the list of workers."""

from __future__ import annotations

import asyncio

from jobify.clock import Clock
from jobify.engine.backend import Backend
from jobify.engine.service import Periodic

__all__ = ("Heartbeat",)

_INTERVAL = 10.0
"""Seconds. Whether a process is alive is known from its lock; this only tells whether it still does anything."""


class Heartbeat(Periodic):
    """Notes in the storage that this owner was seen."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._clock = clock

    async def run(self) -> None:
        await asyncio.sleep(self._interval)  # it has just been entered
        await super().run()

    async def step(self) -> None:
        storage, owner = self._backend.storage, self._backend.owner
        await self._backend.gate.tend(lambda: storage.beat(owner, now=self._clock.now()))
