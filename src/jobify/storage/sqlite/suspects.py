"""Claim groups of jobs that run apart.

What makes a job one of them is in ``recovery``.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any

from jobify.logs import get_logger
from jobify.records import Claim, ClaimRequest, Lane
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import write_ids
from jobify.storage.sqlite.rows import Picked, UnreadableError, claims_of
from jobify.storage.sqlite.statements import id_values, sql
from jobify.storage.sqlite.values import MissingValueError, bounded, load_value
from jobify.storage.suspicion import group_size
from jobify.types import Microseconds

__all__ = ("Suspects",)

log = get_logger("jobify.storage")


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
            for lane in request.lanes:
                limit = min(lane.limit, group_size(company) - len(picked.rows))
                found_here = self._pick(request, lane, death, now, limit)
                picked.rows.extend(bounded(*found_here))
                picked.references.update(found_here.references)
            write_ids(self._database, "take_apart", [seq for seq, _ in picked.rows], before=[request.owner, now])
            return [self._complete(claim, picked.references.get(seq)) for seq, claim in picked.rows]

    def _complete(self, claim: Claim, reference: int | None) -> Claim:
        """The claim with its arguments. If they are gone it has none, and the job ends with the reason."""
        if reference is None:
            return claim
        with suppress(MissingValueError):
            return claim._replace(payload=load_value(self._database, reference))
        return claim

    def _next(self, request: ClaimRequest, now: Microseconds) -> tuple[int, int] | None:
        tasks = tuple(task for lane in request.lanes if lane.limit for task in lane.tasks)
        if not tasks:
            return None
        size, fields, parameters = _conditions(tasks, request.queues)
        found: tuple[int, int] | None = self._database.row(
            sql("next_apart", tasks=size, in_queues=fields), [now, *parameters]
        )
        return found

    def _pick(self, request: ClaimRequest, lane: Lane, death: int, now: Microseconds, limit: int) -> Picked:
        size, fields, parameters = _conditions(lane.tasks, request.queues)
        statement = sql("pick_apart", tasks=size, in_queues=fields)
        while limit > 0:
            try:
                return claims_of(*self._database.row(statement, [death, now, *parameters, limit]))
            except sqlite3.DataError:  # payloads of a gigabyte in all do not fit into one answer
                if limit == 1:
                    raise
                limit //= 2
            except UnreadableError as error:
                log.error("The jobs that run apart cannot be claimed: %s. Run `jobify db check`.", error)
                break
        return Picked([], {})


def _conditions(tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> tuple[int, str, list[Any]]:
    size, parameters = id_values(tasks)
    if queues is None:
        return size, "", parameters
    queue_size, queue_values = id_values(queues)
    return size, f"AND jobs.queue IN ({', '.join('?' * queue_size)})", [*parameters, *queue_values]
