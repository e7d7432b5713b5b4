"""``jobify tasks``: which tasks there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobify.cli.options import Json, Source, for_jobs

if TYPE_CHECKING:
    from jobify.client.views import WorkerView
    from jobify.router.registry import Endpoint

__all__ = ("tasks",)


@for_jobs
def tasks(source: Source, as_json: Json = False) -> None:
    """List the tasks of the app: queue, where they run, cron, retries, timeout.

    With --database: those that the living workers know.

    Example: jobify tasks --app shop.tasks:app
    """
    from jobify.cli.app_loader import load_app_or_advise
    from jobify.cli.output import Column, print_document, print_table
    from jobify.cli.session import open_session
    from jobify.router.registry import build_registry

    if source.database:
        with open_session(*source) as session:
            found = _known_to([worker for worker in session.app.workers() if worker.is_at_work])
    else:
        registry = build_registry(load_app_or_advise(source.app))
        endpoints = {endpoint.name: endpoint for endpoint in registry.values()}  # an alias leads to the same one
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
    """What there is to know about a task."""
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
