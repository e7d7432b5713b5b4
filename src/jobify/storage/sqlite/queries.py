"""Reading, from any thread, on the reading connection.

A query of jobs is answered from the smallest index that holds all that it asks for (``IndexScope``). Within that
index, rows are read in order of id until the page is full, so a filter by task, queue or metadata costs a look at each
row that it does not want. What has not ended is in several indexes, of which one gives the order: see
:meth:`Queries._find_live`.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

from jobify.model.records import (
    AttemptRecord,
    CountKey,
    JobQuery,
    JobRecord,
    MessageKind,
    MessageRecord,
    Relations,
    SummaryIds,
)
from jobify.storage.kinship import Kinship, Relative
from jobify.storage.sql.listing import IndexScope, index_scope
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Found, messages_of, records_of
from jobify.storage.sqlite.statements import chunks, decode_rows, id_values, sql
from jobify.storage.sqlite.values import MissingValueError, load_value
from jobify.types import Microseconds

__all__ = ("Queries",)

_TRIES = 3
_PAGE_BYTES = 4_000_000
"""Bytes of a page of messages; one message always fits."""
_FIRST_SIZES = 32
"""Messages whose sizes are read first."""
_LINES = 500
"""Lines of history in one answer: each may have a traceback of 100 kB."""
_ROWS_LOOKED_THROUGH = 200
"""Rows beside those of the page. Newest first, what has not ended comes before what has."""
_ALL_ROWS = -1
_SORTED = 50_000
"""Jobs that are sorted for one page; it takes a tenth of a second."""


class _Wanted(NamedTuple):
    """Which of the values that are not in their rows are read."""

    payloads: bool = True
    results: bool = True


_ALL = _Wanted()


class Queries:
    """The reading calls of :class:`jobify.storage.base.Storage`, owners apart."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        records: list[JobRecord] = []
        wanted = _Wanted(payloads=False, results=ids.with_results) if isinstance(ids, SummaryIds) else _ALL
        for some in chunks(list(dict.fromkeys(ids))):
            records += self._get(some, wanted)
        return records

    def _get(self, ids: Sequence[str], wanted: _Wanted) -> list[JobRecord]:
        size, values = id_values(ids)
        try:
            return self._records(sql("get", ids=size), values, wanted)
        except sqlite3.DataError:  # a gigabyte in one answer is too much: ask for less
            if len(ids) == 1:
                raise
            half = len(ids) // 2
            return self._get(ids[:half], wanted) + self._get(ids[half:], wanted)

    def find(self, query: JobQuery) -> list[JobRecord]:
        scope = index_scope(query)
        if scope is IndexScope.UNSUCCESSFUL and len(query.statuses or ()) > 1:
            return self._find_each(query)
        try:
            return self._find_live(query) if scope is IndexScope.LIVE else self._find(query, _FINDERS[scope])
        except sqlite3.DataError:
            if query.limit <= 1:
                raise
            return self._find_in_halves(query)

    def _find(self, query: JobQuery, name: str) -> list[JobRecord]:
        filters, values = page_of(query)
        statement = sql(name, filters=filters, order=_order_of(query))
        return self._records(statement, [*values, max(query.limit, 0)], _wanted_of(query))

    def _find_live(self, query: JobQuery) -> list[JobRecord]:
        """Most jobs that have not ended are in no index of ids. A page that is not full after some rows is filled from
        those jobs, sorted; or from all rows, if they are too many to be sorted."""
        find = self._reading_among(query, max(query.limit, 0) + _ROWS_LOOKED_THROUGH)
        found = find()
        if len(found.records) < query.limit:
            find = self._sorting(query) if self._are_sortable(query) else self._reading_among(query, _ALL_ROWS)
            found = find()
        return self._loaded(found, find, _wanted_of(query))

    def _reading_among(self, query: JobQuery, rows: int) -> Callable[[], Found]:
        """Finds a page among the first ``rows`` in the order of the list."""
        filters, values = filters_of(query)
        after, start = after_of(query)
        statement = sql("find_live_among", after=after, filters=filters, order=_order_of(query))
        return partial(self._answer, statement, [*start, rows, *values, max(query.limit, 0)])

    def _sorting(self, query: JobQuery) -> Callable[[], Found]:
        """Finds a page by sorting what is in no index of ids."""
        filters, values = page_of(query)
        statement = sql("find_live", filters=filters, order=_order_of(query))
        return partial(self._answer, statement, [*values, query.limit, *values, *values, *values, query.limit])

    def _are_sortable(self, query: JobQuery) -> bool:
        filters, values = filters_of(JobQuery(tasks=query.tasks, queues=query.queues))
        some = [*values, _SORTED + 1]
        (count,) = self._database.read(sql("count_unsorted", filters=filters), [*some, *some])
        return bool(count <= _SORTED)

    def _answer(self, statement: str, values: Sequence[Any]) -> Found:
        return records_of(*self._database.read(statement, values))

    def _records(self, statement: str, values: Sequence[Any], wanted: _Wanted) -> list[JobRecord]:
        """The rows that ``statement`` finds, with their large values."""
        find = partial(self._answer, statement, values)
        return self._loaded(find(), find, wanted)

    def _loaded(self, found: Found, find: Callable[[], Found], wanted: _Wanted) -> list[JobRecord]:
        """The rows that were found, with their large values; ``find`` finds them again."""
        for _ in range(_TRIES):
            if not found.references:
                return found.records
            with suppress(MissingValueError):
                return _with_values(found, wanted, self._load)
            found = find()  # the row was changed meanwhile
        return _with_values(found, wanted, self._load_what_is_left)

    def _load(self, reference: int) -> bytes:
        return load_value(self._database, reference)

    def _load_what_is_left(self, reference: int) -> bytes:
        """Load a value; empty if the damage has taken it, which the decoder then reports."""
        with suppress(MissingValueError):
            return self._load(reference)
        return b""

    def _find_each(self, query: JobQuery) -> list[JobRecord]:
        """Each status by itself, because an index gives the order of one."""
        parts = [self.find(query._replace(statuses=(status,))) for status in dict.fromkeys(query.statuses or ())]
        found = heapq.merge(*parts, key=lambda record: record.id, reverse=query.is_newest_first)
        return list(found)[: max(query.limit, 0)]

    def _find_in_halves(self, query: JobQuery) -> list[JobRecord]:
        half = query.limit // 2
        first = self.find(query._replace(limit=half))
        if len(first) < half:
            return first
        return first + self.find(query._replace(limit=query.limit - half, after_id=first[-1].id))

    def find_unique(self, key: str) -> str | None:
        found: str | None = self._database.read(sql("find_unique"), (key,))[0]
        return found

    def count(self, query: JobQuery) -> Mapping[CountKey, int]:
        filters, values = filters_of(query)
        name = _COUNTERS[index_scope(query)]
        return self._counted(sql(name, filters=filters), values * 4 if name == "count_live" else values)

    def count_purgeable(self, *, now: Microseconds) -> Mapping[CountKey, int]:
        return self._counted(sql("count_purgeable"), [now, now])

    def _counted(self, statement: str, values: list[Any]) -> Mapping[CountKey, int]:
        counts: Counter[CountKey] = Counter()
        for task, queue, status, is_dead, number in decode_rows(self._database.read(statement, values)[0]):
            counts[CountKey(task, queue, status, bool(is_dead))] += number
        return counts

    def attempts(self, id: str) -> list[AttemptRecord]:
        found: list[AttemptRecord] = []
        while True:
            page = decode_rows(self._database.read(sql("attempts"), (id, _LINES, len(found)))[0])
            found += [AttemptRecord._make(row) for row in page]
            if len(page) < _LINES:
                return found

    def messages(self, id: str, *, after: int, limit: int, kind: MessageKind | None = None) -> list[MessageRecord]:
        kinds = (MessageKind.VALUE.value, MessageKind.LOG.value) if kind is None else (kind.value, kind.value)
        wanted = (id, after, *kinds)
        count = self._count_in_page(wanted, max(limit, 0))
        return messages_of(*self._database.read(sql("messages"), (*wanted, count))) if count else []

    def _count_in_page(self, wanted: Sequence[Any], limit: int) -> int:
        """How many messages make up a page. Asks for the sizes of a few first: the size of a text is known only when it
        has been read."""
        size = _FIRST_SIZES
        while True:
            sizes = decode_rows(self._database.read(sql("message_sizes"), (*wanted, min(size, limit)))[0])
            count = sum(1 for total in accumulate(sizes) if total <= _PAGE_BYTES)
            if count < len(sizes) or len(sizes) < size or size >= limit:
                return count or min(len(sizes), 1)
            size *= 4

    def relations(self, id: str) -> Relations:
        parents, children = map(decode_rows, self._database.read(sql("relations"), (id,)))
        return Relations(tuple(parents), tuple(children))

    def kinship(self, id: str, *, limit: int) -> Kinship:
        nodes = decode_rows(self._database.read(sql("kin"), (id, limit + 1))[0])
        near = frozenset(nodes[:limit])
        jobs = [Relative._make(row) for row in self._rows("relatives", sorted(node for node in near if node > 0))]
        there = {job.number for job in jobs} | {node for node in near if node < 0}
        edges = [(parent, child) for parent, child in self._rows("edges_into", sorted(near)) if parent in there]
        whole = tuple(job._replace(is_dead=bool(job.is_dead)) for job in sorted(jobs))
        return Kinship(whole, tuple(edges), len(nodes) <= limit)

    def _rows(self, name: str, numbers: Sequence[int]) -> list[list[Any]]:
        """What statement ``name`` says of these."""
        found: list[list[Any]] = []
        for some in chunks(numbers):
            size, values = id_values(some)
            found += decode_rows(self._database.read(sql(name, ids=size), values)[0])
        return found

    def parents(self, id: str) -> list[tuple[str, JobRecord | None]]:
        links = decode_rows(self._database.read(sql("parents"), (id,))[0])
        found: dict[int, JobRecord] = {}
        for some in chunks([number for number, _ in links]):
            found.update(self._numbered(some))
        return [(name, found.get(number)) for number, name in links]

    def _numbered(self, numbers: Sequence[int]) -> dict[int, JobRecord]:
        """The rows with these numbers, with their results and without large arguments."""
        size, values = id_values(numbers)
        try:
            *answer, seqs = self._database.read(sql("get_by_seq", ids=size), values)
        except sqlite3.DataError:  # as in _get
            if len(numbers) == 1:
                raise
            half = len(numbers) // 2
            return self._numbered(numbers[:half]) | self._numbered(numbers[half:])
        records = _with_values(records_of(*answer), _Wanted(payloads=False), self._load_what_is_left)
        return dict(zip(decode_rows(seqs), records, strict=True))

    def paused_queues(self) -> list[str]:
        return decode_rows(self._database.read(sql("paused_queues"))[0])


