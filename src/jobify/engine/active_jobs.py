"""The unfinished jobs of an app: those that run here, and those in the storages."""

from __future__ import annotations

from functools import partial
from typing import Any

from jobify.engine.execution.attempt import RunningAttempts
from jobify.engine.execution.handles import HandleRegistry
from jobify.gateway.backend import Backend
from jobify.jobs.job import Job
from jobify.model.records import JobQuery, SummaryIds
from jobify.model.status import ACTIVE
from jobify.router.registry import Registry
from jobify.storage.base import Storage

__all__ = ("ActiveJobs",)

_PAGE = 1000


class ActiveJobs:
    """The unfinished jobs of an app's tasks.

    The plain methods read from the storage in the caller's thread; a read waits for no writer.
    """

    def __init__(
        self, registry: Registry, backends: list[Backend], attempts: RunningAttempts, handles: HandleRegistry
    ) -> None:
        self._registry = registry
        self._backends = backends
        self._attempts = attempts
        self._handles = handles
        self._unfinished: dict[int, str | None] = {}
        """Of each storage, a job that was waiting or running when it was looked at."""

    def find(self, job_id: str) -> Job[Any] | None:
        """The handle of a job that is waiting or running; None for any other id."""
        attempt = self._attempts.find(job_id)
        if attempt is not None:
            return self._handles.of_attempt(attempt)
        for backend in self._backends:
            for record in backend.storage.get(SummaryIds((job_id,))):
                if record.status in ACTIVE and record.task in self._registry:
                    return self._handles.of_record(record)
        return None

    def active(self) -> list[Job[Any]]:
        """The handles of all jobs that are waiting or running."""
        found = {attempt.id: self._handles.of_attempt(attempt) for attempt in self._attempts}
        for backend in self._backends:
            query = JobQuery(statuses=ACTIVE, tasks=tuple(self._registry), limit=_PAGE, has_values=False)
            while records := backend.storage.find(query):
                for record in records:
                    if record.id not in found:
                        found[record.id] = self._handles.of_record(record)
                query = query._replace(after_id=records[-1].id)
        return list(found.values())

    def has_active(self) -> bool:
        """Whether any job is waiting or running, here or elsewhere."""
        return any(self._attempts) or any(self._has_active_in(backend.storage) for backend in self._backends)

    async def has_active_async(self) -> bool:
        """:meth:`has_active`, read on the storages' threads."""
        for backend in self._backends:
            if await backend.gate.call(partial(self._has_active_in, backend.storage), flush=False):
                return True
        return False

    def _has_active_in(self, storage: Storage) -> bool:
        """Look first at the job that was found the last time: to read one row by its id costs far less than a search.
        It was the newest one, which is likely to run last."""
        seen = self._unfinished.get(id(storage))
        if seen is not None and any(record.status in ACTIVE for record in storage.get(SummaryIds((seen,)))):
            return True
        query = JobQuery(statuses=ACTIVE, tasks=tuple(self._registry), is_newest_first=True, limit=1, has_values=False)
        found = storage.find(query)
        self._unfinished[id(storage)] = found[0].id if found else None
        return bool(found)
