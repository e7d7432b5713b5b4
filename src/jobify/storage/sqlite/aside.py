"""Pick jobs that ordinary claims pass over: those that run apart, and those that are parked."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jobify.model.records import Claim, TaskSlots
from jobify.runtime.logs import get_logger
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Picked, UnreadableError, claims_of
from jobify.storage.sqlite.statements import id_values, sql
from jobify.storage.sqlite.values import MissingValueError, load_value

__all__ = ("conditions", "pick_aside", "with_arguments")

log = get_logger("jobify.storage")


def pick_aside(
    database: Database, name: str, queues: tuple[str, ...] | None, lane: TaskSlots, before: Sequence[Any], limit: int
) -> Picked:
    """At most ``limit`` jobs of a lane that statement ``name`` finds. Its parameters: ``before``, tasks and queues, the
    limit."""
    size, fields, parameters = conditions(lane.tasks, queues)
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


def with_arguments(database: Database, picked: Picked) -> list[Claim]:
    """The claims with their large arguments. If these are gone there are none, and the job ends with the reason."""
    return [_with_arguments(database, claim, picked.references.get(seq)) for seq, claim in picked.rows]


def _with_arguments(database: Database, claim: Claim, reference: int | None) -> Claim:
    if reference is not None:
        with suppress(MissingValueError):
            return claim._replace(payload=load_value(database, reference))
    return claim


def conditions(tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> tuple[int, str, list[Any]]:
    """What a statement is filled in with: how many tasks, a condition on the queues; and the parameters of both."""
    size, parameters = id_values(tasks)
    if queues is None:
        return size, "", parameters
    queue_size, queue_values = id_values(queues)
    return size, f"AND jobs.queue IN ({', '.join('?' * queue_size)})", [*parameters, *queue_values]
