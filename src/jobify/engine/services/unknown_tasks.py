"""Jobs that nobody here can run: said once, after the start.

To know of them, all unfinished jobs are counted. Among hundreds of thousands that takes a good part of a second, so
nothing waits for it: it begins when the app has started, on a thread that is not the storage's own, and a shutdown
does not wait for the answer.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from jobify.engine.service import Service
from jobify.gateway.backend import Backend
from jobify.model.records import JobQuery
from jobify.model.status import ACTIVE
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger

__all__ = ("UnknownTasks",)

log = get_logger("jobify.engine")

_UNFINISHED = JobQuery(statuses=ACTIVE)


class UnknownTasks(Service):
    """Warns of unfinished jobs whose task this app does not know. They stay where they are, for an app that does."""

    def __init__(self, backend: Backend, registry: Registry) -> None:
        super().__init__()
        self._backend = backend
        self._registry = registry

    async def run(self) -> None:
        found = await self._backend.read_long(partial(self._backend.storage.count, _UNFINISHED))
        unknown: Counter[str] = Counter()
        for key, count in found.items():
            if key.task not in self._registry:
                unknown[key.task] += count
        for task, count in sorted(unknown.items()):
            log.warning(
                "The database holds %d unfinished jobs of task %r, which this app does not have. They are kept, and "
                "wait for an app that has it.",
                count,
                task,
            )
