"""Cron expressions where the clocks of a zone are put forward and back.

The rules are those of cron(8) and crontab(5), which distinguish two kinds of jobs:

*Wildcard jobs*, whose minute or hour starts with a star, follow elapsed time. They run at every instant at which the
wall clock matches: ``*/10 * * * *`` runs 36 times in any six hours, also on the days of both changes. Times that the
clock skips do not exist, times that it shows twice run twice.

*Fixed-time jobs*, all others, run once for each written time. A job whose time is skipped runs at the first instant
after the gap; several skipped times of one job are one run, because they are due at the same instant. A job whose time
is shown twice runs at the first of the two.

That holds for changes of less than three hours. A greater one, such as the day that Apia skipped in 2011, is no
daylight saving but a correction: every job follows the new time at once. Skipped times do not run, times that are shown
twice run twice.

The result depends on the instant only, not on earlier runs: no state is kept between two calls, and the results
increase in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from jobify.crontab.pattern import SECOND, Pattern

__all__ = ("next_in_zone",)

_CORRECTION: Final = timedelta(hours=3)
"""From this size on, a change is a correction of the clock (cron(8))."""


class _Change(NamedTuple):
    """One change of a zone's offset: at the instant ``at`` (naive, UTC) it goes from ``before`` to ``after``."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_gap(self) -> bool:
        return self.after > self.before

    @property
    def is_correction(self) -> bool:
        return abs(self.after - self.before) >= _CORRECTION

    @property
    def touched_until(self) -> datetime:
        """The end, on the wall, of the times that are skipped or shown twice."""
        return self.at + max(self.before, self.after)


def next_in_zone(pattern: Pattern, now: datetime, zone: tzinfo) -> datetime | None:
    """The first run strictly after ``now`` (aware), in ``zone``. None if there is none.

    The usual case takes one search on the wall clock and the zone's offsets at both ends: a wall time that is neither
    skipped nor shown twice is one instant, and no change in between can put another run before it.
    """
    utc = now.astimezone(UTC)
    local = utc.astimezone(zone)
    wall, instant = local.replace(tzinfo=None, fold=0), utc.replace(tzinfo=None)
    if not local.fold and (change := _change_at(wall, zone)) and _shows_twice(pattern, change):
        found = pattern.after(wall)
        if found is not None and found < change.touched_until:
            return found.replace(tzinfo=zone)
        wall, instant = change.at + change.after - SECOND, change.at - SECOND  # go on at the start of the second pass
    return _walk(pattern, wall, instant, zone)


def _walk(pattern: Pattern, start: datetime, instant: datetime, zone: tzinfo) -> datetime | None:
    """The first run after ``instant`` (naive, UTC) among the wall times after ``start``."""
    wall = pattern.after(start)
    while wall is not None:
        change = _change_at(wall, zone)
        if change is None:
            return wall.replace(tzinfo=zone)
        if change.is_gap:
            if not _follows_elapsed_time(pattern, change):
                return change.at.replace(tzinfo=UTC).astimezone(zone)
        elif wall - change.before > instant:
            return wall.replace(tzinfo=zone)
        elif _follows_elapsed_time(pattern, change):
            return wall.replace(tzinfo=zone, fold=1)
        wall = pattern.after(change.touched_until - SECOND)
    return None


def _follows_elapsed_time(pattern: Pattern, change: _Change) -> bool:
    return pattern.wildcard_time or change.is_correction


def _shows_twice(pattern: Pattern, change: _Change) -> bool:
    return not change.is_gap and _follows_elapsed_time(pattern, change)


def _change_at(wall: datetime, zone: tzinfo) -> _Change | None:
    """The change that makes ``zone`` skip ``wall`` or show it twice, if there is one."""
    aware = wall.replace(tzinfo=zone)
    before, after = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    if before == after or before is None or after is None:
        return None
    return _Change(_instant_of_change(wall, before, after, zone), before, after)


def _instant_of_change(wall: datetime, before: timedelta, after: timedelta, zone: tzinfo) -> datetime:
    """Find the change by bisection: read with either offset, ``wall`` lies on either side of it (PEP 495)."""
    wall = wall.replace(microsecond=0)
    early, late = sorted((wall - before, wall - after))
    while late - early > SECOND:
        middle = early + (late - early) // (2 * SECOND) * SECOND
        if middle.replace(tzinfo=UTC).astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late
