"""Jobs that have waited too long are cancelled, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobify.engine.execution.job_log import JobLog
from jobify.engine.service import Periodic
from jobify.engine.services.timekeeper import Timekeeper
from jobify.gateway.backend import Backend
from jobify.gateway.notification import News
from jobify.model.records import Expired
from jobify.model.retention import Retention

__all__ = ("Expiry",)

_INTERVAL = 1.0
"""Seconds between two looks. One that expired meanwhile is not begun all the same: who claims it looks, too."""
_BATCH = 500


class Expiry(Periodic):
    """Cancels waiting jobs whose time is over, says so, and calls ``on_expired`` if there were any."""

    def __init__(
        self,
        backend: Backend,
        retention: Retention,
        timekeeper: Timekeeper,
        job_log: JobLog,
        on_expired: Callable[[], None],
    ) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._retention = retention
        self._timekeeper = timekeeper
        self._job_log = job_log
        self._on_expired = on_expired

    async def step(self) -> None:
        await self._timekeeper.catch_up()
        while expired := await self._backend.gate.tend(self._expire):
            origins = {job.origin for job in expired} - {None, self._backend.owner}
            self._backend.gate.spread(News(clients=True, owners=tuple(filter(None, origins))))
            self._job_log.expired(expired)
            self._on_expired()
            if len(expired) < _BATCH:
                return
            await asyncio.sleep(0)  # a storage in memory answers without letting go of the loop

    def _expire(self) -> list[Expired]:
        now = self._timekeeper.now()
        return self._backend.storage.expire(now=now, limit=_BATCH, delete_at=self._retention.cancelled_until(now))
