"""The calls of :class:`jobify.storage.limiting.LimitPort`, for every SQL database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobify.model.limit_gates import NEVER, LimitDefinition, LimitRecord, LimitRefusal, LimitWait
from jobify.model.records import NewJob
from jobify.storage.sql.limits import Limits
from jobify.types import Microseconds

__all__ = ("LimitCalls",)


class LimitCalls:
    """The part of a storage that is about limits."""

    _limits: Limits

    def define_limits(self, tasks: Mapping[str, Sequence[LimitDefinition]], *, now: Microseconds = NEVER) -> None:
        if self._limits.definitions.define(tasks, now):
            self._limits.are_defined = True  # perhaps; the next claim says it

    def task_limits(self, tasks: Sequence[str]) -> Mapping[str, list[LimitDefinition]]:
        return self._limits.definitions.of_tasks(tasks)

    def set_limit(self, name: str, *, key: str | None, maximum: int | None, now: Microseconds = NEVER) -> None:
        self._limits.definitions.set(name, key=key, maximum=maximum, now=now)

    def take_places(self, jobs: Sequence[NewJob], *, now: Microseconds) -> list[LimitRefusal | None]:
        return self._limits.take_places(jobs, now)

    def limits(self) -> list[LimitRecord]:
        return self._limits.definitions.all()

    def limit_keys(self, name: str, *, limit: int) -> list[LimitRecord]:
        return self._limits.definitions.keys(name, limit=limit)

    def limit_waits(self, ids: Sequence[str]) -> Mapping[str, LimitWait]:
        return self._limits.definitions.waits(ids)

    def let_go(self, id: str, owner: int, fence: int) -> bool:
        return self._limits.let_go(id, owner, fence)
