"""Reading, from any thread, on the reading connection."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from jobify.model.records import (
    AttemptRecord,
    CountKey,
    JobQuery,
    JobRecord,
    MessageKind,
    MessageRecord,
    Relations,
)
from jobify.model.status import JobStatus
from jobify.storage.kinship import Kinship, Relative
from jobify.storage.postgres.arrays import PACKERS
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.rows import messages_of, records_of
from jobify.storage.sql.listing import IndexScope, index_scope
from jobify.types import Microseconds

__all__ = ("Queries",)

_ROWS_LOOKED_THROUGH: Final = 200
"""Rows beside those of the page. Newest first, what has not ended comes before what has."""
_SORTED: Final = 50_000
"""Jobs that are sorted for one page."""
_COUNTERS: Final = {
    IndexScope.ANY: "count",
    IndexScope.LIVE: "count_live",
    IndexScope.RUNNING: "count_running",
    IndexScope.UNSUCCESSFUL: "count_unsuccessful",
}
"""The statements that answer with the least reading."""
_PAGE_BYTES: Final = 4_000_000
"""Bytes of a page of messages; one message always fits."""


class Queries:
    """The reading calls of :class:`jobify.storage.base.Storage`, owners apart."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        return records_of(self._database.read_for("get", list(dict.fromkeys(ids))))

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def find(self, query: JobQuery) -> list[JobRecord]:
        match index_scope(query):
            case IndexScope.LIVE:
                return self._find_live(query)
            case IndexScope.UNSUCCESSFUL:
                return self._find_unsuccessful(query)
            case IndexScope.RUNNING:
                return self._find(query, "find_running")
            case IndexScope.ANY:
                return self._find(query, "find")

    def _find(self, query: JobQuery, name: str, **fields: str) -> list[JobRecord]:
        filters = _Filters(query)
        filters.add_page(query)
        return self._records(query, name, filters, **fields)

    def _records(self, query: JobQuery, name: str, filters: _Filters, **fields: str) -> list[JobRecord]:
        direction = "DESC" if query.is_newest_first else ""
        limit = filters.place(max(query.limit, 0))
        fields |= {"filters": filters.text, "direction": direction, "limit": limit}
        return records_of(self._database.read(name, *filters.values, **fields))

    def _find_live(self, query: JobQuery) -> list[JobRecord]:
        """Most jobs that have not ended are in no index of ids. A page that is not full after some rows is filled from
        those jobs, sorted; or from all rows, if they are too many to be sorted."""
        found = self._find_among(query, max(query.limit, 0) + _ROWS_LOOKED_THROUGH)
        if len(found) >= query.limit:
            return found
        return self._find(query, "find_live") if self._are_sortable(query) else self._find_among(query, None)

    def _find_among(self, query: JobQuery, rows: int | None) -> list[JobRecord]:
        """Find a page among the first ``rows`` in the order of the list; None: among all."""
        filters = _Filters(query)
        after = filters.after(query)
        return self._records(query, "find_live_among", filters, after=after, rows=f"{filters.place(rows)}::bigint")

    def _are_sortable(self, query: JobQuery) -> bool:
        filters = _Filters(JobQuery(tasks=query.tasks, queues=query.queues))
        limit = filters.place(_SORTED + 1)
        count = self._database.read("count_unsorted", *filters.values, filters=filters.text, limit=limit)[0][0]
        return bool(count <= _SORTED)

    def _find_unsuccessful(self, query: JobQuery) -> list[JobRecord]:
        """Each status by itself, because an index gives the order of one."""
        statuses = dict.fromkeys(query.statuses or ())
        parts = [self._find(query, "find_unsuccessful", status=f"'{JobStatus(status).value}'") for status in statuses]
        found = heapq.merge(*parts, key=lambda record: record.id, reverse=query.is_newest_first)
        return list(found)[: max(query.limit, 0)]

    def find_unique(self, key: str) -> str | None:
        found: str | None = self._database.read("find_unique", key)[0][0]
        return found

    def count(self, query: JobQuery) -> Mapping[CountKey, int]:
        filters = _Filters(query)
        return _counted(self._database.read(_COUNTERS[index_scope(query)], *filters.values, filters=filters.text))

    def count_purgeable(self, *, now: Microseconds) -> Mapping[CountKey, int]:
        return _counted(self._database.read("count_purgeable", now))

    def attempts(self, id: str) -> list[AttemptRecord]:
        return [AttemptRecord._make(row) for row in self._database.read("attempts", id)]

    def messages(self, id: str, *, after: int, limit: int, kind: MessageKind | None = None) -> list[MessageRecord]:
        word = None if kind is None else kind.value
        return messages_of(self._database.read("messages", id, after, word, max(limit, 0), _PAGE_BYTES))

    # -- relations -----------------------------------------------------------------------------------------------------

    def relations(self, id: str) -> Relations:
        nodes = self._database.read("nodes", id)
        parents = self._database.read("parents_of", [node for is_ahead, node in nodes if is_ahead])
        children = self._database.read("children_of", [node for is_ahead, node in nodes if not is_ahead])
        return Relations(tuple(now for *_, now in parents), tuple(name for (name,) in children))

    def parents(self, id: str) -> list[tuple[str, JobRecord | None]]:
        nodes = self._database.read("nodes", id)
        links = self._database.read("parents_of", [node for is_ahead, node in nodes if is_ahead])
        rows = self._database.read_for("get_by_seq", [number for number, *_ in links])
        found = {row[-1]: record for row, record in zip(rows, records_of([row[:-1] for row in rows]), strict=True)}
        return [(name, found.get(number)) for number, name, _ in links]

    def kinship(self, id: str, *, limit: int) -> Kinship:
        nodes = [node for (node,) in self._database.read("kin", id, limit + 1)]
        near = frozenset(nodes[:limit])
        rows = self._database.read_for("relatives", sorted(node for node in near if node > 0))
        jobs = sorted(Relative._make(row) for row in rows)
        there = {job.number for job in jobs} | {node for node in near if node < 0}
        edges = self._database.read_for("edges_into", sorted(near))
        linked = tuple((parent, child) for parent, child in edges if parent in there)
        return Kinship(tuple(jobs), linked, len(nodes) <= limit)

    def paused_queues(self) -> list[str]:
        return [name for (name,) in self._database.read("paused_queues")]


