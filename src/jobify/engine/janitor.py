"""Ended jobs are kept for a while, then deleted; of what a schedule did and said the newest lines are kept. A few at a
time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from jobify.clock import Clock
from jobify.engine.backend import Backend
from jobify.engine.service import Periodic

__all__ = ("Janitor",)

_FIRST_REST = 1.0
"""Seconds before the first round: a start has better things to do."""
_INTERVAL = 30.0
_BATCH = 500
_HISTORY = 1000
"""Lines of history, and published messages, that a schedule keeps. Each of its runs adds some, and a schedule never
ends: a job every minute is remembered for most of a day, one every hour for six weeks."""
_ROUNDS_PER_TRIM = 20
"""Rounds from one look at the histories to the next (ten minutes). A look counts what each schedule keeps, while a
history that is a little too long harms nobody."""


class Janitor(Periodic):
    """Deletes what its ``delete_at`` says, and what schedules did long ago, in batches so small that no insert waits
    long behind one."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._clock = clock
        self._rounds = 0

    async def run(self) -> None:
        await asyncio.sleep(_FIRST_REST)
        await super().run()

    async def step(self) -> None:
        storage = self._backend.storage
        await self._repeat(lambda: storage.purge(now=self._clock.now(), limit=_BATCH), full=1)
        if self._rounds % _ROUNDS_PER_TRIM == 1:  # not in the first round: a start has better things to do
            await self._repeat(partial(storage.trim, keep=_HISTORY, limit=_BATCH), full=_BATCH)
        self._rounds += 1

    async def _repeat(self, delete: Callable[[], int], *, full: int) -> None:
        """Delete as long as that many or more are deleted at a time; between two batches others have their turn."""
        while await self._backend.gate.tend(delete) >= full:  # noqa: ASYNC110  the sleep is a courtesy
            await asyncio.sleep(0)  # a storage in memory answers without letting go of the loop
