"""The wall-clock times that a cron expression matches, by the calendar alone: no zones, no daylight saving.

The days of a month are the bits of one integer (bit 1 is the first), so that a month of any length is matched by a few
shifts, and the next matching day is the lowest remaining bit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

__all__ = ("SECOND", "DaysOfMonth", "DaysOfWeek", "Month", "Pattern", "bits", "next_in_zone")


SECOND: Final = timedelta(seconds=1)
_LENGTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SUNDAY, _SATURDAY = 0, 6
_GREGORIAN_CYCLE: Final = range(2000, 2400)
"""The calendar repeats after 400 years, including weekdays. A day that is not in these years does not exist."""


class Month(NamedTuple):
    """A month: the weekday of its first day (0 is Sunday) and its length in days."""

    first: int
    length: int

    @classmethod
    def of(cls, year: int, month: int) -> Month:
        is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return cls(date(year, month, 1).isoweekday() % 7, 29 if month == 2 and is_leap else _LENGTHS[month])

    def weekday(self, day: int) -> int:
        return (self.first + day - 1) % 7

    def working_day_near(self, day: int) -> int:
        """The day from Monday to Friday that is nearest to ``day``, without leaving the month."""
        weekday = self.weekday(day)
        if weekday == _SATURDAY:
            return day - 1 if day > 1 else day + 2
        if weekday == _SUNDAY:
            return day + 1 if day < self.length else day - 2
        return day


def bits(numbers: Sequence[int]) -> int:
    """A set of small numbers as the bits of an integer."""
    return sum(1 << number for number in set(numbers))


@dataclass(frozen=True, slots=True)
class DaysOfMonth:
    """The day-of-month field: ``days`` as bits, ``L``, ``LW``, and the days written like ``15W``."""

    days: int = 0
    last: bool = False
    last_working_day: bool = False
    nearest: tuple[int, ...] = ()

    def in_month(self, month: Month) -> int:
        """The matching days of ``month`` as bits; bits past its end may be set."""
        found = self.days
        if self.last:
            found |= 1 << month.length
        if self.last_working_day:
            found |= 1 << month.working_day_near(month.length)
        for day in self.nearest:
            if day <= month.length:
                found |= 1 << month.working_day_near(day)
        return found


@dataclass(frozen=True, slots=True)
class DaysOfWeek:
    """The day-of-week field: plain weekdays, those written like ``5#2`` as (5, 2), and those written like ``5L``.

    ``weeks`` is the row of days that starts on a Sunday and is long enough for every month, one bit each.
    """

    weeks: int = 0
    nth: tuple[tuple[int, int], ...] = ()
    last: tuple[int, ...] = ()

    @classmethod
    def of(cls, weekdays: Sequence[int], nth: Sequence[tuple[int, int]] = (), last: Sequence[int] = ()) -> DaysOfWeek:
        week = bits(weekdays)
        return cls(sum(week << 7 * number for number in range(6)), tuple(nth), tuple(last))

    def in_month(self, month: Month) -> int:
        """The matching days of ``month`` as bits; bits past its end may be set."""
        found = (self.weeks >> month.first) << 1
        for weekday, number in self.nth:
            found |= 1 << (weekday - month.first) % 7 + 7 * number - 6
        for weekday in self.last:
            found |= 1 << month.length - (month.weekday(month.length) - weekday) % 7
        return found


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed expression. Every tuple is sorted and not empty; ``years`` is None for every year.

    ``either_day``: day of month and day of week are both restricted, so one of the two is enough (crontab(5)).
    ``wildcard_time``: the minute or the hour starts with a star; see "daylight" below.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days_of_month: DaysOfMonth
    months: tuple[int, ...]
    days_of_week: DaysOfWeek
    years: tuple[int, ...] | None
    either_day: bool
    wildcard_time: bool

    def after(self, wall: datetime) -> datetime | None:
        """The first matching time strictly after ``wall`` (both naive). None if there is none up to the year 9999."""
        year, month, day = wall.year, wall.month, wall.day
        days = self._days_in(year, month)
        if days >> day & 1:
            time = self._time_after(wall.hour, wall.minute, wall.second)
            if time is not None:
                return datetime(year, month, day, *time)
        later_this_month = days & (-2 << day)
        found = (year, month, _lowest(later_this_month)) if later_this_month else self._day_after_month(year, month)
        return found and datetime(*found, self.hours[0], self.minutes[0], self.seconds[0])

    def is_possible(self) -> bool:
        """Whether the calendar has any such day: there is no 30 February."""
        years = _GREGORIAN_CYCLE if self.years is None else self.years
        return any(self._days_in(year, month) for year in years for month in self.months)

    def _time_after(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        if hour in self.hours:
            if minute in self.minutes and (later := _above(self.seconds, second)) is not None:
                return hour, minute, later
            if (later := _above(self.minutes, minute)) is not None:
                return hour, later, self.seconds[0]
        if (later := _above(self.hours, hour)) is not None:
            return later, self.minutes[0], self.seconds[0]
        return None

    def _day_after_month(self, year: int, month: int) -> tuple[int, int, int] | None:
        for later_year, later_month in self._months_after(year, month):
            days = self._days_in(later_year, later_month)
            if days:
                return later_year, later_month, _lowest(days)
        return None

    def _months_after(self, year: int, month: int) -> Iterator[tuple[int, int]]:
        years = range(year, 10_000) if self.years is None else self.years[bisect_left(self.years, year) :]
        for later_year in years:
            for later_month in self.months:
                if later_year > year or later_month > month:
                    yield later_year, later_month

    def _days_in(self, year: int, month: int) -> int:
        if month not in self.months or (self.years is not None and year not in self.years):
            return 0
        shape = Month.of(year, month)
        by_month, by_week = self.days_of_month.in_month(shape), self.days_of_week.in_month(shape)
        both = by_month | by_week if self.either_day else by_month & by_week
        return both & (2 << shape.length) - 2


def _above(numbers: tuple[int, ...], number: int) -> int | None:
    index = bisect_right(numbers, number)
    return numbers[index] if index < len(numbers) else None


def _lowest(days: int) -> int:
    return (days & -days).bit_length() - 1


# -- daylight ----------------------------------------------------------------------------------------------------------
# Cron expressions where the clocks of a zone are put forward and back.
#
# The rules are those of cron(8) and crontab(5), which distinguish two kinds of jobs:
#
# *Wildcard jobs*, whose minute or hour starts with a star, follow elapsed time. They run at every instant at which the
# wall clock matches: ``*/10 * * * *`` runs 36 times in any six hours, also on the days of both changes. Times that the
# clock skips do not exist, times that it shows twice run twice.
#
# *Fixed-time jobs*, all others, run once for each written time. A job whose time is skipped runs at the first instant
# after the gap; several skipped times of one job are one run, because they are due at the same instant. A job whose
# time is shown twice runs at the first of the two.
#
# That holds for changes of less than three hours. A greater one, such as the day that Apia skipped in 2011, is no
# daylight saving but a correction: every job follows the new time at once. Skipped times do not run, times that are
# shown twice run twice.
#
# The result depends on the instant only, not on earlier runs: no state is kept between two calls, and the results
# increase in UTC.

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
