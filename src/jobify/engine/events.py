"""Events inside an engine: work is stored, a caller waits, a storage has changed, the database is lost.

The parts of an engine do not know each other: each calls an event here, and ``engine.py`` subscribes the services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from jobify.exceptions import StorageLostError
from jobify.gateway.backend import Backend
from jobify.jobs.job import Job
from jobify.types import Microseconds

__all__ = ("EngineEvents",)


class EngineEvents:
    """Calls the functions that are subscribed to each event."""

    def __init__(self) -> None:
        self.on_job_due: dict[Backend, Callable[[Microseconds], None]] = {}
        self.on_waiter_added: list[Callable[[Job[Any]], None]] = []
        self.on_storage_changed: dict[Backend, tuple[Callable[[], None], ...]] = {}
        self.jobs_changed = asyncio.Event()
        """Set when there may be fewer unfinished jobs than before."""
        self.lost: asyncio.Future[StorageLostError] = asyncio.get_running_loop().create_future()
        """Done when the durable storage was deleted or replaced."""

    def job_due(self, backend: Backend, due_at: Microseconds) -> None:
        """A job was stored that is due at this time."""
        listener = self.on_job_due.get(backend)
        if listener is not None:
            listener(due_at)

    def waiter_added(self, job: Job[Any]) -> None:
        """A caller waits for a job that does not run here."""
        for listener in self.on_waiter_added:
            listener(job)

    def storage_changed(self, backend: Backend | None = None) -> None:
        """Another process, or another part of this one, may have changed something in this storage; None: in any."""
        for changed in self.on_storage_changed if backend is None else (backend,):
            for listener in self.on_storage_changed.get(changed, ()):
                listener()
        self.jobs_changed.set()

    def local_change(self, backend: Backend) -> None:
        """Another user of the same storage object has written something."""
        backend.queues.invalidate()
        self.storage_changed(backend)

    def storage_lost(self, error: StorageLostError) -> None:
        """The durable storage was deleted or replaced: nothing of it can change any more."""
        if not self.lost.done():
            self.lost.set_result(error)
            self.jobs_changed.set()
