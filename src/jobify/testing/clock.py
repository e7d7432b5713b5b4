"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import datetime

from jobify.exceptions import ConfigurationError
from jobify.model.clock import SECOND, Clock, from_datetime, seconds, to_datetime
from jobify.model.durations import Duration, as_seconds
from jobify.types import Microseconds

__all__ = ("FakeClock",)


class FakeClock(Clock):
    """Hand it to an app: ``Jobify(clock=FakeClock(start))``.

    A running app reads its clock at least once a second, as it must to notice that a machine slept; so after
    ``advance`` or ``set`` what has become due runs within a second of real time.

    >>> from datetime import UTC
    >>> clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    >>> clock.advance(90)
    >>> clock.moment.isoformat()
    '2030-01-01T00:01:30+00:00'
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ConfigurationError(f"start is {start!r}, which names no point in time; give it a zone.")
        self._zone = start.tzinfo
        self._now = from_datetime(start, zone=start.tzinfo)
        self._passed: Microseconds = 0

    def now(self) -> Microseconds:
        return self._now

    def monotonic(self) -> float:
        return self._passed / SECOND

    @property
    def moment(self) -> datetime:
        """The time, in the zone of the start."""
        return to_datetime(self._now, zone=self._zone)

    def advance(self, duration: Duration) -> None:
        """Let so many seconds (or a timedelta) pass."""
        passed = seconds(as_seconds(duration))
        self._now += passed
        self._passed += max(passed, 0)

    def set(self, moment: datetime) -> None:
        """Set the wall clock, as a person or a time server does: no time passes."""
        self._now = from_datetime(moment, zone=self._zone)
