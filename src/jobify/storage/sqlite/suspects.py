"""Claim groups of jobs that run apart.

What makes a job one of them is in ``recovery``.
"""

from __future__ import annotations

from jobify.model.records import Claim, ClaimRequest
from jobify.storage.sqlite.aside import conditions, pick_aside, with_arguments
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import write_for
from jobify.storage.sqlite.rows import Picked
from jobify.storage.sqlite.statements import sql
from jobify.storage.sqlite.values import bounded
from jobify.storage.suspicion import group_size
from jobify.types import Microseconds

__all__ = ("Suspects",)


class Suspects:
    """Claims of jobs that run apart."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_any(self, request: ClaimRequest, *, now: Microseconds) -> bool:
        """Whether there are some that this request could take."""
        return self._next(request, now) is not None

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> list[Claim]:
        """Take some of those that died together."""
        with self._database.atomic():
            found = self._next(request, now)
            if found is None:
                return []
            death, company = found
            picked = Picked([], {})
            for lane in request.slots:
                limit = min(lane.limit, group_size(company) - len(picked.rows))
                found_here = pick_aside(self._database, "pick_apart", request.queues, lane, (death, now), limit)
                picked.rows.extend(bounded(*found_here))
                picked.references.update(found_here.references)
            write_for(self._database, "take_apart", [seq for seq, _ in picked.rows], before=[request.owner, now])
            return with_arguments(self._database, picked)

    def _next(self, request: ClaimRequest, now: Microseconds) -> tuple[int, int] | None:
        tasks = tuple(task for lane in request.slots if lane.limit for task in lane.tasks)
        if not tasks:
            return None
        size, fields, parameters = conditions(tasks, request.queues)
        found: tuple[int, int] | None = self._database.row(
            sql("next_apart", tasks=size, in_queues=fields), [now, *parameters]
        )
        return found
