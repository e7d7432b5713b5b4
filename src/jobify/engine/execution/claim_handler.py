"""From a claim to an attempt: which handle it has, and for a schedule, which due time it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jobify.engine.execution.attempt import Attempt, ScheduleRun
from jobify.engine.execution.completer import Completer
from jobify.engine.execution.executor import Executor
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.slots import SlotPool
from jobify.gateway.backend import Backend
from jobify.model.clock import Clock
from jobify.model.cron_rules import CronRuleCache
from jobify.model.misfire import Plan, plan
from jobify.model.records import Claim
from jobify.model.status import Cancelled, Failed, JobStatus
from jobify.model.zones import CronUnavailableError
from jobify.router.registry import Registry
from jobify.types import Microseconds

__all__ = ("ClaimHandler",)

Refusal: TypeAlias = Cancelled | Failed | Plan | CronUnavailableError
"""Why a claimed job does not begin."""


class ClaimHandler:
    """Turns claims into attempts and launches them."""

    def __init__(
        self,
        registry: Registry,
        handles: HandleRegistry,
        rules: CronRuleCache,
        completer: Completer,
        *,
        is_unwanted: Callable[[str], bool],
        executor: Executor,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._handles = handles
        self._rules = rules
        self._completer = completer
        self._is_being_cancelled = is_unwanted
        self._executor = executor
        self._clock = clock

    def handle(self, backend: Backend, claim: Claim, lane: SlotPool) -> None:
        """Start what was claimed; its slot is held already. Never raises: what cannot begin gives both back."""
        try:
            attempt = Attempt.of_claim(
                claim,
                backend=backend,
                endpoint=self._registry[claim.task],
                lane=lane,
                job=self._handles.find(claim.id),
            )
            now = self._clock.now()
            refusal: Refusal | None = None
            if self._is_being_cancelled(claim.id):
                refusal = Cancelled()
            elif claim.rule is not None or claim.expires_at is not None or attempt.job is not None:
                refusal = self._examine(attempt, claim, now)
        except Exception as error:
            lane.release()
            self._executor.released.release_failed(backend, claim, error)
            return
        if refusal is None:
            self._executor.launch_when_due(attempt)
        elif isinstance(refusal, Plan):
            assert attempt.run is not None
            self._completer.skip(attempt, attempt.run, refusal)
        elif isinstance(refusal, CronUnavailableError):
            self._completer.park(attempt, claim, str(refusal))
        else:
            self._completer.complete(attempt, refusal, now)

    def _examine(self, attempt: Attempt, claim: Claim, now: Microseconds) -> Refusal | None:
        """Why the attempt is not made; None: it is."""
        if attempt.job is not None:  # another process may have run it since the handle last heard of it
            attempt.job.reschedule(claim.due_at, JobStatus.SCHEDULED)
        if claim.expires_at is not None and claim.expires_at <= max(now, claim.due_at):
            return Cancelled("expired")
        if claim.rule is None:
            return None
        if attempt.is_declared and attempt.endpoint.cron is None:  # by a release whose run ended after our start
            return Cancelled("no longer declared")
        if claim.id in attempt.endpoint.former_declared_ids:  # by a worker of an older release, which knows one name
            return Cancelled(f"declared as {attempt.endpoint.name}")
        try:
            return self._start_schedule_run(attempt, claim, claim.rule)
        except CronUnavailableError as error:
            return error
        except Exception as error:  # a rule that cannot be read, or a user's cron parser that fails
            return Failed(error, is_dead=True)

    def _start_schedule_run(self, attempt: Attempt, claim: Claim, text: str) -> Plan | None:
        """What is skipped instead of the run, if it does not take place: due times that were missed are subject to the
        rule's misfire policy."""
        rule = self._rules.of_text(text)
        run = attempt.run = ScheduleRun(
            rule,
            offset_at=claim.due_at if claim.offset_at is None else claim.offset_at,
            run_count=claim.run_count,
            failure_count=claim.failure_count,
        )
        if claim.attempt > 1 or (claim.is_snoozed and claim.due_at > run.offset_at):
            return None  # a run that has begun is not missed
        if 0 <= rule.cron.max_runs <= run.run_count:  # its rule was changed after so many runs
            return Plan(None)
        now = self._clock.now()
        decision = plan(rule.cron.misfire_policy, run.offset_at, now=now, next_due=run.next_due)
        if decision.run_at is None or decision.run_at > max(now, claim.due_at):
            return decision
        run.offset_at = decision.run_at
        run.skipped = decision.skipped
        return None
