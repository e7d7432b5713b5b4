"""Places in the lines of limits that jobs take when they are stored: a limit may refuse them, or has turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobify.exceptions import LimitExceededError
from jobify.model.limit_gates import LimitDefinition, limits_of_options
from jobify.model.limits import check_cost
from jobify.model.records import NewJob
from jobify.storage.base import Storage
from jobify.storage.end_reasons import limit_reached
from jobify.types import Microseconds

__all__ = ("define_missing", "refuse_excess")


def define_missing(storage: Storage, tasks: Mapping[str, Sequence[LimitDefinition]], *, now: Microseconds) -> None:
    """Store the limits of those of these tasks of which none are stored: no worker that knows them has started yet."""
    stored = storage.task_limits(list(tasks))
    missing = {task: limits for task, limits in tasks.items() if not stored.get(task)}
    if missing:
        storage.define_limits(missing, now=now)


def refuse_excess(
    storage: Storage, jobs: Sequence[NewJob], *, now: Microseconds, delete_at: Microseconds | None
) -> set[str]:
    """Have these jobs, which were inserted in this transaction, take their places in the lines of limits that refuse
    some (``on_excess``). Those that are to be skipped end cancelled; their ids. LimitExceededError for another,
    ConfigurationError for a cost that a limit never admits."""
    _check_costs(storage, jobs)
    skipped: set[str] = set()
    for job, refusal in zip(jobs, storage.take_places(jobs, now=now), strict=True):
        if refusal is None:
            continue
        if refusal.on_excess == "fail":
            raise LimitExceededError(refusal.name, job.task)
        storage.cancel([job.id], reason=limit_reached(refusal.name), now=now, delete_at=delete_at)
        skipped.add(job.id)
    return skipped


def _check_costs(storage: Storage, jobs: Sequence[NewJob]) -> None:
    """Of tasks whose code is not here, too."""
    costs = [(job.task, limits_of_options(job.options).cost) for job in jobs if job.options is not None]
    costly = [(task, cost) for task, cost in dict.fromkeys(costs) if cost > 1]
    definitions = storage.task_limits([task for task, _ in costly]) if costly else {}
    for task, cost in costly:
        check_cost(task, definitions.get(task, ()), cost)
