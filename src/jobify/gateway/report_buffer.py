"""The reports of one attempt that are not stored yet.

They are weighed. Above ``_HIGH_WATER`` callers that can wait do: threads block, and no more is read from a child
process, which blocks the child. Code on the event loop cannot be blocked, and what is held back for a transaction has
no sender that could make room. Both may go on to ``_LIMIT``; then a value is refused with an error (none is lost
silently), and a log line is dropped and counted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable
from typing import Final

from jobify.exceptions import ApplicationStateError, TaskCancelledError
from jobify.jobs.current_job import Running
from jobify.model.records import MessageKind, Report
from jobify.runtime.logs import get_logger

__all__ = ("ReportBuffer",)

log = get_logger("jobify.engine")

_HIGH_WATER: Final = 512 * 1024
_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that are not stored yet."""
_ENVELOPE: Final = 512
"""Bytes that a report takes besides its data."""
_POLL: Final = 0.05
"""Seconds between two checks of a blocked thread for a stop request."""


class ReportBuffer:
    """The reports of one attempt that are not stored yet, and the bounds on them. For any thread."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._change = threading.Condition()
        """Holds the lock of all that follows; notified when there is room, or waiting for it has become pointless."""
        self._progress: Report | None = None
        self._lines: deque[Report] = deque()
        self.weight = 0
        self._dropped = 0
        self._is_sending = False
        """Whether a group is under way, or about to be."""
        self.is_held = False
        """Whether reports stay here, because a transaction stores them. None is under way then."""
        self._is_over = False
        """Whether reports are no longer taken."""
        self._room: asyncio.Future[None] | None = None

    def put(self, report: Report, running: Running, *, may_block: bool) -> bool:
        """Take a report; whether the caller has to start the sender."""
        with self._change:
            if report.kind is not MessageKind.PROGRESS and not self._has_room(report, running, may_block=may_block):
                return False
            if self._is_over:
                return False
            if report.kind is MessageKind.PROGRESS:
                self._progress = report
            else:
                self._lines.append(report)
            self.weight += _weight(report)
            must_start, self._is_sending = not self._is_sending, True
            return must_start

    def _has_room(self, report: Report, running: Running, *, may_block: bool) -> bool:
        """Whether to keep a line, after waiting for room where that is possible."""
        if not may_block or self.is_held:
            return self.weight < _LIMIT or self._refuse(report)
        while self.weight >= _HIGH_WATER and not self._is_over:
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

    def take(self, limit: int) -> list[Report]:
        """The next group. Progress goes first, because it counts what was reported before."""
        with self._change:
            group = [] if self._progress is None else [self._progress]
            self._progress = None
            group += [self._lines.popleft() for _ in range(min(limit - len(group), len(self._lines)))]
            self._is_sending = bool(group)
            return group

    def take_all(self) -> list[Report]:
        """All of them, while no sender can start; else none."""
        with self._change:
            if not self.is_held:
                return []
            group = [] if self._progress is None else [self._progress]
            group += self._lines
            self._progress = None
            self._lines.clear()
            return group

    def put_back(self, group: list[Report]) -> None:
        """Keep a group that could not be stored, before what came later."""
        with self._change:
            for report in reversed(group):
                if report.kind is not MessageKind.PROGRESS:
                    self._lines.appendleft(report)
                elif self._progress is None:
                    self._progress = report

    def end(self) -> bool:
        """Take no more reports; whether some are not stored yet."""
        with self._change:
            self._is_over = True
            self._change.notify_all()
            return self._is_sending

    def discard(self) -> None:
        """Take no more reports, and drop those that are not stored."""
        with self._change:
            self._is_over = True
            self._progress = None
            self._lines.clear()
            self._release(self.weight)

    def hold(self) -> bool:
        """Let no sender start, so that reports stay here. False: a sender is at work."""
        with self._change:
            if self._is_sending:
                return False
            self._is_sending = self.is_held = True
            return True

    def resume(self, group: list[Report]) -> bool:
        """Undo :meth:`hold`, with ``group`` before what came later; whether there was something to undo. The caller
        has to start the sender."""
        with self._change:
            was_held, self.is_held = self.is_held, False
        self.put_back(group)
        return was_held

    def wait_and_hold(self, running: Running) -> None:
        """:meth:`hold`, after the sender has ended. For a thread that may wait."""
        while not self.hold():
            with self._change:
                self._change.wait(_POLL)
            reason = running.stop_reason()
            if reason is not None:
                raise TaskCancelledError(self._job_id, reason)

    def stored(self, group: list[Report]) -> None:
        """Make room: a group is stored."""
        with self._change:
            self._release(sum(map(_weight, group)))

    def _release(self, weight: int) -> None:
        """With the lock held, on the event loop."""
        self.weight -= weight
        if self.weight >= _HIGH_WATER:
            return
        self._change.notify_all()
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def wait_for_room(self, loop: asyncio.AbstractEventLoop) -> Awaitable[None] | None:
        """What to await before the next report is taken; None: nothing."""
        with self._change:
            if self.weight < _HIGH_WATER or self._is_over:
                return None
            if self._room is None or self._room.done():
                self._room = loop.create_future()
            return self._room


def _weight(report: Report) -> int:
    """The weight of a report; progress weighs nothing, because there is never more than one."""
    if report.kind is MessageKind.PROGRESS:
        return 0
    return _ENVELOPE + (len(report.data) if isinstance(report.data, bytes | str) else 0)