def _with_values(found: Found, wanted: _Wanted, load: Callable[[int], bytes]) -> list[JobRecord]:
    for index, payload_ref, result_ref in found.references:
        record = found.records[index]
        if payload_ref is not None and wanted.payloads:
            record = record._replace(payload=load(payload_ref))
        if result_ref is not None and record.result is not None and wanted.results:
            record = record._replace(result=load(result_ref))
        found.records[index] = record
    return found.records


# -- filters -----------------------------------------------------------------------------------------------------------


_LARGEST = 2**63 - 1


def page_of(query: JobQuery) -> tuple[str, list[Any]]:
    """The condition for one page, with its parameters."""
    filters, values = filters_of(query)
    after, start = after_of(query)
    return f"{filters} AND {after}", [*values, *start]


def after_of(query: JobQuery) -> tuple[str, list[Any]]:
    """The condition for paging, with its parameters."""
    if query.after_id is None:
        return "1", []
    return f"id {'<' if query.is_newest_first else '>'} ?", [query.after_id]


def _order_of(query: JobQuery) -> str:
    return "id DESC" if query.is_newest_first else "id"


def _wanted_of(query: JobQuery) -> _Wanted:
    return _ALL if query.has_values else _Wanted(payloads=False, results=False)


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


_FINDERS = {
    IndexScope.ANY: "find",
    IndexScope.RUNNING: "find_running",
    IndexScope.UNSUCCESSFUL: "find_unsuccessful",
}
_COUNTERS = {
    IndexScope.ANY: "count",
    IndexScope.LIVE: "count_live",
    IndexScope.RUNNING: "count_running",
    IndexScope.UNSUCCESSFUL: "count_unsuccessful",
}
"""The statements that answer with the least reading."""
