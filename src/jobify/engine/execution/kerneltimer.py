"""A timer of the Linux kernel, as a file: ``timerfd_create(2)``. Python has it since 3.13 (``os.timerfd_create``)."""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ctypes import CDLL

__all__ = ("TimerFd",)

_NANOSECONDS: Final = 1_000_000_000


class TimerFd:
    """Its file becomes readable some time after it was set. OSError where there is none.

    It belongs to whoever made it, and must be closed.
    """

    def __init__(self) -> None:
        self._fd: int = _libc().timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("make a timer")

    def fileno(self) -> int:
        """What to wait for."""
        return self._fd

    def set(self, delay: float) -> None:
        """Have it ring once, ``delay`` seconds from now; at once if that is not in the future. An earlier order is
        forgotten."""
        from ctypes import byref, c_long

        seconds, rest = divmod(max(1, round(delay * _NANOSECONDS)), _NANOSECONDS)  # nothing at all would stop it
        when = (c_long * 4)(0, 0, seconds, rest)  # struct itimerspec: no interval, the first time
        if _libc().timerfd_settime(self._fd, 0, byref(when), None):
            raise _error("set a timer")

    def acknowledge(self) -> bool:
        """Let its file be readable no longer; whether it has rung since it was set, or since this was last called."""
        try:
            return bool(os.read(self._fd, 8))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Give its file back; twice is once."""
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
