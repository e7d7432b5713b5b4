"""``jobify workers``, ``stats`` and ``tasks``: the processes, the number of jobs, and the tasks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jobify.cli.options import Json, Queue, Source, Task, for_jobs

if TYPE_CHECKING:
    from jobify.client.views import WorkerView
    from jobify.router.registry import Endpoint
    from jobify.types import Microseconds

__all__ = ("stats", "tasks", "workers")


@for_jobs
def workers(
    source: Source,
    all_processes: Annotated[
        bool,
        typer.Option("--all", help="Also processes that only wait for jobs, and dead ones that are not removed yet."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the workers with their queues, tasks and running jobs.

    A worker that has lost its connection to the server of the database is "disconnected" until it is back, or until
    others have taken its jobs.
    """
    from jobify.cli.documents import worker_document
    from jobify.cli.output import print_document, print_note
    from jobify.cli.session import open_session

    with _saying_that_workers_wait(), open_session(source, may_be_missing=True) as session:
        found = [worker for worker in session.app.workers() if all_processes or _is_worker(worker)]
        now, database = session.app.now(), session.database
    if as_json:
        print_document({"database": database, "workers": [worker_document(worker) for worker in found]})
        return
    print_note(f"Database: {database}")
    has_others = all_processes or any(worker.is_disconnected for worker in found)
    _print_workers(found, now, has_others=has_others)


@contextmanager
def _saying_that_workers_wait() -> Iterator[None]:
    """Where the database cannot be read, say what its workers do meanwhile."""
    from jobify.exceptions import StorageUnavailableError

    try:
        yield
    except StorageUnavailableError as error:
        from jobify.cli.errors import CommandError

        raise CommandError(f"{error} Its workers wait, and go on by themselves when it is there again.") from error


def _is_worker(process: WorkerView) -> bool:
    """Whether it is at work, or will be when it is connected again."""
    return process.is_at_work or (process.is_disconnected and process.role == "worker")


def _state(process: WorkerView) -> str:
    if process.is_alive:
        return process.role
    return "disconnected" if process.is_disconnected else "dead"


def _print_workers(found: Sequence[WorkerView], now: Microseconds, *, has_others: bool) -> None:
    from jobify.cli.output import Column, print_table
    from jobify.cli.time_format import ago

    columns = (
        Column("PROCESS", is_number=True, is_kept=True),
        Column("HOST", from_width=110),
        Column("ROLE", from_width=0 if has_others else 1_000),
        Column("QUEUES"),
        Column("TASKS", is_number=True),
        Column("SLOTS", is_number=True),
        Column("RUNNING", is_number=True),
        Column("STARTED"),
        Column("SEEN"),
    )
    rows = [
        (
            one.pid,
            one.host,
            _state(one),
            "all" if one.queues is None else ", ".join(one.queues),
            len(one.tasks),
            f"{one.concurrency} async",  # threads and processes have slots of their own
            len(one.jobs),
            ago(one.started_at, now=now),
            ago(one.seen_at, now=now),
        )
        for one in found
    ]
    print_table(columns, rows, nothing="No worker runs. Start one: jobify worker package.module:app")


