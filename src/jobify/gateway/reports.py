"""Reports of running jobs (progress, values, log lines) → storage. In order, in groups, before the outcome.

An attempt that reports gets a :class:`ReportStream`; one that does not costs nothing. A stream has one group under way
at a time, and the reports that come meanwhile wait in its buffer. From this follows all that is promised:

*Order.* A group that the storage cannot take now is sent again, before anything later.

*Fairness.* The storage's thread never gets more than one group of one job at once, so that a job that reports without
end adds little to the transactions of the others. Only the newest progress is kept.

*Before the outcome.* The completer calls :meth:`ReportStream.finish` and settles once everything is stored.

*Bounds.* Reports that are not stored yet are weighed, and callers slowed down: see
:mod:`jobify.gateway.report_buffer`.

*In a transaction of the task* reports are held back, because the transaction stores them: sent apart, they would come
after the end that it commits, and be refused.

A claim that does not hold any more ends the stream: its reports are dropped, as the outcome will be.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from jobify.exceptions import (
    ApplicationStateError,
    StorageLostError,
    StorageUnavailableError,
)
from jobify.gateway.gateway import StorageGateway
from jobify.gateway.report_buffer import ReportBuffer
from jobify.jobs.current_job import LEVELS, Running
from jobify.model.clock import Clock
from jobify.model.records import MessageKind, Report
from jobify.runtime.backoff import Backoff
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import Lines, get_logger

__all__ = ("ReportStream", "Reporter")

log = get_logger("jobify.engine")
jobs_log = get_logger("jobify.jobs")

_GROUP: Final = 100
"""Reports of one job in one transaction at most."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class Reporter:
    """Makes the report streams of the attempts on one storage."""

    def __init__(self, gate: StorageGateway, clock: Clock, failures: FailureLog | None = None) -> None:
        self.gate = gate
        self.failures = failures or FailureLog(log, "The storage works again")
        self.clock = clock
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def start(self) -> None:
        """Belong to the running event loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def is_on_loop(self) -> bool:
        """Whether the calling thread is the event loop's, which must not be blocked."""
        return threading.get_ident() == self._thread

    def stream_of(self, attempt: Reportable, owner: int, fence: int) -> ReportStream:
        """The stream of an attempt; the first call makes it, in whichever of its threads."""
        assert self._loop is not None
        with self._guard:
            if attempt.reports is None:
                attempt.reports = ReportStream(self, self._loop, attempt.id, owner, fence)
            return attempt.reports


class Reportable(Running, Protocol):
    """An attempt that may have a report stream."""

    reports: ReportStream | None


class ReportStream:
    """The reports of one attempt. Takes them from any thread, and sends them on the event loop."""

    def __init__(
        self, reporter: Reporter, loop: asyncio.AbstractEventLoop, job_id: str, owner: int, fence: int
    ) -> None:
        self._reporter = reporter
        self._loop = loop
        self._job_id = job_id
        self._owner = owner
        self._fence = fence
        self._buffer = ReportBuffer(job_id)
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._is_closed = False
        self._then: Callable[[], None] | None = None
        self._idle: asyncio.Future[None] | None = None
        """Resolved when all that was reported is stored."""
        self._timer: asyncio.TimerHandle | None = None
        self._singles = 0
        """How many reports to send one by one, because one of them is at fault."""

    def add(self, running: Running, kind: MessageKind, data: Any, level: str | None) -> None:
        """Take a report of ``running``, the attempt that the stream belongs to.

        TaskCancelledError in a thread that is blocked and requested to stop; ApplicationStateError on the event loop
        for a value that is too much.
        """
        report = Report(self._job_id, self._owner, self._fence, kind, self._reporter.clock.now(), data, level)
        if kind is MessageKind.LOG:
            _log_locally(running, data, level or "info")
        is_on_loop = self._reporter.is_on_loop()
        if not self._buffer.put(report, running, may_block=not is_on_loop):
            return
        if is_on_loop:
            self._flush()
        else:
            with suppress(RuntimeError):  # the event loop was closed: the report cannot be stored any more
                self._loop.call_soon_threadsafe(self._flush)

    def wait_for_room(self) -> Awaitable[None] | None:
        """What to await before passing the next report of a child process on; None: nothing."""
        return self._buffer.wait_for_room(self._loop)

    def finish(self, then: Callable[[], None]) -> bool:
        """Take no more reports. True: not all are stored yet, and ``then`` will be called when they are."""
        is_sending = self._buffer.end()
        self._then = then if is_sending else None
        return is_sending

    # -- in a transaction of the task, which stores what is reported meanwhile -----------------------------------------

    def hold(self, running: Running) -> None:
        """Hold reports back, once those before are stored; on the event loop at once, if none is under way."""
        if self._reporter.is_on_loop():
            self._buffer.hold()
        else:
            self._buffer.wait_and_hold(running)

    async def ahold(self) -> None:
        """Hold reports back, once those before are stored."""
        while not self._buffer.hold():
            self._idle = self._loop.create_future()
            await self._idle

    def take_held(self) -> list[Report]:
        """The reports that were held back."""
        return self._buffer.take_all()

    def resume(self, group: list[Report]) -> None:
        """Send reports again; first the ``group`` that was taken and not stored."""
        if self._buffer.resume(group):
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(self._flush)

    def close(self) -> None:
        """Take no more reports, and drop those that are not stored."""
        self._is_closed = True
        self._then = None
        self._reporter.failures.forget(self)
        self._buffer.discard()
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        """Send the next group, or end if there is none."""
        group = self._buffer.take(1 if self._singles else _GROUP)
        self._singles = max(0, self._singles - 1)
        if group:
            self._reporter.gate.report(group, lambda answer: self._on_stored(group, answer))
        else:
            self._on_all_stored()

    def _on_all_stored(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)
        then, self._then = self._then, None
        if then is not None:
            then()

    def _on_stored(self, group: list[Report], answer: Sequence[bool] | Exception) -> None:
        if self._is_closed:
            return
        match answer:
            case StorageLostError():  # nothing can be stored any more, including the outcome
                self._buffer.discard()
            case StorageUnavailableError():
                self._buffer.put_back(group)
                self._retry_later(answer)
                return
            case ApplicationStateError():  # the storage is closed: the outcome will be refused, too
                self._buffer.discard()
            case Exception() if len(group) > 1:
                self._buffer.put_back(group)
                self._singles = len(group)
            case Exception():
                log.error("A report of job %s cannot be stored and is lost: %r", self._job_id, answer)
                self._on_success(group)
            case held if all(held):
                self._on_success(group)
            case _:  # the claim does not hold any more: the outcome will be refused, too
                self._buffer.discard()
        self._loop.call_soon(self._flush)

    def _on_success(self, group: list[Report]) -> None:
        self._backoff.reset()
        self._reporter.failures.succeeded(self)
        self._buffer.stored(group)

    def _retry_later(self, error: StorageUnavailableError) -> None:
        pause = self._backoff.next()
        message = "Reports of job %s are not stored, trying again in %.2g s: %s"
        self._reporter.failures.failed(self, message, self._job_id, pause, error)
        self._timer = self._loop.call_later(pause, self._flush)


def _log_locally(running: Running, line: str, level: str) -> None:
    """Write the line to the log of this process, too."""
    if jobs_log.isEnabledFor(LEVELS[level]):
        extra = {
            "job_id": running.id,
            "task": running.task_name,
            "task_name": running.task_name,
            "queue": running.queue_name,
            "attempt": running.number,
        }
        jobs_log.log(LEVELS[level], "%s (%s): %s", running.task_name, running.id, Lines(line), extra=extra)
