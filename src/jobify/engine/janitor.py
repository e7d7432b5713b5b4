"""Ended jobs are kept for a while, then deleted, a few at a time."""

from __future__ import annotations

from functools import partial

from jobify.clock import Clock
from jobify.engine.backend import Backend
from jobify.engine.service import Periodic

__all__ = ("Janitor",)

_INTERVAL = 30.0
_BATCH = 500


class Janitor(Periodic):
    """Deletes what its ``delete_at`` says, in batches so small that no insert waits long behind one."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._clock = clock

    async def step(self) -> None:
        storage = self._backend.storage
        while True:
            deleted = await self._backend.gate.call(partial(storage.purge, now=self._clock.now(), limit=_BATCH))
            if deleted < _BATCH:
                return
