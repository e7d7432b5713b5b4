"""The part of the storage port that is about changes of the clock.

Two kinds of times are stored. ``at``, a cron rule and an expiry that is a datetime name a time of the wall clock. A
delay, the wait for a retry and an expiry in seconds are *elapsed* time: when the clock is set, the point in time that
they end at moves along. A row of a plain job says that its ``due_at`` is elapsed time by an ``offset_at``, the time
that it was counted from. The row of a schedule waits for elapsed time when a run of it waits for its retry,
and when its ``due_at`` is later than its ``offset_at``.

A storage has no clock. A process that notices a change reports it, and the storage keeps the sum of all changes, so
that several processes that notice one change apply it once (:mod:`jobify.engine.services.timekeeper`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from jobify.types import Microseconds

__all__ = ("ClockState", "Moved", "Timekeeping", "WaitingSchedule", "WrongEnds")


class ClockState(NamedTuple):
    """What the processes of a database have learned about the clock."""

    changes: Microseconds = 0
    """The sum of all changes that were applied to elapsed times."""
    trusted_at: Microseconds | None = None
    """A late time that is known to have been: nothing is deleted by a clock that is far beyond it. None: no time is."""
    doubted_at: Microseconds | None = None
    """The time that a clock showed which was far beyond that; None: there is no such doubt."""


class WaitingSchedule(NamedTuple):
    """The times of a schedule that waits."""

    id: str
    fence: int
    rule: str
    due_at: Microseconds
    offset_at: Microseconds | None
    started_at: Microseconds | None
    """When its last run began."""
    attempt: int
    """More than 0: a run has begun, and waits for its retry."""


class Moved(NamedTuple):
    """New times for a schedule, if it still waits as it was seen, by its fence."""

    id: str
    fence: int
    due_at: Microseconds
    offset_at: Microseconds


class WrongEnds(NamedTuple):
    """The ends of jobs between two times of a clock that was behind by ``change``."""

    since: Microseconds
    until: Microseconds
    change: Microseconds


class Timekeeping(Protocol):
    """What a storage does about the clock.

    Each call is atomic; those that write may be made in a ``transaction``.
    """

    def clock_state(self) -> ClockState:
        """What was kept last; of a new storage, zero and None."""
        ...

    def keep_clock_state(self, state: ClockState) -> None:
        """Keep what was learned about the clock."""
        ...

    def shift(self, change: Microseconds, *, since: Microseconds, now: Microseconds) -> None:
        """The clock was changed by so much: move all elapsed times of waiting jobs along, and those of rates: when the
        next start is due, and until when they are closed.

        Times that were counted from a moment between ``since`` and ``now`` are left alone: they were written after the
        change. Jobs that are ready stay so.
        """
        ...

    def waiting_schedules(self, *, due_after: Microseconds, after: str, limit: int) -> list[WaitingSchedule]:
        """Schedules that wait and are due after that time, paused ones included.

        A page of at most ``limit``, in order of id, from the first one after the id ``after``.
        """
        ...

    def schedules(self, ids: Sequence[str]) -> list[WaitingSchedule]:
        """Those of these jobs that are schedules and wait, in any order."""
        ...

    def move_schedules(self, moves: Sequence[Moved], *, now: Microseconds) -> int:
        """Give waiting schedules new times; returns how many were changed.

        A schedule that has changed since it was seen is left as it is.
        """
        ...

    def mend(self, *, now: Microseconds, until: Microseconds, limit: int) -> int:
        """Correct times that were written under a clock that was ahead.

        Delays that were counted from a time after ``until`` are counted from ``now``, and jobs that ended after
        ``until`` are kept as long as if they had ended ``now``. Considers the ``limit`` farthest times of each kind;
        returns how many were changed.
        """
        ...

    def keep_ended(self, ends: WrongEnds, *, limit: int) -> int:
        """Keep jobs longer that ended by a clock that was behind, if the right one would delete them at once.

        Those that ended from ``since`` to ``until`` and are to be deleted no later than ``until + change``: by
        ``change``, at most ``limit`` of them. Returns how many; made again, a call changes no job twice.
        """
        ...
