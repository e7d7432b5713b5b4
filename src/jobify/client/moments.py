"""Durations and distances in time, as people read them."""

from __future__ import annotations

from jobify.model.clock import SECOND
from jobify.types import Microseconds

__all__ = ("how_long", "until")


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
