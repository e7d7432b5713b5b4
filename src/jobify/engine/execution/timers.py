"""Call functions at their due time, more exactly than the event loop does.

An event loop on Linux waits in whole milliseconds, rounded up, so that its timers are half a millisecond late at the
median. A kernel timer (``timerfd_create(2)``) is a file that becomes readable at its time, which the loop notices
within 50 µs. Python has it since 3.13 (``os.timerfd_create``); before, it is called through ``ctypes``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from jobify.model.clock import SECOND, Clock
from jobify.types import Microseconds

if TYPE_CHECKING:
    from ctypes import CDLL

__all__ = ("DueTimer", "TimerFd")

_NANOSECONDS: Final = 1_000_000_000
_SLEW: Final = 1_000
"""Microseconds by which the wall clock may fall behind while it is being corrected. A longer step back means that the
clock was set, and what was due stays due."""


class _Timer(Protocol):
    """Fires once, some seconds after it was last set."""

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
        """Call ``function`` at ``due_at``, from the event loop."""
        deadline = time.monotonic() + (due_at - self._clock.now()) / SECOND
        heappush(self._waiting, (due_at, next(self._numbers), deadline, function))
        self._set()

    def close(self) -> None:
        """Drop all calls."""
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


def _open_timer(loop: asyncio.AbstractEventLoop, on_time: Callable[[], None]) -> _Timer:
    """A kernel timer, if there is one and the loop can wait for it."""
    try:
        return _TimerFdClock(loop, on_time)
    except (OSError, NotImplementedError):
        return _LoopClock(loop, on_time)


class _TimerFdClock:
    def __init__(self, loop: asyncio.AbstractEventLoop, on_time: Callable[[], None]) -> None:
        self._loop = loop
        self._on_time = on_time
        self._timer = TimerFd()
        try:
            loop.add_reader(self._timer.fileno(), self._read)
        except BaseException:
            self._timer.close()
            raise

    def set(self, delay: float) -> None:
        self._timer.set(delay)

    def _read(self) -> None:
        self._timer.acknowledge()  # a spurious wake-up is harmless: nothing is due
        self._on_time()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._timer.fileno())
        self._timer.close()


class _LoopClock:
    def __init__(self, loop: asyncio.AbstractEventLoop, on_time: Callable[[], None]) -> None:
        self._loop = loop
        self._on_time = on_time
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        self.close()
        self._handle = self._loop.call_later(delay, self._on_time)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class TimerFd:
    """A kernel timer as a file, which its owner must close. OSError where there is none."""

    def __init__(self) -> None:
        self._fd: int = _libc().timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("make a timer")

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def set(self, delay: float) -> None:
        """Fire once, ``delay`` seconds from now, or at once if that is not in the future. Replaces an earlier time."""
        from ctypes import byref, c_long

        seconds, rest = divmod(max(1, round(delay * _NANOSECONDS)), _NANOSECONDS)  # zero would stop the timer
        when = (c_long * 4)(0, 0, seconds, rest)  # struct itimerspec: no interval, the first time
        if _libc().timerfd_settime(self._fd, 0, byref(when), None):
            raise _error("set a timer")

    def acknowledge(self) -> bool:
        """Reset the file; return whether it has fired since it was set, or since the last call."""
        try:
            return bool(os.read(self._fd, 8))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close the file. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@cache
def _libc() -> CDLL:
    if sys.platform != "linux" or sys.maxsize < 2**32:  # with 32 bits a long may be shorter than the kernel's time
        raise OSError("This system has no timers that are files.")
    from ctypes import CDLL

    return CDLL(None, use_errno=True)


def _error(doing: str) -> OSError:
    from ctypes import get_errno

    number = get_errno()
    return OSError(number, f"Cannot {doing}: {os.strerror(number)}")