def _counted(rows: Sequence[Any]) -> Mapping[CountKey, int]:
    counts: Counter[CountKey] = Counter()
    for task, queue, status, is_dead, number in rows:
        counts[CountKey(task, queue, status, is_dead)] += number
    return counts


class _Filters:
    """The condition for everything but paging, with its parameters."""

    def __init__(self, query: JobQuery) -> None:
        self._conditions = ["true"]
        self.values: list[Any] = []
        for column, words in (("status", query.statuses), ("task", query.tasks), ("queue", query.queues)):
            if words is not None:
                self._conditions.append(f"{column} = ANY ({self.place(PACKERS['text'](words))}::text[])")
        if query.is_schedule is not None:
            self._conditions.append("rule IS NOT NULL" if query.is_schedule else "rule IS NULL")
        for condition, value in (
            ("is_dead = ", query.is_dead),
            ("owner = ", query.owner),
            ("created_at >= ", query.created_after),
            ("created_at < ", query.created_before),
        ):
            if value is not None:
                self.add(condition, value)
        for key, wanted in query.metadata:
            json = msgspec.json.encode(wanted).decode()
            self._conditions.append(
                f"@json_of(options) -> 'metadata' -> {self.place(key)} = @json_of({self.place(json)})"
            )

    def add_page(self, query: JobQuery) -> None:
        """The condition for paging."""
        self._conditions.append(self.after(query))

    def after(self, query: JobQuery) -> str:
        """The condition for paging, by itself."""
        if query.after_id is None:
            return "true"
        return f"jobs.id {'<' if query.is_newest_first else '>'} {self.place(query.after_id)}"

    def add(self, condition: str, value: Any) -> None:
        """One more condition, which ends with the place of its value."""
        self._conditions.append(f"{condition}{self.place(value)}")

    def place(self, value: Any) -> str:
        """A parameter."""
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def text(self) -> str:
        return " AND ".join(self._conditions)
