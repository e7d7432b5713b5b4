"""Questions: get, find, count, attempts. Asked on the reading connection, from any thread."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jobify.records import AttemptRecord, JobQuery, JobRecord
from jobify.status import ENDED, JobStatus
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import listed, records_of
from jobify.storage.sqlite.statements import chunks, id_values, sql

__all__ = ("Reads",)

_RUNNING = (JobStatus.RUNNING.value,)
_LIVE = frozenset(status.value for status in JobStatus) - frozenset(status.value for status in ENDED)


class Reads:
    """The reading calls of :class:`jobify.storage.base.Storage`, owners apart."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        records: list[JobRecord] = []
        for some in chunks(list(dict.fromkeys(ids))):
            records += self._get(some)
        return records

    def _get(self, ids: Sequence[str]) -> list[JobRecord]:
        size, values = id_values(ids)
        try:
            return records_of(*self._database.read(sql("get", ids=size), values))
        except sqlite3.DataError:  # a gigabyte in one answer is too much: ask for less
            if len(ids) == 1:
                raise
            half = len(ids) // 2
            return self._get(ids[:half]) + self._get(ids[half:])

    def find(self, query: JobQuery) -> list[JobRecord]:
        filters, values = _filters(query)
        if query.after_id is not None:
            filters, values = f"{filters} AND id > ?", [*values, query.after_id]
        statement = sql(_finder(query), filters=filters)
        try:
            return records_of(*self._database.read(statement, [*values, max(query.limit, 0)]))
        except sqlite3.DataError:
            if query.limit <= 1:
                raise
            return self._find_in_halves(query)

    def _find_in_halves(self, query: JobQuery) -> list[JobRecord]:
        half = query.limit // 2
        first = self.find(query._replace(limit=half))
        if len(first) < half:
            return first
        return first + self.find(query._replace(limit=query.limit - half, after_id=first[-1].id))

    def count(self, query: JobQuery) -> Mapping[tuple[str, str, str], int]:
        filters, values = _filters(query)
        if _is_live(query):
            statement, values = sql("count_live", filters=filters), values * 3
        else:
            statement = sql("count", filters=filters)
        counts: Counter[tuple[str, str, str]] = Counter()
        for task, queue, status, number in listed(self._database.read(statement, values)[0]):
            counts[task, queue, status] += number
        return counts

    def attempts(self, id: str) -> list[AttemptRecord]:
        return [AttemptRecord._make(row) for row in listed(self._database.read(sql("attempts"), (id,))[0])]


def _is_live(query: JobQuery) -> bool:
    """Whether the indexes of jobs that have not ended serve best. (Schedules have an index of their own.)"""
    return bool(query.statuses) and _LIVE.issuperset(query.statuses or ()) and query.is_schedule is not True


def _finder(query: JobQuery) -> str:
    """The statement that finds with the least reading."""
    if not _is_live(query):
        return "find"
    return "find_running" if query.statuses == _RUNNING else "find_live"


def _filters(query: JobQuery) -> tuple[str, list[Any]]:
    """The condition for everything but paging, with its parameters."""
    conditions, values = ["1"], []
    for column, words in (("status", query.statuses), ("task", query.tasks), ("queue", query.queues)):
        if words is not None:
            size, padded = id_values(words)
            conditions.append(f"{column} IN ({', '.join('?' * size)})")
            values += padded
    if query.is_schedule is not None:
        conditions.append("rule IS NOT NULL" if query.is_schedule else "rule IS NULL")
    return " AND ".join(conditions), values
