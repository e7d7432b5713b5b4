"""How jobs end without having run to their end, and how they go: cancel, expire, delete, purge, trim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jobify.model.records import CancelResult, CountKey, Expired
from jobify.storage.memory import rows
from jobify.storage.memory.dependencies import Dependencies
from jobify.storage.memory.listing import tally
from jobify.storage.memory.needs import is_needed, without_needed
from jobify.storage.memory.rows import RUNNING, SCHEDULED, PendingCancel, Row
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("cancel", "count_purgeable", "delete", "expire", "purge", "trim")


def cancel(table: Table, jobs: Dependencies, ids: Iterable[str], how: PendingCancel) -> dict[str, CancelResult]:
    """What it met, by id. A job that is named is cancelled for this reason, also where its parent is named, too."""
    met: dict[str, CancelResult] = {}
    ended: list[Row] = []
    for id in dict.fromkeys(ids):
        row = table.find(id)
        if row is None:
            met[id] = CancelResult.MISSING
        elif row.record.status == SCHEDULED:
            ended.append(rows.cancelled(row, how))
            met[id] = CancelResult.CANCELLED
        elif row.record.status == RUNNING:
            record = row.record._replace(is_cancel_requested=True, has_successor=False)
            table.upsert(row._replace(record=record, cancel=how, successor=None))
            met[id] = CancelResult.REQUESTED
        else:
            met[id] = CancelResult.ENDED
    jobs.end(ended)
    return met


def expire(
    table: Table, jobs: Dependencies, *, now: Microseconds, limit: int, delete_at: Microseconds | None
) -> list[Expired]:
    """Those whose time is over. The longest overdue come first."""
    overdue: list[Row] = []
    while len(overdue) < limit and (row := table.expiring.first()) is not None:
        if row.record.expires_at is None or row.record.expires_at > now:
            break
        overdue.append(table.expiring.take())
    jobs.end(rows.expired(row, now=now, delete_at=delete_at) for row in overdue)
    found = (row.record for row in overdue)
    return [Expired(job.id, job.task, job.origin, job.queue, job.attempt) for job in found]


def delete(
    table: Table, jobs: Dependencies, ids: Iterable[str], *, now: Microseconds, delete_at: Microseconds | None
) -> int:
    """How many there were."""
    found = filter(None, map(table.find, dict.fromkeys(ids)))
    victims = [row.record.id for row in without_needed(table, (row for row in found if row.record.status != RUNNING))]
    for row in filter(None, map(table.find, victims)):  # by now it may have been cancelled with its parent
        jobs.delete(row, now=now, delete_at=delete_at)
    return len(victims)


def purge(table: Table, *, now: Microseconds, limit: int) -> int:
    """How many had come to their end, and were not needed; of those that were, by others that went here."""
    deleted = 0
    while fresh := _purge(table, now, limit - deleted):
        deleted += fresh
    return deleted


def _purge(table: Table, now: Microseconds, limit: int) -> int:
    needed: list[Row] = []
    deleted = 0
    while deleted < limit and (row := table.purgeable.first()) is not None and _is_over(row, now):
        if is_needed(row, table.numbered):
            needed.append(table.purgeable.take())
        else:
            table.remove(row)
            deleted += 1
    for row in needed:
        table.purgeable.put_back(row)
    return deleted


def count_purgeable(table: Table, now: Microseconds) -> Mapping[CountKey, int]:
    """How many of each kind ``purge`` would find first."""
    find = table.committed_finder()
    return tally(row.record for row in table.committed() if _is_over(row, now) and not is_needed(row, find))


def _is_over(row: Row, now: Microseconds) -> bool:
    return row.record.delete_at is not None and row.record.delete_at <= now


def trim(table: Table, *, keep: int, limit: int) -> int:
    """How many lines went."""
    left = limit
    for row in table.schedules():
        excess = min(len(row.history) - keep, left)
        if excess > 0:
            table.upsert(row._replace(history=row.history[excess:]))
            left -= excess
    for row in table.schedules():
        excess = min(len(row.messages) - max(keep, 1), left)
        if excess > 0:
            table.upsert(row._replace(messages=row.messages[excess:]))
            left -= excess
    return limit - left
