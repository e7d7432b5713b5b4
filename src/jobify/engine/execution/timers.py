"""On the dot: functions that are called at a due time.

An event loop on Linux waits in whole milliseconds, rounded up, so that its timers are half a millisecond late at the
median. A timer of the kernel is a file that becomes readable at its time, which the loop notices within 50 µs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Final, Protocol

from jobify.engine.execution.kerneltimer import TimerFd
from jobify.model.clock import SECOND, Clock
from jobify.types import Microseconds

__all__ = ("DueTimer",)

_SLEW: Final = 1_000
"""Microseconds by which the wall clock may fall behind while it is being corrected. A longer step back is somebody's
who sets it, and what was due stays due."""


class _Timer(Protocol):
    """Rings once, some seconds after it was set, or set anew."""

    def set(self, delay: float) -> None: ...
    def close(self) -> None: ...


class DueTimer:
    """Calls functions in the event loop at due times, by the wall clock: never before, and in their order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Microseconds, int, float, Callable[[], object]]] = []
        self._numbers = count()
        self._set_for = inf
        self._timer: _Timer | None = None

    def call_at(self, due_at: Microseconds, function: Callable[[], object]) -> None:
        """Have ``function`` called at ``due_at``, from the event loop."""
        deadline = time.monotonic() + (due_at - self._clock.now()) / SECOND
        heappush(self._waiting, (due_at, next(self._numbers), deadline, function))
        self._set()

    def close(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._set_for = inf
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()

    def _set(self) -> None:
        if self._waiting and self._waiting[0][2] < self._set_for:
            if self._timer is None:
                self._timer = _open_timer(self._loop, self._run_due)
            self._set_for = self._waiting[0][2]
            self._timer.set(self._set_for - time.monotonic())

    def _run_due(self) -> None:
        self._set_for = inf
        try:
            while self._waiting and self._waiting[0][2] <= time.monotonic():
                due_at, _, _, function = heappop(self._waiting)
                if 0 < due_at - self._clock.now() <= _SLEW:
                    self.call_at(due_at, function)
                else:
                    function()
        finally:
            self._set()


def _open_timer(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> _Timer:
    """The kernel's, if it has one and the loop can wait for it."""
    try:
        return _TimerFdClock(loop, ring)
    except (OSError, NotImplementedError):
        return _LoopClock(loop, ring)


class _TimerFdClock:
    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer = TimerFd()
        try:
            loop.add_reader(self._timer.fileno(), self._read)
        except BaseException:
            self._timer.close()
            raise

    def set(self, delay: float) -> None:
        self._timer.set(delay)

    def _read(self) -> None:
        self._timer.acknowledge()  # a false alarm rings for nobody
        self._ring()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._timer.fileno())
        self._timer.close()


class _LoopClock:
    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        self.close()
        self._handle = self._loop.call_later(delay, self._ring)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
