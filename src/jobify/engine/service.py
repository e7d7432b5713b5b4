"""What runs long starts, says ready, and stops: any number of times, in any event loop."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from jobify.exceptions import StorageLostError, StorageUnavailableError
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn

__all__ = ("Periodic", "Service", "until_next")

log = get_logger("jobify.engine")

_FIRST_PAUSE = 0.05
_GOLDEN = 0.618
"""Multiples of it are spread evenly over a second."""


class Service(ABC):
    """A background task with one duty.

    ``start`` and ``stop`` may each be called twice. A service that fails is restarted after a pause that grows while it
    goes on failing: no error of a database or a peer ends it silently. A database that was replaced does end it.
    """

    _LONGEST_PAUSE = 5.0

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self.failures = FailureLog(log, f"{type(self).__name__} works again")
        """Where its failures are written."""
        self.storage_failures = self.failures
        """Where those are written that it has in common with others: the storage is unavailable."""
        self.on_lost: Callable[[StorageLostError], object] | None = None
        """Called when the storage is not the one that was opened any more, which ends the service."""
        self.on_cancelled: Callable[[Service], object] | None = None
        """Called when the service was cancelled, and not by :meth:`stop`."""

    @property
    def was_cancelled(self) -> bool:
        """Whether somebody else than :meth:`stop` has cancelled it."""
        return self._task is not None and (self._task.cancelled() or self._task.cancelling() > 0)

    async def start(self) -> None:
        """Begin in the running event loop."""
        if self._task is None:
            self._begin()

    def _begin(self) -> None:
        self._task = spawn(self._keep_running(), name=type(self).__name__)
        self._task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if task is self._task and task.cancelled() and self.on_cancelled is not None:
            self.on_cancelled(self)

    def revive(self) -> bool:
        """Begin again after a cancellation from outside; whether that was needed."""
        if self._task is None or not self._task.cancelled():
            return False
        self._begin()
        return True

    async def stop(self) -> None:
        """End, and return when it has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    @abstractmethod
    async def run(self) -> None:
        """The duty; runs until it is cancelled. One that returns is done, until the next start."""

    async def _keep_running(self) -> None:
        pause = _FIRST_PAUSE
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
            except Exception as error:  # whatever it is, the duty must go on
                if clock() - started > 2 * self._LONGEST_PAUSE:  # it worked meanwhile: this is another failure
                    pause = _FIRST_PAUSE
                self._write_failure(error, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._LONGEST_PAUSE)

    def _write_failure(self, error: Exception, pause: float) -> None:
        message, args = "%s failed and goes on in %.2g s: %s", (type(self).__name__, pause, error)
        if isinstance(error, StorageUnavailableError):
            self.storage_failures.failed(self, message, *args)
        else:
            self.failures.failed(self, message, *args, error=error)

    def succeed(self) -> None:
        """A round went well."""
        self.failures.succeeded(self)
        self.storage_failures.succeeded(self)


class Periodic(Service):
    """A service that does one ``step`` now and then every ``interval`` seconds.

    Those of one process keep step, so that they share their wake-ups, and those of several processes do not.
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
    """Seconds from ``now`` to the next moment at which all of this process wake up that have this interval, or one that
    it is a multiple of."""
    return interval - (now + os.getpid() * _GOLDEN) % interval
