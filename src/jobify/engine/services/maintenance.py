"""Housekeeping of a storage, a few rows at a time: delete what is past its retention, cancel what has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from jobify.engine.execution.job_log import JobLog
from jobify.engine.service import Periodic
from jobify.engine.services.timekeeper import Timekeeper, judge_clock
from jobify.gateway.backend import Backend
from jobify.gateway.notification import Audience
from jobify.model.clock import seconds, to_datetime
from jobify.model.records import Expired
from jobify.model.retention import Retention
from jobify.runtime.logs import get_logger
from jobify.types import Microseconds

__all__ = ("Expiry", "Janitor")

log = get_logger("jobify.engine")

_FIRST_PAUSE = 1.0
"""Seconds before the first round of the janitor, so that it does not delay the start."""
_JANITOR_INTERVAL = 30.0
_EXPIRY_INTERVAL = 1.0
"""Seconds between two rounds. A job that expires between them does not start either, because each claim checks it."""
_BATCH = 500
_HISTORY = 1000
"""Lines of history, and published messages, that a schedule keeps. Each of its runs adds some, and a schedule never
ends: a job every minute is remembered for most of a day, one every hour for six weeks."""
_ROUNDS_PER_TRIM = 20
"""Rounds between two trims of histories (ten minutes). A trim counts what each schedule keeps, and a history that is a
little too long does no harm."""


class Janitor(Periodic):
    """Deletes what its ``delete_at`` says, closed windows of debounced calls, and old histories of schedules.

    The batches are so small that no insert waits long behind one. By a clock that may be wrong it deletes nothing.
    """

    def __init__(self, backend: Backend, timekeeper: Timekeeper) -> None:
        super().__init__(_JANITOR_INTERVAL)
        self._backend = backend
        self._timekeeper = timekeeper
        self._trusted: float | None = None
        """The elapsed time when this process last found the clock to be right."""
        self._rounds = 0

    async def run(self) -> None:
        await self._trusted_now()  # a new file takes down when it began
        await asyncio.sleep(_FIRST_PAUSE)
        await super().run()

    async def step(self) -> None:
        storage = self._backend.storage
        now = await self._trusted_now()
        if now is not None:
            await self._repeat(partial(storage.purge, now=now, limit=_BATCH), full=1)
            await self._repeat(partial(storage.forget_windows, now=now, limit=_BATCH), full=_BATCH)
        if self._rounds % _ROUNDS_PER_TRIM == 1:  # not in the first round, which belongs to the start
            await self._repeat(partial(storage.trim, keep=_HISTORY, limit=_BATCH), full=_BATCH)
        self._rounds += 1

    async def _trusted_now(self) -> Microseconds | None:
        """The time by which jobs may be deleted; None while the clock may be wrong."""
        await self._timekeeper.catch_up()
        return await self._backend.gate.call(self._check_clock, flush=False)

    def _check_clock(self) -> Microseconds | None:
        storage = self._backend.storage
        now, elapsed = self._timekeeper.steady_now(), self._timekeeper.elapsed()
        since = seconds(0.0 if self._trusted is None else elapsed - self._trusted)
        before = state = storage.times.clock_state()
        if judge_clock(before, now, since=since) != before:
            with storage.transaction():  # other processes write it, too
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
        """Delete as long as a batch deletes ``full`` rows or more; between two batches other calls have their turn."""
        while await self._backend.gate.call(delete, flush=False) >= full:  # noqa: ASYNC110  the sleep lets others in
            await asyncio.sleep(0)  # because a storage in memory answers without a turn of the event loop


class Expiry(Periodic):
    """Cancels waiting jobs that have expired, and calls ``on_expired`` if there were any."""

    def __init__(
        self,
        backend: Backend,
        retention: Retention,
        timekeeper: Timekeeper,
        job_log: JobLog,
        on_expired: Callable[[], None],
    ) -> None:
        super().__init__(_EXPIRY_INTERVAL)
        self._backend = backend
        self._retention = retention
        self._timekeeper = timekeeper
        self._job_log = job_log
        self._on_expired = on_expired

    async def step(self) -> None:
        await self._timekeeper.catch_up()
        while expired := await self._backend.gate.call(self._expire, flush=False):
            origins = {job.origin for job in expired} - {None, self._backend.owner}
            self._backend.gate.notify(Audience(clients=True, owners=tuple(filter(None, origins))))
            self._job_log.expired(expired)
            self._on_expired()
            if len(expired) < _BATCH:
                return
            await asyncio.sleep(0)  # because a storage in memory answers without a turn of the event loop

    def _expire(self) -> list[Expired]:
        now = self._timekeeper.now()
        return self._backend.storage.expire(now=now, limit=_BATCH, delete_at=self._retention.cancelled_until(now))
