"""``jobify health``: check what an operator must know at once: the database, workers, waiting jobs, schedules."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeAlias

import typer

from jobify.cli.options import Json, Queue, Source, for_jobs

if TYPE_CHECKING:
    from jobify.storage.postgres import PostgresStorage
    from jobify.storage.sqlite import SQLiteStorage
    from jobify.storage.vitals import Vitals
    from jobify.types import Microseconds

__all__ = ("health",)


class _Check(StrEnum):
    """The parts that are checked."""

    DATABASE = "database"
    WORKERS = "workers"
    WAITING = "waiting"
    SCHEDULES = "schedules"


class _Limits(NamedTuple):
    """The limits of what is healthy."""

    workers: int
    waiting: float
    schedules: int
    queues: list[str] | None


_NAMES: Final = ", ".join(_Check)

_MinWorkers: TypeAlias = Annotated[
    int, typer.Option("--min-workers", metavar="N", min=0, help="At least N workers are alive.")
]
_MaxWait: TypeAlias = Annotated[
    str,
    typer.Option("--max-wait", metavar="DURATION", help="No due job waits longer: 90 (seconds), 5m. [default: 5m]"),
]
_MaxStopped: TypeAlias = Annotated[
    int,
    typer.Option("--max-dead-schedules", metavar="N", min=0, help="At most N schedules have stopped after failures."),
]
_Only: TypeAlias = Annotated[
    list[_Check] | None,
    typer.Option("--only", metavar="CHECK", help=f"Check only this: {_NAMES}; may be repeated.", show_default=False),
]
_Timeout: TypeAlias = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="For reading the database.")
]


@for_jobs
def health(
    source: Source,
    min_workers: _MinWorkers = 1,
    max_wait: _MaxWait = "5m",
    max_dead_schedules: _MaxStopped = 0,
    queue: Queue = None,
    only: _Only = None,
    timeout: _Timeout = 2.0,
    as_json: Json = False,
) -> None:
    """Check the database, the workers, the oldest waiting job and the schedules. Exit code 0 means healthy, 1 not.

    For probes: it is fast with --database, writes nothing, and does not wait long for a lock. --queue checks only jobs
    of this queue, and workers that serve it.

    Example: jobify health --database jobs.db --min-workers 2 --max-wait 10m
    """
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_document
    from jobify.cli.time_format import seconds_of

    limits = _Limits(min_workers, seconds_of(max_wait), max_dead_schedules, queue or None)
    path, document, problems = _examine(source, limits, timeout)
    counted = [text for check, text in problems if not only or check is _Check.DATABASE or check in only]
    document = {"status": "unhealthy" if counted else "healthy", "problems": counted, **document}
    if as_json:
        print_document(document)
    else:
        _print(document, path)
    if counted:
        raise CommandError(f"Not healthy: {' '.join(counted)}")


def _examine(source: Source, limits: _Limits, timeout: float) -> tuple[str, dict[str, Any], list[tuple[_Check, str]]]:
    """The path of the database, the document, and the problems."""
    from jobify.cli.app_loader import database_storage
    from jobify.exceptions import StorageError, shown

    storage = database_storage(source, may_be_missing=True)
    where = storage.database
    try:
        vitals = _read_vitals(storage, timeout, limits.queues)
    except StorageError as error:
        problem = " ".join(shown(error).split())
        return where, {"database": {"path": where, "error": problem}}, [(_Check.DATABASE, problem)]
    return where, _document(where, vitals, vitals.read_at, limits), _problems(vitals, vitals.read_at, limits)


def _read_vitals(storage: SQLiteStorage | PostgresStorage, timeout: float, queues: list[str] | None) -> Vitals:
    from jobify.cli.app_loader import is_postgres

    if is_postgres(storage):
        from jobify.storage.postgres.health import read_vitals as read_schema

        return read_schema(storage, timeout=timeout, queues=queues)
    from jobify.model.clock import SystemClock
    from jobify.storage.sqlite.health import read_vitals

    return read_vitals(storage.database, now=SystemClock().now(), timeout=timeout, queues=queues)


def _document(path: str, vitals: Vitals, now: Microseconds, limits: _Limits) -> dict[str, Any]:
    from jobify.model.clock import SECOND, iso

    oldest = vitals.oldest
    return {
        "database": {"path": path, "error": None},
        "workers": {"alive": _alive(vitals, limits), "processes": _processes(vitals)},
        "oldest_waiting": None
        if oldest is None
        else {
            "id": oldest.id,
            "task_name": oldest.task,
            "queue_name": oldest.queue,
            "due_at": iso(oldest.due_at),
            "seconds": max(0.0, (now - oldest.due_at) / SECOND),
        },
        "dead_schedules": [
            {"id": job.id, "task_name": job.task, "error": job.error, "finished_at": iso(job.finished_at)}
            for job in vitals.stopped
        ],
        "paused_queues": vitals.paused,
        "parked": [
            {"id": job.id, "task_name": job.task, "queue_name": job.queue, "reason": job.reason, "at": iso(job.at)}
            for job in vitals.parked
        ],
    }


def _processes(vitals: Vitals) -> list[dict[str, Any]]:
    return [
        {"id": owner.id, "host": owner.host, "pid": owner.pid, "is_alive": owner.is_alive}
        for owner in vitals.owners
        if owner.profile.role.value == "worker"
    ]


def _alive(vitals: Vitals, limits: _Limits) -> int:
    """The number of living workers that serve one of the queues."""
    return sum(
        owner.is_alive
        and owner.profile.role.value == "worker"
        and (
            limits.queues is None
            or owner.profile.queues is None
            or not {*limits.queues}.isdisjoint(owner.profile.queues)
        )
        for owner in vitals.owners
    )


def _problems(vitals: Vitals, now: Microseconds, limits: _Limits) -> list[tuple[_Check, str]]:
    from jobify.cli.time_format import how_long
    from jobify.model.clock import SECOND

    found: list[tuple[_Check, str]] = []
    alive, oldest, stopped = _alive(vitals, limits), vitals.oldest, vitals.stopped
    if alive < limits.workers:
        few = f"Workers alive: {alive}, fewer than {limits.workers}." if alive else "No worker is alive."
        found.append((_Check.WORKERS, few))
    waits = 0.0 if oldest is None else (now - oldest.due_at) / SECOND
    if oldest is not None and waits > limits.waiting:
        what = f"Job {oldest.id} ({oldest.task}) waits in the queue {oldest.queue!r} for {how_long(waits)}"
        found.append((_Check.WAITING, f"{what}, longer than {how_long(limits.waiting)}."))
    found += [(_Check.WAITING, text) for text in _parked_for_long(vitals, now, limits)]
    if len(stopped) > limits.schedules:
        names = ", ".join(job.id for job in stopped[:3]) + (", …" if len(stopped) > 3 else "")
        found.append((_Check.SCHEDULES, f"Schedules that have stopped after failures: {names}."))
    return found


def _parked_for_long(vitals: Vitals, now: Microseconds, limits: _Limits) -> Iterator[str]:
    """Calls that are parked for other code for longer than a release takes."""
    from jobify.cli.time_format import how_long
    from jobify.model.clock import SECOND

    late = [job for job in vitals.parked if (now - job.at) / SECOND > limits.waiting]
    if late:
        first = min(late, key=lambda job: job.at)
        waits = how_long((now - first.at) / SECOND)
        others = f", and {len(late) - 1} more" if len(late) > 1 else ""
        yield f"Job {first.id} ({first.task}) is parked for {waits}{others}: {first.reason.rstrip('.')}."


def _print(document: dict[str, Any], path: str) -> None:
    from jobify.cli.output import print_facts
    from jobify.cli.time_format import how_long

    facts: list[tuple[str, object]] = [("status", document["status"]), ("database", path)]
    if "workers" in document:
        oldest, stopped = document["oldest_waiting"], document["dead_schedules"]
        waits = "none" if oldest is None else f"{how_long(oldest['seconds'])}, {oldest['task_name']}, {oldest['id']}"
        facts += [
            ("workers alive", document["workers"]["alive"]),
            ("oldest waiting job", waits),
            ("dead schedules", ", ".join(job["id"] for job in stopped) or "none"),
            ("paused queues", ", ".join(document["paused_queues"])),
            ("parked calls", len(document["parked"]) or "none"),
        ]
    print_facts(facts)
