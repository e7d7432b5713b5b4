"""Times as people write and read them in a terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final

from jobify.cli.errors import CommandError
from jobify.clock import SECOND, from_datetime, seconds, to_datetime
from jobify.exits import ExitCode
from jobify.types import Microseconds

__all__ = ("ago", "duration", "how_long", "moment", "seconds_of", "stamp", "until")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[smhdw])")


def duration(text: str) -> float:
    """Seconds: ``90s``, ``15m``, ``2h``, ``7d``, ``2w``.

    >>> duration("1.5h")
    5400.0
    """
    found = _AGO.fullmatch(text.strip())
    if found is None:
        raise CommandError(f"{text!r} is no duration. Write 90s, 15m, 2h, 7d or 2w.", ExitCode.USAGE)
    return float(found["number"]) * _UNITS[found["unit"]]


def seconds_of(text: str) -> float:
    """:func:`duration`, or a plain number of seconds.

    >>> seconds_of("90"), seconds_of("2m")
    (90.0, 120.0)
    """
    try:
        number = float(text)
    except ValueError:
        return duration(text)
    return number if 0 <= number < float("inf") else duration(text)


def moment(text: str, *, now: Microseconds, zone: tzinfo) -> Microseconds:
    """A time: a duration before now, or an ISO date or datetime (naive: in ``zone``).

    >>> from datetime import UTC
    >>> moment("2h", now=7_200_000_000, zone=UTC), moment("1970-01-01T00:00:01", now=0, zone=UTC)
    (0, 1000000)
    """
    if _AGO.fullmatch(text.strip()):
        return now - seconds(duration(text))
    try:
        return from_datetime(datetime.fromisoformat(text.strip()), zone=zone)
    except ValueError:
        raise CommandError(
            f"{text!r} is no time. Write 2h or 7d (before now), 2026-01-31 or 2026-01-31T12:00.", ExitCode.USAGE
        ) from None


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


def ago(moment: datetime, *, now: Microseconds) -> str:
    """:func:`until`, of an aware datetime."""
    return until(from_datetime(moment, zone=UTC), now=now)


def stamp(at: Microseconds | None, *, zone: tzinfo, is_short: bool = False) -> str:
    """A time in ``zone``, to the second; ``is_short``: without the year and the zone. Empty if there is none."""
    if at is None:
        return ""
    return to_datetime(at, zone=zone).strftime("%m-%d %H:%M:%S" if is_short else "%Y-%m-%d %H:%M:%S %Z")
