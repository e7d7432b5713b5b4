"""What happens to due times that were missed.

A due time is *missed* when it lies in the past by more than a tolerance and its run has not begun: no process was up,
or the run before it took longer than the period. A policy says which of the missed still run::

    due times    ─┬────┬────┬────┬────┬─▶      now is behind the fourth; the first four were missed
                  1    2    3    4  ^ 5
    ALL           1    2    3    4    5        one after the other
    ONCE                         4    5        one run, due at the last of them, stands for all
    SKIP                              5
    GRACE(d)                3    4    5        those that are at most d old, as with ALL

:func:`plan` is pure, and so is what it needs: the time and a function that finds the next due time. A schedule
remembers one due time and nothing else, so a plan that is made again after a crash is the same plan or a later one.
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
    "reckoned_from",
)

TOLERANCE: Final[Microseconds] = 1_000_000
"""A run that begins at most a second after its due time is on time."""

SET_BACK: Final[Microseconds] = 10_000_000
"""A clock that is set back by at most ten seconds, as a time server does, repeats no run."""

COUNTED: Final = 100
"""So many missed due times are counted one by one; an every-second cron that was down for a year has 31 million."""

NextDue: TypeAlias = Callable[[Microseconds], Microseconds | None]
"""The first due time strictly after the given time, or None when there is none any more. Must ascend."""

_MICROSECOND = timedelta(microseconds=1)


class _Grace(NamedTuple):
    value: timedelta


class GracePolicy(_Grace):
    """Run what was missed by no more than ``value``; see :meth:`MisfirePolicy.GRACE`.

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
    """Each of them, in order, one after the other."""
    SKIP = "skip"
    """None; wait for the next due time."""
    ONCE = "once"
    """One run, at once, for all of them together."""

    @staticmethod
    def GRACE(value: timedelta) -> GracePolicy:
        """Those not older than ``value``, in order; older ones are skipped."""
        return GracePolicy(value)


@dataclass(frozen=True, slots=True)
class Missed:
    """Due times that will not run: ``count`` of them from ``first`` to ``last``.

    ``is_exact`` is False where counting stopped early: there are more than ``count``, and the ends are still right.
    """

    count: int
    first: Microseconds
    last: Microseconds
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """The due time to run next, which may be past (run it now), or None when there is none; and what is left out."""

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
    """Decide about ``due``, the first due time that has not run: run it, or move on to which?

    Due times in ``plan.skipped`` never run. If ``plan.run_at`` is not after ``now``, it is to run at once.

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
    """Decide what follows the run that was due at ``ran`` and has just ended.

    There is no tolerance here: a due time that passed while the job ran was missed, however short ago, so that SKIP
    always waits for a due time that is still to come.
    """
    due = next_due(ran)
    return Plan(None) if due is None else plan(policy, due, now=now, next_due=next_due, tolerance=0)


def reckoned_from(ran: Microseconds, *, now: Microseconds) -> Microseconds:
    """From when the due time after a run at ``ran`` is to be found: from then, unless the clock was set back since.

    A run that lies in the future ran under another clock. What follows it would come at its time by that clock, which
    may be in years. If it is no more than :data:`SET_BACK` ahead, waiting for it is better than to run once more; else
    the schedule goes on from ``now``.
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
    """The due times from ``first`` on that are earlier than ``before``; ``first`` is one of them."""
    last = first
    for count in range(1, COUNTED + 1):
        due = next_due(last)
        if due is None or due >= before:
            return Missed(count, first, last)
        last = due
    return Missed(COUNTED, first, _last_due(last, until=before - 1, next_due=next_due), is_exact=False)


def _last_due(due: Microseconds, *, until: Microseconds, next_due: NextDue) -> Microseconds:
    """The last due time not after ``until``, given one, by bisection: 50 questions for a year, whatever the period."""
    end = until
    while due < end:
        middle = (due + end) // 2
        later = next_due(middle)
        if later is None or later > until:
            end = middle
        else:
            due = later
    return due
