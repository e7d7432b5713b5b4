"""Base classes of background services, and their restart after a cancellation from outside.

A service starts and stops any number of times, in any event loop. Services are tasks like any others, so code that
cancels ``asyncio.all_tasks()`` cancels them, too: :class:`ServiceRestarts` starts them again a moment later, with one
line of log. When ``asyncio.run`` ends its loop it cancels all tasks as well; then nothing is restarted, and a running
job is released instead of failed.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from jobify.exceptions import StorageLostError, StorageUnavailableError
from jobify.runtime.backoff import Backoff
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import is_loop_ending, spawn

__all__ = ("Periodic", "Service", "ServiceRestarts", "until_next")

log = get_logger("jobify.engine")

_FIRST_PAUSE = 0.05
_GOLDEN = 0.618
"""Multiples of it are spread evenly over a second."""


class Service(ABC):
    """A background task with one duty.

    ``start`` and ``stop`` may each be called twice. A service that fails is restarted after a pause that grows while it
    keeps failing: no error of a database or a peer ends it silently. Only a database that was replaced ends it.
    """

    _LONGEST_PAUSE = 5.0

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self.failures = FailureLog(log, f"{type(self).__name__} works again")
        """The log of its failures."""
        self.storage_failures = self.failures
        """The log of failures that all services of a storage share: the storage is unavailable."""
        self.on_lost: Callable[[StorageLostError], object] | None = None
        """Called when the database was replaced or deleted, which ends the service."""
        self.on_cancelled: Callable[[Service], object] | None = None
        """Called when something other than :meth:`stop` has cancelled the service."""

    @property
    def was_cancelled(self) -> bool:
        """Whether something other than :meth:`stop` has cancelled it."""
        return self._task is not None and (self._task.cancelled() or self._task.cancelling() > 0)

    async def start(self) -> None:
        """Start in the running event loop."""
        if self._task is None:
            self._begin()

    def _begin(self) -> None:
        self._task = spawn(self._keep_running(), name=type(self).__name__)
        self._task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if task is self._task and task.cancelled() and self.on_cancelled is not None:
            self.on_cancelled(self)

    def revive(self) -> bool:
        """Start again after a cancellation from outside; return whether that was needed."""
        if self._task is None or not self._task.cancelled():
            return False
        self._begin()
        return True

    async def stop(self) -> None:
        """Stop, and return when it has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    @abstractmethod
    async def run(self) -> None:
        """Do the work until cancelled. A service whose ``run`` returns is done until the next start."""

    async def _keep_running(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, self._LONGEST_PAUSE)
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await self.run()
                return
            except StorageLostError as error:
                if self.on_lost is not None:
                    self.on_lost(error)
                return
            except Exception as error:  # of whatever kind: the service goes on
                if clock() - started > 2 * self._LONGEST_PAUSE:  # it worked in between: this is another failure
                    backoff.reset()
                pause = backoff.next()
                self._write_failure(error, pause)
            await asyncio.sleep(pause)

    def _write_failure(self, error: Exception, pause: float) -> None:
        message, args = "%s failed and goes on in %.2g s: %s", (type(self).__name__, pause, error)
        if isinstance(error, StorageUnavailableError):
            self.storage_failures.failed(self, message, *args)
        else:
            self.failures.failed(self, message, *args, error=error)

    def succeed(self) -> None:
        """Note that a round went well."""
        self.failures.succeeded(self)
        self.storage_failures.succeeded(self)


class Periodic(Service):
    """A service that does one ``step`` at its start and then every ``interval`` seconds.

    The services of one process are aligned, so that they share wake-ups; those of several processes are not.
    """

    def __init__(self, interval: float) -> None:
        super().__init__()
        self._interval = interval

    @abstractmethod
    async def step(self) -> None:
        """One round; tests call it directly."""

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self.step()
            self.succeed()
            await asyncio.sleep(until_next(self._interval, clock()))


def until_next(interval: float, now: float) -> float:
    """Seconds from ``now`` to the next wake-up of all services of this process with this interval, or with a divisor of
    it."""
    return interval - (now + os.getpid() * _GOLDEN) % interval


_PAUSE = 0.05
"""Seconds from the cancellation to the restart: by then a loop that ends in an unknown way is closed."""


class ServiceRestarts:
    """Restarts the services that something other than the app has cancelled."""

    def __init__(self, services: list[Service]) -> None:
        self._services = services
        self._starter = asyncio.current_task()
        self._cancelled: list[Service] = []
        self._has_survived = False
        self.relaunch: Callable[[], None] = _nothing
        """Launches the attempts again whose tasks were cancelled before their first step."""

    def watch(self, service: Service) -> None:
        """Restart ``service`` when it is cancelled."""
        service.on_cancelled = self._on_cancelled

    def is_loop_closing(self) -> bool:
        """Whether the event loop is ending before the app was stopped.

        Where the loop ends in an unknown way, that is assumed once the task that has started the app is over; until the
        services have survived a cancellation, which proves that the loop goes on.
        """
        if is_loop_ending():
            return True
        is_left = self._starter is not None and self._starter.done() and not self._has_survived
        return is_left and any(service.was_cancelled for service in self._services)

    def _on_cancelled(self, service: Service) -> None:
        if is_loop_ending():
            return
        if not self._cancelled:
            asyncio.get_running_loop().call_later(_PAUSE, self._restart)
        self._cancelled.append(service)

    def _restart(self) -> None:
        cancelled, self._cancelled = self._cancelled, []
        revived = [type(service).__name__ for service in cancelled if service.revive()]
        self.relaunch()
        if revived:
            self._has_survived = True
            log.warning(
                "A task has cancelled %d background services of this app (%s); they are started again. Cancel only the "
                "tasks that you have made, not asyncio.all_tasks().",
                len(revived),
                ", ".join(sorted(set(revived))),
            )


def _nothing() -> None:
    """There are no attempts yet."""
