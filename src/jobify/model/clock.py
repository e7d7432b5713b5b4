"""Clocks, and conversions of times.

Time is an argument: nothing in Jobify reads the time by itself, but is given a :class:`Clock` or takes ``now``. A point
in time is an ``int`` of microseconds since 1970-01-01 UTC (:data:`Microseconds`), so that it is exact, sorts in every
database and has no zone; ``datetime`` appears only where a user sees it. A duration is a ``float`` of seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Protocol

from jobify.types import Microseconds

__all__ = ("SECOND", "Clock", "ServerTime", "SystemClock", "from_datetime", "iso", "seconds", "to_datetime")

SECOND: Microseconds = 1_000_000
"""A second in microseconds, the unit of all times in rows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_DAY, _LAST_DAY = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
"""Near the ends of the calendar, but in range in every zone."""


def _elapsed_clock() -> Callable[[], float]:
    """Linux stops ``time.monotonic`` during sleep, macOS ``mach_absolute_time``, which Python uses there."""
    name = "CLOCK_BOOTTIME" if hasattr(time, "CLOCK_BOOTTIME") else "CLOCK_MONOTONIC"
    if sys.platform not in ("linux", "darwin") or not hasattr(time, name):
        return time.monotonic
    clock = partial(time.clock_gettime, getattr(time, name))
    try:
        clock()
    except OSError:  # not in every sandbox
        return time.monotonic
    return clock


_elapsed = _elapsed_clock()


class Clock(Protocol):
    """A source of time."""

    def now(self) -> Microseconds:
        """The wall clock: microseconds since the epoch, UTC. May jump, in either direction."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps. For durations, and to notice that the wall clock was set."""
        ...


class ServerTime(Clock, Protocol):
    """The clock of a server, read from afar."""

    @property
    def is_synchronised(self) -> bool:
        """Whether the server's clock was read; before that, this one shows the time of the machine. Once True it stays
        so."""
        ...


class SystemClock:
    """The machine's clocks. Elapsed time includes the sleep of the machine, where the system supports that."""

    __slots__ = ()

    def now(self) -> Microseconds:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return _elapsed()


def seconds(duration: float) -> Microseconds:
    """Convert a duration from seconds to microseconds."""
    return round(duration * SECOND)


def from_datetime(moment: datetime, *, zone: tzinfo) -> Microseconds:
    """The point in time that ``moment`` names; a naive one is read in ``zone``."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment - _EPOCH) // _MICROSECOND


def to_datetime(at: Microseconds, *, zone: tzinfo = UTC) -> datetime:
    """``at`` as an aware datetime in ``zone``, limited to the range of the calendar (for damaged rows)."""
    try:
        return (_EPOCH + timedelta(microseconds=at)).astimezone(zone)
    except OverflowError:
        return (_FIRST_DAY if at < 0 else _LAST_DAY).astimezone(zone)


def iso(at: Microseconds | None) -> str | None:
    """``at`` in ISO 8601, in UTC."""
    return None if at is None else to_datetime(at).isoformat()