@for_jobs
def stats(
    source: Source,
    task: Task = None,
    queue: Queue = None,
    by: Annotated[str, typer.Option("--by", help="Break down by queue or by task.", metavar="queue|task")] = "queue",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Count jobs by status."""
    from jobify.cli.jobs.selection import Filters
    from jobify.cli.output import print_document
    from jobify.cli.session import open_session
    from jobify.model.public_status import counts_by_name, counts_by_status

    part = _breakdown(by)
    with open_session(source, may_be_missing=not watch) as session:
        filters = Filters(task=task, queue=queue).read(session.app)

        def show() -> None:
            counts = session.queries.counts(filters)
            totals, parts = counts_by_status(counts), counts_by_name(counts, part)
            if as_json:
                print_document({**totals, f"by_{by}": parts})
            else:
                _print_counts(totals, parts, by, is_cleared=watch)

        if watch:
            _repeat(show, every)
        else:
            show()


def _repeat(show: Callable[[], None], every: float) -> None:
    with suppress(KeyboardInterrupt):
        while True:
            show()
            sys.stdout.flush()  # the reader of a pipe must get it at once
            time.sleep(every)


def _breakdown(by: str) -> Literal["queue", "task"]:
    if by == "queue":
        return "queue"
    if by == "task":
        return "task"
    from jobify.cli.errors import CommandError
    from jobify.worker.exit_codes import ExitCode

    raise CommandError(f"--by {by!r}: write queue or task.", ExitCode.USAGE)


def _print_counts(totals: dict[str, int], parts: dict[str, dict[str, int]], by: str, *, is_cleared: bool) -> None:
    from jobify.cli.output import Column, is_terminal, print_table
    from jobify.model.public_status import PUBLIC_STATUSES

    if is_cleared and is_terminal():
        print("\x1b[2J\x1b[H", end="")
    columns = (Column(by.upper()), *(Column(word.upper(), is_number=True) for word in PUBLIC_STATUSES))
    rows: list[tuple[Any, ...]] = [
        (name, *(counts[word] for word in PUBLIC_STATUSES)) for name, counts in parts.items()
    ]
    print_table(columns, [*rows, ("(all)", *(totals[word] for word in PUBLIC_STATUSES))], nothing="")


# -- tasks -------------------------------------------------------------------------------------------------------------


@for_jobs
def tasks(source: Source, as_json: Json = False) -> None:
    """List the tasks of the app: queue, where they run, cron, retries, timeout.

    With --database: the tasks that living workers know.

    Example: jobify tasks --app shop.tasks:app
    """
    from jobify.cli.app_loader import load_app_or_advise
    from jobify.cli.output import Column, print_document, print_table
    from jobify.cli.session import open_session
    from jobify.router.registry import build_registry

    if source.database:
        with open_session(source) as session:
            found = _known_to([worker for worker in session.app.workers() if worker.is_at_work])
    else:
        registry = build_registry(load_app_or_advise(source.app))
        endpoints = {endpoint.name: endpoint for endpoint in registry.values()}  # an alias has the same endpoint
        found = [_document(endpoints[name]) for name in sorted(endpoints)]
    if as_json:
        print_document({"tasks": found})
        return
    if source.database:
        columns: tuple[Column, ...] = (Column("TASK", is_kept=True), Column("WORKERS", is_number=True))
        keys: tuple[str, ...] = ("name", "workers")
    else:
        columns = (
            Column("TASK", is_kept=True),
            Column("QUEUE"),
            Column("RUNS IN"),
            Column("CRON"),
            Column("RETRIES", is_number=True, from_width=90),
            Column("TIMEOUT", is_number=True, from_width=90),
            Column("ALIASES", from_width=100),
        )
        keys = ("name", "queue", "run_mode", "cron", "retries", "timeout", "aliases")
    rows = [tuple(_cell(task[key]) for key in keys) for task in found]
    nothing = "No worker runs that knows a task." if source.database else "The app has no tasks."
    print_table(columns, rows, nothing=nothing)


def _known_to(workers: Sequence[WorkerView]) -> list[dict[str, Any]]:
    names = sorted({task for worker in workers for task in worker.tasks})
    return [{"name": name, "workers": sum(name in worker.tasks for worker in workers)} for name in names]


def _document(endpoint: Endpoint) -> dict[str, Any]:
    """The document of a task."""
    return {
        "name": endpoint.name,
        "queue": endpoint.queue,
        "priority": endpoint.priority,
        "run_mode": endpoint.run_mode.value,
        "cron": None if endpoint.cron is None else endpoint.cron.expression,
        "retries": 0 if endpoint.retry is None else endpoint.retry.retries,
        "timeout": endpoint.options.get("timeout"),
        "durable": endpoint.is_durable,
        "aliases": list(endpoint.aliases),
    }


def _cell(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value
