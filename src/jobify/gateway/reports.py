"""What running jobs report (progress, values, log lines) → storage. In order, in groups, before the outcome.

An attempt that reports gets a :class:`Voice`; one that does not costs nothing. A voice has one group under way at a
time, and what is said meanwhile waits for the next. From this follows all that is promised:

*Order.* A group that the storage cannot take now is sent again, before anything later.

*Sparing others.* The storage's thread never gets more than a group of one job at once, so that a job that talks without
end adds little to the transactions of the others. Of progress only the newest waits.

*Before the outcome.* The completer asks :meth:`Voice.finish` and settles when all is answered.

*Bounds.* What is not stored yet is weighed. Above ``_COMFORT`` those that can wait do: threads stand still, and of a
child process nothing more is read, which holds up the child. Code on the event loop cannot be held up. It may go on to
``_LIMIT``; then a value is refused with an error (none is lost silently), and a log line is dropped and counted.

A claim that does not hold any more ends the voice: what it has to say is dropped, as the outcome will be.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from jobify.exceptions import (
    ApplicationStateError,
    StorageLostError,
    StorageUnavailableError,
    TaskCancelledError,
)
from jobify.gateway.gateway import StorageGateway
from jobify.jobs.current_job import LEVELS, Running
from jobify.model.clock import Clock
from jobify.model.records import MessageKind, Report
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import Lines, get_logger

__all__ = ("ReportStream", "Reporter")

log = get_logger("jobify.engine")
jobs_log = get_logger("jobify.jobs")

_GROUP: Final = 100
"""Reports of one job in one transaction at most."""
_HIGH_WATER: Final = 512 * 1024
_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that are not stored yet."""
_ENVELOPE: Final = 512
"""Bytes that a report takes beside its data."""
_POLL: Final = 0.05
"""Seconds after which a thread that is held up looks whether it was told to stop."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class Reporter:
    """Where the attempts on one storage get their voices."""

    def __init__(self, gate: StorageGateway, clock: Clock, failures: FailureLog | None = None) -> None:
        self.gate = gate
        self.failures = failures or FailureLog(log, "The storage works again")
        self.clock = clock
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def start(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def is_on_loop(self) -> bool:
        """Whether the calling thread is the one that must not be held up."""
        return threading.get_ident() == self._thread

    def stream_of(self, attempt: Reportable, owner: int, fence: int) -> ReportStream:
        """The voice of an attempt; a new one at the first call, whichever of its threads makes it."""
        assert self._loop is not None
        with self._guard:
            if attempt.reports is None:
                attempt.reports = ReportStream(self, self._loop, attempt.id, owner, fence)
            return attempt.reports


class Reportable(Running, Protocol):
    """An attempt that may have a voice."""

    reports: ReportStream | None


class ReportStream:
    """What one attempt has to say. Speaks on the event loop; may be told from any thread."""

    def __init__(
        self, reporter: Reporter, loop: asyncio.AbstractEventLoop, job_id: str, owner: int, fence: int
    ) -> None:
        self._reporter = reporter
        self._loop = loop
        self._job_id = job_id
        self._owner = owner
        self._fence = fence
        self._change = threading.Condition()
        """Holds the lock of all that follows; notified when there is room, or no use in waiting for it."""
        self._progress: Report | None = None
        self._lines: deque[Report] = deque()
        self._weight = 0
        self._dropped = 0
        self._is_busy = False
        """A group is under way, or about to be."""
        self._is_over = False
        """Nothing more is taken."""
        self._is_closed = False
        self._then: Callable[[], None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE
        self._singles = 0
        """How many reports are to be sent one by one: one of them is at fault."""

    # -- being told ----------------------------------------------------------------------------------------------------

    def add(self, running: Running, kind: MessageKind, data: Any, level: str | None) -> None:
        """Take a report of ``running``, whose voice it is.

        TaskCancelledError in a thread that is held up and told to stop; ApplicationStateError on the event loop for a
        value that is too much.
        """
        report = Report(self._job_id, self._owner, self._fence, kind, self._reporter.clock.now(), data, level)
        if kind is MessageKind.LOG:
            _log_locally(running, data, level or "info")
        is_on_loop = self._reporter.is_on_loop()
        with self._change:
            if kind is not MessageKind.PROGRESS and not self._has_room(running, report, is_on_loop=is_on_loop):
                return
            if self._is_over:
                return
            self._append(report)
            if self._is_busy:
                return
            self._is_busy = True
        if is_on_loop:
            self._flush()
        else:
            with suppress(RuntimeError):  # the event loop was closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._flush)

    def wait_for_room(self) -> Awaitable[None] | None:
        """What to await before the next report is taken, for whoever passes them on; None: nothing."""
        with self._change:
            if self._weight < _HIGH_WATER or self._is_over:
                return None
            if self._room is None or self._room.done():
                self._room = self._loop.create_future()
            return self._room

    def finish(self, then: Callable[[], None]) -> bool:
        """Take nothing more. True: not all is stored yet, and ``then`` will be called when it is."""
        with self._change:
            self._is_over = True
            self._change.notify_all()
            self._then = then if self._is_busy else None
            return self._is_busy

    def close(self) -> None:
        """Take nothing more, and forget what is not stored."""
        self._is_closed = True
        self._then = None
        self._reporter.failures.forget(self)
        self._discard()
        if self._timer is not None:
            self._timer.cancel()

    def _append(self, report: Report) -> None:
        if report.kind is MessageKind.PROGRESS:
            self._progress = report
        else:
            self._lines.append(report)
        self._weight += _weight(report)

    def _has_room(self, running: Running, report: Report, *, is_on_loop: bool) -> bool:
        """Whether to keep a line, after having waited for it where that is possible."""
        if is_on_loop:
            return self._weight < _LIMIT or self._refuse(report)
        while self._weight >= _HIGH_WATER and not self._is_over:
            self._change.wait(_POLL)
            reason = running.stop_reason()
            if reason is not None:
                raise TaskCancelledError(self._job_id, reason)
        return True

    def _refuse(self, report: Report) -> bool:
        if report.kind is MessageKind.VALUE:
            raise ApplicationStateError(
                operation=f"publish a value of job {self._job_id!r}",
                reason=f"{_LIMIT >> 20} MB of what it has reported wait for the database.",
                solution="Await something in between, publish less, or write the task as a plain function, which is "
                "slowed down.",
            )
        if not self._dropped:
            log.warning("Job %s logs faster than the database takes it: lines are dropped.", self._job_id)
        self._dropped += 1
        return False

    # -- speaking: on the event loop -----------------------------------------------------------------------------------

    def _flush(self) -> None:
        with self._change:
            group = self._take()
            self._is_busy = bool(group)
            then = None if group else self._then
        if group:
            self._reporter.gate.report(group, lambda answer: self._on_stored(group, answer))
        elif then is not None:
            self._then = None
            then()

    def _take(self) -> list[Report]:
        """The next group. Progress goes first: what it counts has been said."""
        group = [] if self._progress is None else [self._progress]
        self._progress = None
        room = (1 if self._singles else _GROUP) - len(group)
        self._singles = max(0, self._singles - 1)
        return group + [self._lines.popleft() for _ in range(min(room, len(self._lines)))]

    def _on_stored(self, group: list[Report], answer: Sequence[bool] | Exception) -> None:
        """The storage has answered."""
        if self._is_closed:
            return
        if isinstance(answer, StorageLostError):
            self._discard()  # nothing can be stored any more, the outcome included
            self._loop.call_soon(self._flush)
            return
        if isinstance(answer, StorageUnavailableError):
            self._put_back(group)
            self._retry_later(answer)
            return
        if isinstance(answer, ApplicationStateError) or (not isinstance(answer, Exception) and not all(answer)):
            self._discard()  # the storage is closed, or the job was taken from here: the outcome will be refused, too
        elif isinstance(answer, Exception) and len(group) > 1:
            self._put_back(group)
            self._singles = len(group)
        else:
            if isinstance(answer, Exception):
                log.error("A report of job %s cannot be stored and is lost: %r", self._job_id, answer)
            self._pause = _FIRST_PAUSE
            self._reporter.failures.succeeded(self)
            self._release(sum(map(_weight, group)))
        self._loop.call_soon(self._flush)

    def _retry_later(self, error: StorageUnavailableError) -> None:
        message = "What job %s reports is not stored, trying again in %.2g s: %s"
        self._reporter.failures.failed(self, message, self._job_id, self._pause, error)
        self._timer = self._loop.call_later(self._pause, self._flush)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _put_back(self, group: list[Report]) -> None:
        with self._change:
            for report in reversed(group):
                if report.kind is not MessageKind.PROGRESS:
                    self._lines.appendleft(report)
                elif self._progress is None:
                    self._progress = report

    def _discard(self) -> None:
        with self._change:
            self._is_over = True
            self._progress = None
            self._lines.clear()
        self._release(self._weight)

    def _release(self, weight: int) -> None:
        """So much less waits: let those go on that were held up."""
        with self._change:
            self._weight -= weight
            if self._weight >= _HIGH_WATER:
                return
            self._change.notify_all()
            room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)


def _weight(report: Report) -> int:
    """Of progress there is never more than one."""
    if report.kind is MessageKind.PROGRESS:
        return 0
    return _ENVELOPE + (len(report.data) if isinstance(report.data, bytes | str) else 0)


def _log_locally(running: Running, line: str, level: str) -> None:
    """Whoever watches the process sees the line, too."""
    if jobs_log.isEnabledFor(LEVELS[level]):
        extra = {
            "job_id": running.id,
            "task": running.task_name,
            "task_name": running.task_name,
            "queue": running.queue_name,
            "attempt": running.number,
        }
        jobs_log.log(LEVELS[level], "%s (%s): %s", running.task_name, running.id, Lines(line), extra=extra)
