"""Durations as users write them: a number of seconds, or a ``timedelta``.

The command line takes numbers only. Internally a duration is a float of seconds.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.model.clock import SECOND
from jobify.types import Microseconds

__all__ = ("Duration", "as_seconds", "check_duration", "how_long", "until")


Duration: TypeAlias = float | timedelta
"""A number of seconds, or a timedelta."""


def as_seconds(value: Any) -> Any:
    """The seconds of a timedelta; other values unchanged.

    >>> as_seconds(timedelta(minutes=1)), as_seconds(5)
    (60.0, 5)
    """
    return value.total_seconds() if isinstance(value, timedelta) else value


def check_duration(value: Any, *, what: str, allow_zero: bool = True) -> float:
    """``value`` in seconds, or ConfigurationError naming ``what``.

    >>> check_duration(timedelta(minutes=1), what="timeout")
    60.0
    """
    if type(value) is float and 0 < value < math.inf:  # what most are
        return value
    given = as_seconds(value)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ConfigurationError(f"The {what} is {value!r}; it must be a number of seconds, or a timedelta.")
    if not _is_finite(given) or given < 0 or (given == 0 and not allow_zero):
        least = "0 or more" if allow_zero else "more than 0"
        raise ConfigurationError(f"The {what} is {value!r}; it must be {least}, in seconds, and finite.")
    return float(given)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no float can hold
        return False


# -- moments -----------------------------------------------------------------------------------------------------------
# Durations and distances in time, as people read them.


def how_long(length: float) -> str:
    """A duration with one unit, or two where the second one matters.

    >>> [how_long(s) for s in (0.0042, 4.2, 75, 7260, 200_000, 9e6)]
    ['4 ms', '4.2 s', '1 m 15 s', '2 h 1 m', '2 d 7 h', '104 d']
    """
    if length < 1:
        return f"{max(length, 0) * 1000:.0f} ms"
    if length < 60:
        return f"{length:.1f} s"
    for larger, smaller, size in (("m", "s", 60), ("h", "m", 3600), ("d", "h", 86_400)):
        if length < size * (60 if larger != "h" else 24) or larger == "d":
            whole, rest = divmod(length, size)
            less = int(rest // (1 if smaller == "s" else 60 if smaller == "m" else 3600))
            return f"{whole:.0f} {larger}" + (f" {less} {smaller}" if less and whole < 10 else "")
    raise AssertionError


def until(at: Microseconds, *, now: Microseconds) -> str:
    """``in 5.0 s``, or ``5.0 s ago``.

    >>> until(5_000_000, now=0), until(0, now=5_000_000)
    ('in 5.0 s', '5.0 s ago')
    """
    length = how_long(abs(at - now) / SECOND)
    return f"in {length}" if at > now else f"{length} ago"
