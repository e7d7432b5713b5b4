"""A query in SQL: among which jobs to look, and which of them match.

A crowd has an index. Within it, rows are read in order of id until the page is full, so a filter by task, queue, time
of creation or metadata costs by what it leaves out: on two cores 0.4 seconds per million rows, 0.8 with metadata. No
range of ids or of insertion bounds the times: ids may be chosen, a replacement is created later than its id, and
processes insert in another order than their clocks say. Only an index could, and every job would pay for it: the log of
a single insert grows by a fifth. People who look at lists pay less.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from jobify.model.records import JobQuery
from jobify.model.status import ACTIVE, TERMINAL, JobStatus
from jobify.storage.sqlite.statements import id_values, sql

__all__ = ("IndexScope", "filters_of", "index_scope", "page_of")

_RUNNING = frozenset({JobStatus.RUNNING.value})
_ENDED = frozenset(status.value for status in TERMINAL)
_LIVE = frozenset(ACTIVE)
_UNSUCCESSFUL = _ENDED - {JobStatus.SUCCESS.value}
_LARGEST = 2**63 - 1


class IndexScope(Enum):
    """Jobs that have an index of their own."""

    ANY = auto()
    LIVE = auto()
    """They have not ended: a million others lie between them."""
    RUNNING = auto()
    """A million waiting ones lie between them."""
    UNSUCCESSFUL = auto()
    """They have ended, and a million successes lie between them."""


def index_scope(query: JobQuery) -> IndexScope:
    """The smallest crowd in which everything is that the query asks for. (Schedules have an index beside these.)"""
    statuses = frozenset(query.statuses or ())
    if query.owner is not None:
        return IndexScope.RUNNING
    if not statuses or query.is_schedule is True:
        return IndexScope.ANY
    if statuses <= _LIVE:
        return IndexScope.RUNNING if statuses == _RUNNING else IndexScope.LIVE
    return IndexScope.UNSUCCESSFUL if statuses <= _UNSUCCESSFUL else IndexScope.ANY


def page_of(query: JobQuery) -> tuple[str, list[Any]]:
    """The condition for one page, with its parameters."""
    filters, values = filters_of(query)
    if query.after_id is None:
        return filters, values
    return f"{filters} AND id {'<' if query.is_newest_first else '>'} ?", [*values, query.after_id]


def filters_of(query: JobQuery) -> tuple[str, list[Any]]:
    """The condition for everything but paging, with its parameters."""
    conditions, values = ["1"], []
    for column, words in (("status", query.statuses), ("task", query.tasks), ("queue", query.queues)):
        if words is not None:
            size, padded = id_values(words)
            conditions.append(f"{column} IN ({', '.join('?' * size)})")
            values += padded
    if query.is_schedule is not None:
        conditions.append("rule IS NOT NULL" if query.is_schedule else "rule IS NULL")
    for condition, value in (
        ("is_dead = ?", query.is_dead),
        ("owner = ?", query.owner),
        ("created_at >= ?", query.created_after),
        ("created_at < ?", query.created_before),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    for key, wanted in query.metadata:
        conditions.append(sql("has_metadata"))
        values += (key, *_as_json(wanted))
    return " AND ".join(conditions), values


def _as_json(value: str | int | float | bool | None) -> tuple[str, str, Any]:
    """The types of JSON that can be equal to ``value``, and its value in SQL. A number may be written either way."""
    match value:
        case None:
            return "null", "null", None
        case bool():
            word = "true" if value else "false"
            return word, word, value
        case str():
            return "text", "text", value
        case _:
            return "integer", "real", value if -_LARGEST <= value <= _LARGEST else float(value)
