"""Claims of jobs that ordinary claims pass over: groups of suspects that run apart, and parked calls.

What makes a job a suspect is in ``recovery``; what parks a call, in ``settlements``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jobify.model.records import Claim, Claimed, ClaimRequest, TaskSlots
from jobify.runtime.logs import get_logger
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Picked, UnreadableError, claims_of
from jobify.storage.sqlite.statements import id_values, sql, write_for
from jobify.storage.sqlite.values import MissingValueError, bounded, load_value
from jobify.storage.suspicion import group_size
from jobify.types import Microseconds

__all__ = ("Suspects", "claim_parked")

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
            for lane in request.slots:
                limit = min(lane.limit, group_size(company) - len(picked.rows))
                found_here = _pick(self._database, "pick_apart", request.queues, lane, (death, now), limit)
                picked.rows.extend(bounded(*found_here))
                picked.references.update(found_here.references)
            write_for(self._database, "take_apart", [seq for seq, _ in picked.rows], before=[request.owner, now])
            return _with_all_arguments(self._database, picked)

    def _next(self, request: ClaimRequest, now: Microseconds) -> tuple[int, int] | None:
        tasks = tuple(task for lane in request.slots if lane.limit for task in lane.tasks)
        if not tasks:
            return None
        size, fields, parameters = _conditions(tasks, request.queues)
        found: tuple[int, int] | None = self._database.row(
            sql("next_apart", tasks=size, in_queues=fields), [now, *parameters]
        )
        return found


def claim_parked(database: Database, request: ClaimRequest, *, now: Microseconds) -> Claimed:
    """Take parked calls that did not fit other code than that of the request."""
    if not any(_pick_parked(database, request, lane, now)[0].rows for lane in request.slots):  # without a lock
        return Claimed([], False, None)
    with database.atomic():
        found = [_pick_parked(database, request, lane, now) for lane in request.slots]
        picked = Picked([row for page, _ in found for row in page.rows], {})
        for page, _ in found:
            picked.references.update(page.references)
        write_for(database, "take_parked", [seq for seq, _ in picked.rows], before=[request.owner, now])
        claims = _with_all_arguments(database, picked)
    return Claimed(claims, any(has_more for _, has_more in found), None)


def _pick_parked(database: Database, request: ClaimRequest, lane: TaskSlots, now: Microseconds) -> tuple[Picked, bool]:
    """The first ones of a lane, and whether there are more."""
    found = _pick(database, "pick_parked", request.queues, lane, (request.code, now), lane.limit)
    rows = bounded(*found)
    return Picked(rows, found.references), len(rows) >= lane.limit > 0 or len(rows) < len(found.rows)


def _pick(
    database: Database, name: str, queues: tuple[str, ...] | None, lane: TaskSlots, before: Sequence[Any], limit: int
) -> Picked:
    """At most ``limit`` jobs of a lane that statement ``name`` finds. Its parameters: ``before``, tasks and queues, the
    limit."""
    size, fields, parameters = _conditions(lane.tasks, queues)
    statement = sql(name, tasks=size, in_queues=fields)
    while limit > 0 and lane.tasks:
        try:
            return claims_of(*database.row(statement, [*before, *parameters, limit]))
        except sqlite3.DataError:  # payloads of a gigabyte in all do not fit into one answer
            if limit == 1:
                raise
            limit //= 2
        except UnreadableError as error:
            log.error("Jobs that ordinary claims pass over cannot be claimed: %s. Run `jobify db check`.", error)
            break
    return Picked([], {})


def _with_all_arguments(database: Database, picked: Picked) -> list[Claim]:
    """The claims with their large arguments. If these are gone there are none, and the job ends with the reason."""
    return [_with_arguments(database, claim, picked.references.get(seq)) for seq, claim in picked.rows]


def _with_arguments(database: Database, claim: Claim, reference: int | None) -> Claim:
    if reference is not None:
        with suppress(MissingValueError):
            return claim._replace(payload=load_value(database, reference))
    return claim


def _conditions(tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> tuple[int, str, list[Any]]:
    """What a statement is filled in with: how many tasks, a condition on the queues; and the parameters of both."""
    size, parameters = id_values(tasks)
    if queues is None:
        return size, "", parameters
    queue_size, queue_values = id_values(queues)
    return size, f"AND jobs.queue IN ({', '.join('?' * queue_size)})", [*parameters, *queue_values]
