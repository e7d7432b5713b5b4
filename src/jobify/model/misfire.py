"""Policies for missed due times.

A due time is *missed* if it is past by more than a tolerance and its run has not begun, because no process was up or
the previous run took longer than the period. A policy says which missed due times still run::

    due times    ─┬────┬────┬────┬────┬─▶      now is behind the fourth; the first four were missed
                  1    2    3    4  ^ 5
    ALL           1    2    3    4    5        one after the other
    ONCE                         4    5        one run, due at the last of them, for all
    SKIP                              5
    GRACE(d)                3    4    5        those that are at most d old, as with ALL

:func:`plan` is a pure function of the time and a function that finds the next due time. A schedule stores only one due
time, so a plan that is made again after a crash is the same plan or a later one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.types import Microseconds

__all__ = (
    "TOLERANCE",
    "GracePolicy",
    "MisfirePolicy",
    "Missed",
    "NextDue",
    "Plan",
    "plan",
    "plan_after",
    "search_from",
)

TOLERANCE: Final[Microseconds] = 1_000_000
"""A run that begins at most one second after its due time is on time."""

SET_BACK: Final[Microseconds] = 10_000_000
"""A clock that is set back by at most ten seconds, as by a time server, repeats no run."""

COUNTED: Final = 100
"""The most missed due times that are counted one by one, because an every-second cron has 31 million in a year."""

NextDue: TypeAlias = Callable[[Microseconds], Microseconds | None]
"""The first due time strictly after the given time. None if there is none. Must be increasing."""

_MICROSECOND = timedelta(microseconds=1)


class _Grace(NamedTuple):
    value: timedelta


class GracePolicy(_Grace):
    """Run due times that were missed by at most ``value``; see :meth:`MisfirePolicy.GRACE`.

    Raises:
        ConfigurationError: ``value`` is negative or no timedelta.
    """

    __slots__ = ()

    def __new__(cls, value: timedelta) -> GracePolicy:
        if not isinstance(value, timedelta):
            raise ConfigurationError(
                f"A grace period is a timedelta, not {value!r}. Write MisfirePolicy.GRACE(timedelta(minutes=5))."
            )
        if value < timedelta():
            raise ConfigurationError(f"A grace period cannot be negative, as {value} is. Use a positive timedelta.")
        return super().__new__(cls, value)


class MisfirePolicy(StrEnum):
    """Which missed due times of a cron job still run. A job's default is ONCE."""

    ALL = "all"
    """All of them, in order, one after the other."""
    SKIP = "skip"
    """None of them; wait for the next due time."""
    ONCE = "once"
    """One run for all of them, now."""

    @staticmethod
    def GRACE(value: timedelta) -> GracePolicy:
        """Those that are at most ``value`` old, in order; older ones are skipped."""
        return GracePolicy(value)


@dataclass(frozen=True, slots=True)
class Missed:
    """Due times that will not run: ``count`` of them from ``first`` to ``last``.

    ``is_exact`` is False if counting stopped early: there are more than ``count``, and both ends are still right.
    """

    count: int
    first: Microseconds
    last: Microseconds
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """The next due time to run, which may be past (run now) or None (there is none), and the skipped ones."""

    run_at: Microseconds | None
    skipped: Missed | None = None


def plan(
    policy: MisfirePolicy | GracePolicy,
    due: Microseconds,
    *,
    now: Microseconds,
    next_due: NextDue,
    tolerance: Microseconds = TOLERANCE,
) -> Plan:
    """Decide whether ``due``, the first due time that has not run, runs, or which later one does.

    Due times in ``plan.skipped`` never run. If ``plan.run_at`` is not after ``now``, it runs now.

    >>> every_minute = lambda at: at // 60_000_000 * 60_000_000 + 60_000_000
    >>> plan(MisfirePolicy.SKIP, 60_000_000, now=200_000_000, next_due=every_minute)
    Plan(run_at=240000000, skipped=Missed(count=3, first=60000000, last=180000000, is_exact=True))
    """
    if due >= now - tolerance:
        return Plan(due)
    oldest = _oldest_to_run(policy, due, now=now, next_due=next_due, tolerance=tolerance)
    if due >= oldest:
        return Plan(due)
    skipped = _missed(due, before=oldest, next_due=next_due)
    return Plan(next_due(skipped.last), skipped)


def plan_after(policy: MisfirePolicy | GracePolicy, ran: Microseconds, *, now: Microseconds, next_due: NextDue) -> Plan:
    """Decide which due time follows the run that was due at ``ran`` and has just ended.

    There is no tolerance here: a due time that passed during the run was missed, so that SKIP always waits for a due
    time in the future.
    """
    due = next_due(ran)
    return Plan(None) if due is None else plan(policy, due, now=now, next_due=next_due, tolerance=0)


def search_from(ran: Microseconds, *, now: Microseconds) -> Microseconds:
    """The time after which to find the next due time: ``ran``, or ``now`` if the clock was set back since that run.

    A run in the future ran under another clock, and the next due time after it may be years ahead. If it is at most
    :data:`SET_BACK` ahead, waiting is better than running once more; else the schedule goes on from ``now``.
    """
    return ran if ran - now <= SET_BACK else now


def _oldest_to_run(
    policy: MisfirePolicy | GracePolicy,
    due: Microseconds,
    *,
    now: Microseconds,
    next_due: NextDue,
    tolerance: Microseconds,
) -> Microseconds:
    if isinstance(policy, GracePolicy):
        return now - max(policy.value // _MICROSECOND, tolerance)
    if policy is MisfirePolicy.ALL:
        return due
    if policy is MisfirePolicy.ONCE:
        return _last_due(due, until=now, next_due=next_due)
    return now - tolerance


def _missed(first: Microseconds, *, before: Microseconds, next_due: NextDue) -> Missed:
    """The due times from ``first`` (included) that are earlier than ``before``."""
    last = first
    for count in range(1, COUNTED + 1):
        due = next_due(last)
        if due is None or due >= before:
            return Missed(count, first, last)
        last = due
    return Missed(COUNTED, first, _last_due(last, until=before - 1, next_due=next_due), is_exact=False)


def _last_due(due: Microseconds, *, until: Microseconds, next_due: NextDue) -> Microseconds:
    """The last due time not after ``until``, by bisection from ``due``: 50 calls for a year, for any period."""
    end = until
    while due < end:
        middle = (due + end) // 2
        later = next_due(middle)
        if later is None or later > until:
            end = middle
        else:
            due = later
    return due
