"""Cron expressions, and the instants that they match.

Fields, separated by blanks::

    minute hour day-of-month month day-of-week                        5 fields
    minute hour day-of-month month day-of-week year                   6: a year at the end
    second minute hour day-of-month month day-of-week year            7: seconds in front, a year at the end

================  ======================  ==========================================================================
field             values                  also
================  ======================  ==========================================================================
second, minute    0-59
hour              0-23
day of month      1-31                    ``L`` last day, ``LW`` last working day, ``15W`` working day nearest to it
month             1-12, JAN-DEC
day of week       0-7 (0, 7: Sunday),     ``FRI#2`` or ``5#2`` second Friday, ``5L``, ``L5`` or ``FRIL`` last Friday
                  SUN-SAT
year              1970-9999
================  ======================  ==========================================================================

In every field: ``*`` all, ``1,5`` a list, ``9-17`` a range, ``22-4`` and ``FRI-MON`` ranges that wrap around, ``*/10``,
``9-17/2`` and ``5/15`` steps (the last: from 5 to the end of the field). ``?`` is ``*`` in the two day fields. Capitals
do not matter. Whole expressions: ``@yearly @annually @monthly @weekly @daily @midnight @hourly``.

If neither day-of-month nor day-of-week starts with a star, a day that matches one of them is enough; otherwise it must
match both (crontab(5)). ``31W`` leaves out the months that have no such day, and "nearest" never leaves the month.

Daylight saving is described in :mod:`jobify.crontab.pattern`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias, runtime_checkable

from jobify.crontab.fields import parse
from jobify.crontab.pattern import Pattern, next_in_zone
from jobify.exceptions import InvalidCronError

__all__ = ("CronFactory", "CronParser", "Crontab", "create_crontab")


@runtime_checkable
class CronParser(Protocol):
    """A parsed expression: the protocol that a custom parser must implement.

    A call must not change it, because one parser serves many schedules and threads.
    """

    def next_run(self, *, now: datetime) -> datetime | None:
        """The first run strictly after ``now``; an aware ``now`` gives an aware result in the same zone.

        None if there is no further run, as with a year that is over: the schedule ends then.
        """
        ...


CronFactory: TypeAlias = Callable[[str], CronParser]
"""``factory(expression)`` parses an expression, or raises ValueError. The type of ``Jobify(cron_factory=...)``."""


@dataclass(frozen=True, slots=True)
class Crontab:
    """A parsed expression; make it with :func:`create_crontab`. Immutable, so it can be shared freely."""

    expression: str
    _pattern: Pattern = field(repr=False)

    def next_run(self, *, now: datetime) -> datetime | None:
        """The first run strictly after ``now``, in the zone of ``now``. None if there is none.

        A naive ``now`` is a time on a clock without daylight saving, and so is the result.
        """
        if now.tzinfo is None:
            return self._pattern.after(now)
        return next_in_zone(self._pattern, now, now.tzinfo)


def create_crontab(expression: str) -> Crontab:
    """Parse a cron expression; the default ``cron_factory`` of an app.

    >>> from datetime import datetime
    >>> create_crontab("30 9 * * MON-FRI").next_run(now=datetime(2026, 1, 2, 12, 0))
    datetime.datetime(2026, 1, 5, 9, 30)

    Raises:
        InvalidCronError: (a ValueError) the expression is malformed or can never match; ``field`` names the part.
    """
    if not isinstance(expression, str):
        raise InvalidCronError(repr(expression), "it is not text. Write it like '*/5 * * * *'.")
    return Crontab(expression, parse(expression))
