"""What the parts of an engine tell each other: there is work, somebody waits, something has changed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.dispatcher import Dispatcher
from jobify.engine.services.command_listener import CommandListener
from jobify.engine.services.remote_watcher import RemoteJobWatcher
from jobify.engine.services.timekeeper import Timekeeper
from jobify.exceptions import StorageLostError
from jobify.gateway.backend import Backend
from jobify.jobs.job import Job
from jobify.model.records import Settlement
from jobify.types import Microseconds

__all__ = ("EngineEvents",)


class EngineEvents:
    """Passes on to those services that are there what concerns them."""

    def __init__(self) -> None:
        self.dispatchers: dict[Backend, Dispatcher] = {}
        self.timekeepers: dict[Backend, Timekeeper] = {}
        self.watchers: list[RemoteJobWatcher] = []
        self.obediences: list[CommandListener] = []
        self.jobs_changed = asyncio.Event()
        """Set when there may be fewer unfinished jobs than before."""
        self.lost: asyncio.Future[StorageLostError] = asyncio.get_running_loop().create_future()
        """Done when the durable storage is not the one that was opened any more."""

    def job_due(self, backend: Backend, due_at: Microseconds) -> None:
        """A job that is due at this time was stored."""
        dispatcher = self.dispatchers.get(backend)
        if dispatcher is not None:
            dispatcher.job_due(due_at)

    def settled(self, attempt: Attempt, settlement: Settlement) -> None:
        """The end of an attempt is stored."""
        if attempt.is_replaced:
            self.storage_changed()
        elif settlement.finished_at is None and settlement.parking is None:
            self.job_due(attempt.backend, settlement.due_at)
        self.jobs_changed.set()

    def storage_lost(self, error: StorageLostError) -> None:
        """The durable storage was replaced: nothing of it is to be expected any more."""
        if not self.lost.done():
            self.lost.set_result(error)
            self.jobs_changed.set()

    def waiter_added(self, job: Job[Any]) -> None:
        """A caller waits for a job that does not run here."""
        for watcher in self.watchers:
            watcher.watch_now(job)

    def storage_changed(self) -> None:
        """Something in a storage may have changed."""
        for dispatcher in self.dispatchers.values():
            dispatcher.wake()
        for watcher in self.watchers:
            watcher.wake()
        for obedience in self.obediences:
            obedience.wake()
        self.jobs_changed.set()

    def attend(self, backend: Backend) -> None:
        """Hear what the gate of ``backend`` says from now on."""
        backend.gate.on_local_change = partial(self.local_change, backend)
        backend.gate.on_lost = self.storage_lost

    def local_change(self, backend: Backend) -> None:
        """Another user of the same storage object has written something."""
        backend.queues.invalidate()
        self.storage_changed()
