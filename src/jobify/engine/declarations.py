"""Crons that are declared in code: at a start, the database is brought in line with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from jobify.clock import Clock
from jobify.engine.backend import Backend
from jobify.engine.placing import declare
from jobify.engine.rules import Rules
from jobify.exceptions import InvalidCronError
from jobify.records import JobQuery, NewJob
from jobify.registry import DECLARED_SUFFIX, Endpoint, Registry
from jobify.status import ENDED, JobStatus

__all__ = ("bring_in_line", "report_unknown")

log = logging.getLogger("jobify.engine")


async def bring_in_line(backend: Backend, endpoints: list[Endpoint], rules: Rules, clock: Clock) -> None:
    """Store the declared crons of ``endpoints``, and remove those that are declared no longer."""
    rows = [
        (row, endpoint.cron)
        for endpoint in endpoints
        for row in _rows(backend, endpoint, rules, clock)
        if endpoint.cron
    ]
    gone = [endpoint.name + DECLARED_SUFFIX for endpoint in endpoints if endpoint.cron is None]
    storage = backend.storage
    if rows:
        await backend.gate.call(lambda: declare(storage, rows))
    if gone:
        await backend.gate.call(lambda: storage.delete(gone))


def _rows(backend: Backend, endpoint: Endpoint, rules: Rules, clock: Clock) -> Iterator[NewJob]:
    if endpoint.cron is None:
        return
    now = clock.now()
    rule = rules.of_cron(endpoint.cron)
    try:
        due_at = rules.first_due(rule, now=now)
    except (
        InvalidCronError
    ) as error:  # its last date is past: it was right once, and must not keep the app from starting
        log.warning("The cron of task %s runs no more: %s", endpoint.name, error)
        return
    yield NewJob(
        id=endpoint.name + DECLARED_SUFFIX,
        task=endpoint.name,
        queue="default",
        priority=0,
        status=JobStatus.SCHEDULED.value,
        ready=due_at <= now,
        due_at=due_at,
        created_at=now,
        payload=backend.encode_call(endpoint, endpoint.cron.args, endpoint.cron.kwargs),
        rule=rule.text,
        offset_at=due_at,
        options=None,
        origin=None,
        owner=None,
        fence=0,
        attempt=0,
        started_at=None,
    )


async def report_unknown(backend: Backend, registry: Registry) -> None:
    """Warn of unfinished jobs whose task this app does not know. They stay where they are, for an app that does."""
    active = tuple(status.value for status in JobStatus if status not in ENDED)
    counts = await backend.gate.call(lambda: backend.storage.count(JobQuery(statuses=active)))
    unknown: dict[str, int] = {}
    for (task, _, _), count in counts.items():
        if task not in registry:
            unknown[task] = unknown.get(task, 0) + count
    for task, count in sorted(unknown.items()):
        log.warning(
            "The database holds %d unfinished jobs of task %r, which this app does not have. They are kept, and "
            "wait for an app that has it.",
            count,
            task,
        )
