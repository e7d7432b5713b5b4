"""Schedules that were stopped by their failures: the log names them after each start.

The process that stops a schedule logs it at that moment. A later start, which is when a deploy is watched, must not
pass it over in silence: nothing else would tell that the schedule has no runs any more.
"""

from __future__ import annotations

from functools import partial

from jobify.engine.service import Service
from jobify.gateway.backend import Backend
from jobify.model.clock import to_datetime
from jobify.model.cron import is_stopped
from jobify.model.records import JobQuery
from jobify.model.status import FAILURES
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger

__all__ = ("StoppedSchedules",)

log = get_logger("jobify.engine")

_STOPPED = JobQuery(statuses=FAILURES, is_schedule=True, is_dead=True, has_values=False, limit=100)


class StoppedSchedules(Service):
    """Warns of stopped schedules of the app's tasks, up to a hundred."""

    def __init__(self, backend: Backend, registry: Registry) -> None:
        super().__init__()
        self._backend = backend
        self._tasks = tuple(registry)

    async def run(self) -> None:
        query = _STOPPED._replace(tasks=self._tasks)
        for record in filter(is_stopped, await self._backend.read_long(partial(self._backend.storage.find, query))):
            log.warning(
                "Schedule %s (%s) is stopped since %s: %s. Revive it with `jobify schedules resume %s` when the cause "
                "is mended.",
                record.id,
                record.task,
                to_datetime(record.finished_at or 0).isoformat(timespec="seconds"),
                record.error,
                record.id,
            )
