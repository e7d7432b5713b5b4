"""``jobify workers`` and ``jobify stats``: who is there, and how many jobs there are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jobify.cli.options import Json, Queue, Source, Task, for_jobs

if TYPE_CHECKING:
    from jobify.client.views import WorkerView
    from jobify.types import Microseconds

__all__ = ("stats", "workers")


@for_jobs
def workers(
    source: Source,
    everybody: Annotated[
        bool, typer.Option("--all", help="Also processes that only wait for jobs, and dead ones not yet buried.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the workers: what they serve, what they run."""
    from jobify.cli.documents import worker_document
    from jobify.cli.output import print_document, print_note
    from jobify.cli.session import open_session

    with open_session(*source, may_be_missing=True) as session:
        found = [worker for worker in session.app.workers() if everybody or worker.is_at_work]
        now, database = session.app.now(), session.database
    if as_json:
        print_document({"database": database, "workers": [worker_document(worker) for worker in found]})
        return
    print_note(f"Database: {database}")
    _print_workers(found, now, has_others=everybody)


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
            one.role if one.is_alive else "dead",
            "all" if one.queues is None else ", ".join(one.queues),
            len(one.tasks),
            f"{one.concurrency} async",  # threads and processes have their own
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
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Count jobs by status."""
    from jobify.cli.filters import Filters
    from jobify.cli.output import print_document
    from jobify.cli.session import open_session
    from jobify.model.public_status import counts_by_name, counts_by_status

    part = _breakdown(by)
    with open_session(*source, may_be_missing=not watch) as session:
        asked = Filters(task=task, queue=queue).read(session.app)

        def show() -> None:
            counts = session.queries.counts(asked)
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
            sys.stdout.flush()  # whoever reads a pipe waits for it
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
