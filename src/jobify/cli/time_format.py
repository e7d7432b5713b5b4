"""Times and durations as text on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final

from jobify.cli.errors import CommandError
from jobify.model.clock import from_datetime, seconds, to_datetime
from jobify.model.durations import how_long, until
from jobify.types import Microseconds
from jobify.worker.exit_codes import ExitCode

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
        raise CommandError(f"{text!r} is not a duration. Write 90s, 15m, 2h, 7d or 2w.", ExitCode.USAGE)
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
    """A time: a duration before now, or an ISO date or datetime. A naive one is in ``zone``.

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
            f"{text!r} is not a time. Write 2h or 7d (before now), 2026-01-31 or 2026-01-31T12:00.", ExitCode.USAGE
        ) from None


def ago(moment: datetime, *, now: Microseconds) -> str:
    """:func:`until`, of an aware datetime."""
    return until(from_datetime(moment, zone=UTC), now=now)


def stamp(at: Microseconds | None, *, zone: tzinfo, is_short: bool = False) -> str:
    """A time in ``zone`` with seconds; ``is_short`` omits the year and the zone. Empty for None."""
    if at is None:
        return ""
    return to_datetime(at, zone=zone).strftime("%m-%d %H:%M:%S" if is_short else "%Y-%m-%d %H:%M:%S %Z")
