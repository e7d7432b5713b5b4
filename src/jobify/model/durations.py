"""Durations as users write them: a number of seconds, or a ``timedelta``.

The command line takes numbers only. Internally a duration is a float of seconds.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, TypeAlias

from jobify.exceptions import ConfigurationError

__all__ = ("Duration", "as_seconds", "check_duration")

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
