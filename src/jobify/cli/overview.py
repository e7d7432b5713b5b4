"""``jobify workers`` and ``jobify stats``: who is there, and how many jobs there are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobify.cli.options import App, Json, Queue, Task

if TYPE_CHECKING:
    from jobify.cli.desk import Desk
    from jobify.records import OwnerRecord

__all__ = ("running_by_owner", "stats", "workers")


def workers(
    app: App = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Also processes that only wait for jobs, and dead ones not yet buried.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the workers: what they serve, what they run."""
    from jobify.cli.desk import open_desk
    from jobify.cli.output import print_document
    from jobify.cli.records import worker_document

    with open_desk(app) as desk:
        owners = desk.storage.owners() if everybody else desk.workers()
        running = running_by_owner(desk, owners)
        now = desk.now()
    if as_json:
        print_document({"workers": [worker_document(one, running[one.id]) for one in owners]})
        return
    from jobify.cli.moments import until
    from jobify.cli.output import Column, print_table

    columns = (
        Column("PROCESS", is_number=True, is_kept=True),
        Column("HOST", from_width=110),
        Column("ROLE", from_width=0 if everybody else 1_000),
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
            one.profile.role.value if one.is_alive else "dead",
            "all" if one.profile.queues is None else ", ".join(one.profile.queues),
            len(one.profile.tasks),
            one.profile.concurrency,
            running[one.id],
            until(one.started_at, now=now),
            until(one.seen_at, now=now),
        )
        for one in owners
    ]
    print_table(columns, rows, nothing="No worker runs. Start one: jobify worker package.module:app")


def running_by_owner(desk: Desk, owners: Sequence[OwnerRecord]) -> dict[int, int]:
    """How many jobs each of them runs."""
    from jobify.records import JobQuery

    return {one.id: sum(desk.storage.count(JobQuery(owner=one.id)).values()) for one in owners}


def stats(
    app: App = None,
    task: Task = None,
    queue: Queue = None,
    by: Annotated[str, typer.Option("--by", help="Break down by queue or by task.", metavar="queue|task")] = "queue",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Count jobs by status."""
    from jobify.cli.desk import open_desk
    from jobify.cli.output import print_document

    _check_breakdown(by)
    with open_desk(app) as desk:
        while True:
            totals, parts = _counts(desk, by, task, queue)
            if as_json:
                print_document({"totals": totals, f"by_{by}": parts})
            else:
                _print_counts(totals, parts, by, is_cleared=watch)
            if not watch:
                return
            time.sleep(every)


def _check_breakdown(by: str) -> None:
    if by not in ("queue", "task"):
        from jobify.cli.errors import CommandError
        from jobify.exits import ExitCode

        raise CommandError(f"--by {by!r}: write queue or task.", ExitCode.USAGE)


def _counts(
    desk: Desk, by: str, tasks: list[str] | None, queues: list[str] | None
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    from jobify.records import JobQuery
    from jobify.words import counts_by_word

    query = JobQuery(tasks=tuple(tasks) if tasks else None, queues=tuple(queues) if queues else None)
    counts = desk.storage.count(query)
    names = sorted({getattr(key, by) for key in counts})
    parts = {name: counts_by_word({k: n for k, n in counts.items() if getattr(k, by) == name}) for name in names}
    return counts_by_word(counts), parts


def _print_counts(totals: dict[str, int], parts: dict[str, dict[str, int]], by: str, *, is_cleared: bool) -> None:
    from jobify.cli.output import Column, is_terminal, print_table
    from jobify.words import WORDS

    if is_cleared and is_terminal():
        print("\x1b[2J\x1b[H", end="")
    columns = (Column(by.upper()), *(Column(word.upper(), is_number=True) for word in WORDS))
    rows: list[tuple[Any, ...]] = [(name, *(counts[word] for word in WORDS)) for name, counts in parts.items()]
    print_table(columns, [*rows, ("(all)", *(totals[word] for word in WORDS))], nothing="")
