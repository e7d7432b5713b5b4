"""Heartbeat of this process: for the list of workers, and the last proof of life when its lock file is gone."""

from __future__ import annotations

import asyncio

from jobify.engine.service import Periodic
from jobify.gateway.backend import Backend
from jobify.model.clock import Clock
from jobify.storage.base import HEARTBEAT

__all__ = ("Heartbeat",)


class Heartbeat(Periodic):
    """Notes in the storage that this owner was seen."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        super().__init__(HEARTBEAT)
        self._backend = backend
        self._clock = clock

    async def run(self) -> None:
        await asyncio.sleep(self._interval)  # it has just been entered
        await super().run()

    async def step(self) -> None:
        storage, owner = self._backend.storage, self._backend.owner
        await self._backend.gate.tend(lambda: storage.beat(owner, now=self._clock.now()))
