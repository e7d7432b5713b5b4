"""Rows and changes of the clock. See :mod:`jobify.storage.timekeeping`."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.storage.sql.statements import Statements
from jobify.storage.timekeeping import ClockState, Moved, WaitingSchedule, WrongEnds
from jobify.types import Microseconds

__all__ = ("Times",)


class Times:
    """A change of the clock is rare: its statements read all rows that wait, and need no index of their own."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def clock_state(self) -> ClockState:
        return ClockState(*self._statements.read("clock_state")[0])

    def keep_clock_state(self, state: ClockState) -> None:
        self._statements.run("keep_clock_state", *state)

    def shift(self, change: Microseconds, *, since: Microseconds, now: Microseconds) -> None:
        with self._statements.atomic():
            self._statements.run("shift_delays", change, change, since, now)
            self._statements.run("shift_expiries", change, since, now)
            self._statements.run("shift_successors", change, change, since, now)
            self._statements.run("shift_gates", change, since, now)

    def waiting_schedules(self, *, due_after: Microseconds, after: str, limit: int) -> list[WaitingSchedule]:
        return [WaitingSchedule(*row) for row in self._statements.read("waiting_schedules", due_after, after, limit)]

    def schedules(self, ids: Sequence[str]) -> list[WaitingSchedule]:
        return [WaitingSchedule(*row) for row in self._statements.rows_for("schedules", ids)]

    def move_schedules(self, moves: Sequence[Moved], *, now: Microseconds) -> int:
        with self._statements.atomic():
            return self._statements.run_rows("move_schedules", moves, now)

    def mend(self, *, now: Microseconds, until: Microseconds, limit: int) -> int:
        with self._statements.atomic():
            mended = self._statements.run("mend_delays", now, now, limit, until)
            return mended + self._statements.run("mend_retention", now, limit, until)

    def keep_ended(self, ends: WrongEnds, *, limit: int) -> int:
        since, until, change = ends
        return self._statements.run("keep_ended", change, since, until + change, since, until, limit)
