"""Rows and changes of the clock. See :mod:`jobify.storage.timekeeping`."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.statements import chunks, decode_rows, row_values, rows_for, sql
from jobify.storage.timekeeping import ClockState, Moved, WaitingSchedule, WrongEnds
from jobify.types import Microseconds

__all__ = ("Times",)


class Times:
    """A change of the clock is rare: its statements read all rows that wait, and need no index of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def clock_state(self) -> ClockState:
        return ClockState(*decode_rows(self._database.read(sql("clock_state"))[0]))

    def keep_clock_state(self, state: ClockState) -> None:
        self._database.write(sql("keep_clock_state"), state)

    def shift(self, change: Microseconds, *, since: Microseconds, now: Microseconds) -> None:
        with self._database.atomic():
            self._database.write(sql("shift_delays"), (change, change, since, now))
            self._database.write(sql("shift_expiries"), (change, since, now))
            self._database.write(sql("shift_successors"), (change, change, since, now))

    def waiting_schedules(self, *, due_after: Microseconds, after: str, limit: int) -> list[WaitingSchedule]:
        rows = decode_rows(self._database.read(sql("waiting_schedules"), (due_after, after, limit))[0])
        return [WaitingSchedule(*row) for row in rows]

    def schedules(self, ids: Sequence[str]) -> list[WaitingSchedule]:
        return [WaitingSchedule(*row) for row in rows_for(self._database, "schedules", ids)]

    def move_schedules(self, moves: Sequence[Moved], *, now: Microseconds) -> int:
        changed = 0
        with self._database.atomic():
            for some in chunks(moves):
                size, values = row_values(some)
                changed += self._database.write(sql("move_schedules", rows=size), [now, *values])
        return changed

    def mend(self, *, now: Microseconds, until: Microseconds, limit: int) -> int:
        with self._database.atomic():
            mended = self._database.write(sql("mend_delays"), (now, now, limit, until))
            return mended + self._database.write(sql("mend_retention"), (now, limit, until))

    def keep_ended(self, ends: WrongEnds, *, limit: int) -> int:
        since, until, change = ends
        return self._database.write(sql("keep_ended"), (change, since, until + change, since, until, limit))
