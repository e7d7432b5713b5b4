"""Sync crons that are declared in code to the database, at each start."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from jobify.config import JobifyConfiguration
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.service import Periodic
from jobify.exceptions import InvalidCronError
from jobify.gateway.backend import Backend
from jobify.jobs.context import OuterContext
from jobify.jobs.replacement import (
    DeclaredSchedule,
    is_up_to_date,
    options_with_request_digest,
    upsert_schedules,
)
from jobify.jobs.row_builder import schedule_row
from jobify.jobs.schedule_builder import PushRequest
from jobify.model.clock import Clock
from jobify.model.cron import Cron, is_stopped, rule_as_written
from jobify.model.cron_rules import CronRule, CronRuleCache
from jobify.model.records import JobRecord, NewJob, SummaryIds
from jobify.model.status import JobStatus
from jobify.router.outer_chain import OuterCall, run_outer
from jobify.router.registry import Endpoint
from jobify.runtime.logs import get_logger

__all__ = ("FormerDeclarations", "sync_declared_schedules")

log = get_logger("jobify.engine")

_INTERVAL = 2.0
"""Seconds between two checks for schedules that an older release has declared."""


class _Declaration(NamedTuple):
    endpoint: Endpoint
    cron: Cron
    rule: CronRule
    row: NewJob

    def declared(self, row: NewJob | None = None) -> DeclaredSchedule:
        endpoint = self.endpoint
        return DeclaredSchedule(row or self.row, self.cron, endpoint.fingerprint, endpoint.former_declared_ids)


async def sync_declared_schedules(
    backend: Backend,
    endpoints: list[Endpoint],
    *,
    rules: CronRuleCache,
    handles: HandleRegistry,
    config: JobifyConfiguration,
    clock: Clock,
) -> None:
    """Store the declared crons of ``endpoints``, and delete those that are no longer declared.

    Outer middleware runs for those that are new or changed.
    """
    storage = backend.storage
    declarations = list(_declarations(backend, endpoints, rules, clock))
    plain = [declared.declared() for declared in declarations if not declared.endpoint.outer]
    gone = [id for endpoint in endpoints if endpoint.cron is None for id in _declared_ids(endpoint)]
    if plain:
        _report(await backend.gate.call(lambda: upsert_schedules(storage, plain)), declarations)
    for declared in declarations:
        if declared.endpoint.outer:
            await _sync_through_outer_chain(backend, declared, handles, config)
    if gone:
        now = clock.now()
        delete_at = config.limits.retention.cancelled_until(now)
        await backend.gate.call(lambda: storage.delete(gone, now=now, delete_at=delete_at))


async def _sync_through_outer_chain(
    backend: Backend, declared: _Declaration, handles: HandleRegistry, config: JobifyConfiguration
) -> None:
    """Store one declared cron through its outer middleware."""
    endpoint, cron, rule, row = declared
    storage = backend.storage
    if await backend.gate.call(lambda: is_up_to_date(storage, declared.declared())):
        return
    before = next(iter(await backend.gate.call(lambda: storage.get(SummaryIds((row.id,))))), None)
    order = PushRequest(endpoint.name, cron.args, cron.kwargs, cron=cron, job_id=row.id, is_replace=before is not None)
    job = handles.make(row.id, row.due_at, JobStatus.PENDING)

    async def store(context: OuterContext) -> None:
        payload = backend.codec.encode_call(*context.runnable.call_arguments(), endpoint.types)
        changed = row._replace(payload=payload, options=options_with_request_digest(row))
        _report(await backend.gate.call(lambda: upsert_schedules(storage, [declared.declared(changed)])), [declared])
        job.status = JobStatus.SCHEDULED
        handles.attach_schedule(job, rule, before.run_count if before else 0, before.failure_count if before else 0)
        handles.add(job)

    await run_outer(
        OuterCall(endpoint, job, order, cron, row.due_at, row.created_at, backend.is_durable), store, config
    )


def _declared_ids(endpoint: Endpoint) -> tuple[str, ...]:
    """The ids that a declared cron of the task has, or had."""
    return (endpoint.declared_id, *endpoint.former_declared_ids)


def _report(before: list[JobRecord], declarations: list[_Declaration]) -> None:
    """Log the stopped crons that run again, and changes of zone: two apps may declare one task in different zones."""
    rules = {declared.row.id: declared.rule.text for declared in declarations}
    for record in before:
        if is_stopped(record):
            log.info(
                "The cron of task %s runs again: it was stopped by its failures, and its rule or its code has changed.",
                record.task,
            )
        old, new = (rule_as_written(text).get("zone") for text in (record.rule, rules[record.id]))
        if old != new:
            log.warning(
                "The cron of task %s goes by the zone %s from now on, as this app declares it; it went by %s.",
                record.task, new, old,
            )  # fmt: skip


def _declarations(
    backend: Backend, endpoints: list[Endpoint], rules: CronRuleCache, clock: Clock
) -> Iterator[_Declaration]:
    now = clock.now()
    for endpoint in endpoints:
        if endpoint.cron is None:
            continue
        rule = rules.of_cron(endpoint.cron)
        try:
            due_at = rules.first_due(rule, now=now)
        except InvalidCronError as error:
            # Its last date is past: it was valid once, and must not keep the app from starting.
            log.warning("The cron of task %s runs no more: %s", endpoint.name, error)
            continue
        payload = backend.codec.encode_call(endpoint.cron.args, endpoint.cron.kwargs, endpoint.types)
        row = schedule_row(endpoint, endpoint.declared_id, payload, rule.text, due_at, now)
        yield _Declaration(endpoint, endpoint.cron, rule, row)


class FormerDeclarations(Periodic):
    """Deletes crons that were declared under earlier names of tasks, so that no task runs by two schedules.

    They were running at the start of this process, or a worker of an older release declares them while both run.
    """

    def __init__(self, backend: Backend, endpoints: list[Endpoint], clock: Clock) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._clock = clock
        self._ids = tuple(id for endpoint in endpoints for id in endpoint.former_declared_ids)

    async def run(self) -> None:
        if self._ids:
            await super().run()

    async def step(self) -> None:
        storage, now = self._backend.storage, self._clock.now()
        if await self._backend.read(partial(storage.get, self._ids)):
            removed = await self._backend.gate.call(lambda: storage.delete(self._ids, now=now, delete_at=None))
            if removed:
                log.info("Removed %d crons that were declared under earlier names of their tasks.", removed)
