"""What cron does, told a second time and with other means than ``jobify.crontab``: slow, plain, minute by minute.

``matcher`` reads an expression by asking for each value whether it is meant. ``clock`` ticks through UTC and keeps, as
Vixie's cron does, a *virtual* minute: it is caught up with when the clock on the wall jumps forward, and waited for
when that goes back. ``daemon`` puts the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import NamedTuple

from jobify.crontab import CronParser

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
_THREE_HOURS = 180
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def meant(item: str, low: int, high: int) -> set[int]:
    """The values of one item without special days, walking from its start to its end, around the corner if need be."""
    span, _, step = item.partition("/")
    if span in ("*", "?"):
        start, end = low, high
    elif "-" in span:
        start, end = (int(part) for part in span.split("-"))
    else:
        start, end = int(span), high if step else int(span)
    walk = [start]
    while walk[-1] != end:
        walk.append(low if walk[-1] == high else walk[-1] + 1)
    return {value for index, value in enumerate(walk) if index % int(step or 1) == 0}


def field(text: str, low: int, high: int) -> set[int]:
    return set().union(*(meant(item, low, high) for item in text.split(",")))


def is_day_of_month(text: str, day: date) -> bool:
    return any(_is_day_of_month(item, day) for item in text.split(","))


def _is_day_of_month(item: str, day: date) -> bool:
    month = [day.replace(day=1) + number * DAY for number in range(31)]
    month = [other for other in month if other.month == day.month]
    working_days = [other for other in month if other.isoweekday() <= 5]
    if item == "L":
        return day == month[-1]
    if item == "LW":
        return day == working_days[-1]
    if item.endswith("W"):
        wanted = int(item[:-1])
        return wanted <= len(month) and day == min(working_days, key=lambda other: abs(other.day - wanted))
    return day.day in meant(item, 1, 31)


def is_day_of_week(text: str, day: date) -> bool:
    return any(_is_day_of_week(item, day) for item in text.split(","))


def _is_day_of_week(item: str, day: date) -> bool:
    for number, name in enumerate(_DAYS):
        item = item.replace(name, str(number))
    weekday = day.isoweekday() % 7
    if "#" in item:
        wanted, nth = item.split("#")
        return (
            weekday == int(wanted) % 7
            and (day - 7 * (int(nth) - 1) * DAY).month == day.month
            and (day - 7 * int(nth) * DAY).month != day.month
        )
    if "L" in item:
        return weekday == int(item.replace("L", "")) % 7 and (day + 7 * DAY).month != day.month
    span, _, step = item.partition("/")
    start, _, end = (span if span not in ("*", "?") else "0-6").partition("-")
    first = int(start)
    if not end:
        first %= 7
    final = int(end) if end else (6 if step else first)
    return weekday in {value % 7 for value in range(first, final + (7 if final < first else 0) + 1, int(step or 1))}


def is_day(expression: str, day: date) -> bool:
    """Whether a five-field expression runs on ``day``."""
    _, _, in_month, months, in_week = expression.split()
    for number, name in enumerate(_MONTHS, 1):
        months = months.replace(name, str(number))
    if day.month not in field(months, 1, 12):
        return False
    by_month, by_week = is_day_of_month(in_month, day), is_day_of_week(in_week, day)
    is_either = not in_month.startswith(("*", "?")) and not in_week.startswith(("*", "?"))
    return (by_month or by_week) if is_either else (by_month and by_week)


class Matcher(NamedTuple):
    matches: Callable[[datetime], bool]
    is_wildcard: bool


def matcher(expression: str) -> Matcher:
    """A five-field expression as a question to ask of every minute on the wall."""
    minute, hour, *_ = expression.split()
    minutes, hours = field(minute, 0, 59), field(hour, 0, 23)
    days: dict[date, bool] = {}

    def matches(wall: datetime) -> bool:
        if wall.minute not in minutes or wall.hour not in hours:
            return False
        day = wall.date()
        if day not in days:
            days[day] = is_day(expression, day)
        return days[day]

    return Matcher(matches, minute.startswith("*") or hour.startswith("*"))


class Tick(NamedTuple):
    """One minute of UTC: what the wall shows, and which minutes of the wall it stands for."""

    at: datetime
    wall: datetime
    caught_up: list[datetime]
    """For fixed-time jobs: the minutes of the wall that are due now; none while the wall repeats itself."""


def clock(zone: tzinfo, start: datetime, end: datetime) -> list[Tick]:
    """Let cron's clock tick from ``start`` to ``end`` (UTC)."""
    virtual = _wall(start - MINUTE, zone)
    ticks = []
    at = start
    while at < end:
        wall = _wall(at, zone)
        shift = (wall - virtual) // MINUTE - 1
        if abs(shift) >= _THREE_HOURS:
            due, virtual = [wall], wall
        elif shift >= 0:
            due, virtual = [virtual + (number + 1) * MINUTE for number in range(shift + 1)], wall
        else:
            due = []
        ticks.append(Tick(at, wall, due))
        at += MINUTE
    return ticks


def daemon(expression: str, ticks: list[Tick]) -> list[datetime]:
    """The minutes of UTC at which cron runs the job."""
    job = matcher(expression)
    if job.is_wildcard:
        return [tick.at for tick in ticks if job.matches(tick.wall)]
    return [tick.at for tick in ticks if any(map(job.matches, tick.caught_up))]


def runs(parser: CronParser, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """What a parser answers, asked again and again."""
    moment = after.astimezone(zone)
    while (found := parser.next_run(now=moment)) is not None:
        assert found.tzinfo is zone
        yield found
        moment = found


def runs_between(parser: CronParser, start: datetime, end: datetime, zone: tzinfo) -> list[datetime]:
    """The runs in UTC from ``start`` on and before ``end``."""
    found = (run.astimezone(UTC) for run in runs(parser, start - timedelta(microseconds=1), zone))
    return list(takewhile(lambda run: run < end, found))


def _wall(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)
