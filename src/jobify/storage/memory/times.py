"""Rows and changes of the clock. See :mod:`jobify.storage.timekeeping`."""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from jobify.model.records import JobRecord, NewJob
from jobify.storage.memory import limits
from jobify.storage.memory.gate_transitions import past_gate
from jobify.storage.memory.rows import SCHEDULED, Row
from jobify.storage.memory.table import Table
from jobify.storage.timekeeping import ClockState, Moved, WaitingSchedule, WrongEnds
from jobify.types import Microseconds

__all__ = ("Times",)


class Times:
    """A change of the clock is rare: it reads all rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def clock_state(self) -> ClockState:
        return self._table.committed_side().clock

    def keep_clock_state(self, state: ClockState) -> None:
        with self._table as table:
            table.side = table.side._replace(clock=state)

    def shift(self, change: Microseconds, *, since: Microseconds, now: Microseconds) -> None:
        with self._table as table:
            for row in table.committed():
                shifted = _shifted(row, change, since, now)
                if shifted is not row:
                    table.upsert(shifted)
            limits.shift(table, change, since, now)

    def waiting_schedules(self, *, due_after: Microseconds, after: str, limit: int) -> list[WaitingSchedule]:
        found = (_schedule(row.record) for row in self._table.committed())
        late = (schedule for schedule in found if schedule is not None and schedule.due_at > due_after)
        return heapq.nsmallest(limit, (schedule for schedule in late if schedule.id > after))

    def schedules(self, ids: Sequence[str]) -> list[WaitingSchedule]:
        found = (_schedule(row.record) for row in self._table.committed(dict.fromkeys(ids)))
        return [schedule for schedule in found if schedule is not None]

    def move_schedules(self, moves: Sequence[Moved], *, now: Microseconds) -> int:
        with self._table as table:
            return sum(_reschedule(table, move, now) for move in moves)

    def mend(self, *, now: Microseconds, until: Microseconds, limit: int) -> int:
        with self._table as table:
            rows = table.committed()
            mended = [*_mended_delays(rows, now, until, limit), *_mended_retention(rows, now, until, limit)]
            for row in mended:
                table.upsert(row)
        return len(mended)

    def keep_ended(self, ends: WrongEnds, *, limit: int) -> int:
        with self._table as table:
            found = list(islice((row for row in table.committed() if _would_be_deleted(row.record, ends)), limit))
            for row in found:
                assert row.record.delete_at is not None
                table.upsert(_changed(row, delete_at=row.record.delete_at + ends.change))
        return len(found)


def _would_be_deleted(record: JobRecord, ends: WrongEnds) -> bool:
    """Whether it ended by the wrong clock, and the right one would delete it at once."""
    if record.finished_at is None or record.delete_at is None:
        return False
    return ends.since <= record.finished_at <= ends.until and record.delete_at <= ends.until + ends.change


def _changed(row: Row, **fields: Any) -> Row:
    return row._replace(record=row.record._replace(**fields))


def _shifted(row: Row, change: Microseconds, since: Microseconds, now: Microseconds) -> Row:
    record = row.record
    if row.successor is not None:
        row = row._replace(successor=(_shifted_successor(row.successor[0], change, since, now), row.successor[1]))
    if record.status != SCHEDULED:
        return row
    start = _start_of_wait(record)
    if not record.ready and start is not None and not since <= start <= now:
        offset_at = (
            record.offset_at if record.rule is not None or record.offset_at is None else record.offset_at + change
        )
        row = _changed(row, due_at=record.due_at + change, offset_at=offset_at, fence=record.fence + 1)
    if record.expires_at is not None and not since <= record.created_at <= now and _is_expiry_elapsed(record.options):
        row = _changed(past_gate(row), expires_at=record.expires_at + change, fence=row.record.fence + 1)
    return row


def _start_of_wait(record: JobRecord) -> Microseconds | None:
    """From when the elapsed time was counted that this row waits for, or earlier; None: it waits for none."""
    if record.rule is None:
        return record.offset_at
    if record.attempt == 0 and record.due_at <= (record.offset_at or record.due_at):
        return None
    return record.created_at if record.started_at is None else record.started_at


def _shifted_successor(job: NewJob, change: Microseconds, since: Microseconds, now: Microseconds) -> NewJob:
    if job.rule is not None or job.ready or job.offset_at is None or since <= job.offset_at <= now:
        return job
    return job._replace(due_at=job.due_at + change, offset_at=job.offset_at + change)


def _is_expiry_elapsed(options: str | None) -> bool:
    try:
        return isinstance(options, str) and json.loads(options).get("expires") is not None
    except (ValueError, AttributeError):
        return False


def _schedule(record: JobRecord) -> WaitingSchedule | None:
    if record.rule is None or record.status != SCHEDULED:
        return None
    return WaitingSchedule(
        record.id, record.fence, record.rule, record.due_at, record.offset_at, record.started_at, record.attempt
    )


def _reschedule(table: Table, move: Moved, now: Microseconds) -> bool:
    row = table.find(move.id)
    if row is None or row.record.status != SCHEDULED or row.record.fence != move.fence:
        return False
    ready = move.due_at <= now
    row = _changed(past_gate(row), due_at=move.due_at, offset_at=move.offset_at, ready=ready, fence=move.fence + 1)
    table.upsert(row)
    return True


def _mended_delays(rows: list[Row], now: Microseconds, until: Microseconds, limit: int) -> list[Row]:
    staged = [
        row for row in rows if row.record.status == SCHEDULED and not row.record.ready and not row.record.blockers
    ]
    return [
        _changed(row, due_at=now + record.due_at - record.offset_at, offset_at=now, fence=record.fence + 1)
        for row in heapq.nlargest(limit, staged, key=lambda row: row.record.due_at)
        for record in (row.record,)
        if record.rule is None and record.offset_at is not None and record.offset_at > until
    ]


def _mended_retention(rows: list[Row], now: Microseconds, until: Microseconds, limit: int) -> list[Row]:
    ended = [row for row in rows if row.record.delete_at is not None]
    return [
        _changed(row, delete_at=now + record.delete_at - record.finished_at)
        for row in heapq.nlargest(limit, ended, key=lambda row: row.record.delete_at or 0)
        for record in (row.record,)
        if record.finished_at is not None and record.delete_at is not None
        if record.delete_at >= record.finished_at > until
    ]
