"""The calls of :class:`jobify.storage.limiting.LimitPort`, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobify.model.limit_gates import NEVER, LimitDefinition, LimitRecord, LimitRefusal, LimitWait
from jobify.model.records import NewJob
from jobify.storage.memory import limits
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("LimitCalls",)


class LimitCalls:
    """The part of a storage that is about limits."""

    _table: Table

    def define_limits(self, tasks: Mapping[str, Sequence[LimitDefinition]], *, now: Microseconds = NEVER) -> None:
        with self._table as table:
            limits.define(table, tasks, now)

    def task_limits(self, tasks: Sequence[str]) -> Mapping[str, list[LimitDefinition]]:
        with self._table as table:
            return limits.task_limits(table, tasks)

    def set_limit(self, name: str, *, key: str | None, maximum: int | None, now: Microseconds = NEVER) -> None:
        with self._table as table:
            limits.set_maximum(table, name, key, maximum, now)

    def take_places(self, jobs: Sequence[NewJob], *, now: Microseconds) -> list[LimitRefusal | None]:
        with self._table as table:
            return limits.take_places(table, jobs, now)

    def limits(self) -> list[LimitRecord]:
        with self._table as table:
            return limits.limits(table)

    def limit_keys(self, name: str, *, limit: int) -> list[LimitRecord]:
        with self._table as table:
            return limits.keys(table, name, limit)

    def limit_waits(self, ids: Sequence[str]) -> Mapping[str, LimitWait]:
        with self._table as table:
            return limits.waits(table, ids)

    def let_go(self, id: str, owner: int, fence: int) -> bool:
        with self._table as table:
            return limits.let_go(table, (id, owner, fence))
