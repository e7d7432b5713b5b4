"""Ended jobs are kept for a while, then deleted; of what a schedule did and said the newest lines are kept. A few at a
time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from jobify.engine.service import Periodic
from jobify.engine.services.timekeeper import Timekeeper
from jobify.engine.services.trusted_clock import judge_clock
from jobify.gateway.backend import Backend
from jobify.model.clock import seconds, to_datetime
from jobify.runtime.logs import get_logger
from jobify.types import Microseconds

__all__ = ("Janitor",)

log = get_logger("jobify.engine")

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
    long behind one. By a clock that may be wrong it deletes nothing."""

    def __init__(self, backend: Backend, timekeeper: Timekeeper) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._timekeeper = timekeeper
        self._trusted: float | None = None
        """The elapsed time when this process last found the clock to be right."""
        self._rounds = 0

    async def run(self) -> None:
        await self._trusted_now()  # a new file takes down when it began
        await asyncio.sleep(_FIRST_REST)
        await super().run()

    async def step(self) -> None:
        storage = self._backend.storage
        now = await self._trusted_now()
        if now is not None:
            await self._repeat(partial(storage.purge, now=now, limit=_BATCH), full=1)
        if self._rounds % _ROUNDS_PER_TRIM == 1:  # not in the first round: a start has better things to do
            await self._repeat(partial(storage.trim, keep=_HISTORY, limit=_BATCH), full=_BATCH)
        self._rounds += 1

    async def _trusted_now(self) -> Microseconds | None:
        """The time by which jobs may be deleted; None while the clock may be wrong."""
        await self._timekeeper.catch_up()
        return await self._backend.gate.tend(self._check_clock)

    def _check_clock(self) -> Microseconds | None:
        storage = self._backend.storage
        now, elapsed = self._timekeeper.steady_now(), self._timekeeper.elapsed()
        since = seconds(0.0 if self._trusted is None else elapsed - self._trusted)
        before = state = storage.times.clock_state()
        if judge_clock(before, now, since=since) != before:
            with storage.transaction():  # others write it, too
                before = storage.times.clock_state()
                state = judge_clock(before, now, since=since)
                storage.times.keep_clock_state(state)
        if state.doubted_at is not None:
            if before.doubted_at is None:
                log.warning(
                    "The clock shows %s, long after anything that is known of this database. Nothing is deleted until "
                    "that has held for an hour.", to_datetime(now).isoformat(),
                )  # fmt: skip
            return None
        self._trusted = elapsed
        return now

    async def _repeat(self, delete: Callable[[], int], *, full: int) -> None:
        """Delete as long as that many or more are deleted at a time; between two batches others have their turn."""
        while await self._backend.gate.tend(delete) >= full:  # noqa: ASYNC110  the sleep is a courtesy
            await asyncio.sleep(0)  # a storage in memory answers without letting go of the loop
