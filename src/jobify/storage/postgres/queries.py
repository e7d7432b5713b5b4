"""Reading, from any thread, on the reading connection."""

from __future__ import annotations

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
from jobify.storage.kinship import Kinship, Relative
from jobify.storage.postgres.arrays import PACKERS
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.rows import messages_of, records_of
from jobify.types import Microseconds

__all__ = ("Queries",)

_PAGE_BYTES: Final = 4_000_000
"""Bytes of a page of messages; one message always fits."""


class Queries:
    """The reading calls of :class:`jobify.storage.base.Storage`, owners apart."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        return records_of(self._database.read_for("get", list(dict.fromkeys(ids))))

    def find(self, query: JobQuery) -> list[JobRecord]:
        filters = _Filters(query)
        if query.after_id is not None:
            filters.add(f"jobs.id {'<' if query.is_newest_first else '>'} ", query.after_id)
        fields = {
            "filters": filters.text,
            "direction": "DESC" if query.is_newest_first else "",
            "limit": filters.place(max(query.limit, 0)),
        }
        return records_of(self._database.read("find", *filters.values, **fields))

    def find_unique(self, key: str) -> str | None:
        found: str | None = self._database.read("find_unique", key)[0][0]
        return found

    def count(self, query: JobQuery) -> Mapping[CountKey, int]:
        filters = _Filters(query)
        return _counted(self._database.read("count", *filters.values, filters=filters.text))

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
