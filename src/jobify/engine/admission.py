"""From a claim to an attempt: which handle it has, and for a schedule, which due time it stands for."""

from __future__ import annotations

from collections.abc import Callable

from jobify.clock import Clock
from jobify.engine.attempt import Attempt, Run
from jobify.engine.backend import Backend
from jobify.engine.completer import Completer
from jobify.engine.handles import Handles
from jobify.engine.lanes import LaneSlots
from jobify.engine.rules import Rules
from jobify.misfire import Plan, plan
from jobify.records import Claim
from jobify.registry import Registry
from jobify.status import Cancelled, Failed, JobStatus
from jobify.zones import CronUnavailableError

__all__ = ("Admission",)


class Admission:
    """Turns claims into attempts and launches them."""

    def __init__(
        self,
        registry: Registry,
        handles: Handles,
        rules: Rules,
        completer: Completer,
        *,
        is_unwanted: Callable[[str], bool],
        launch: Callable[[Attempt], None],
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._handles = handles
        self._rules = rules
        self._completer = completer
        self._is_unwanted = is_unwanted
        self._launch = launch
        self._clock = clock

    def admit(self, backend: Backend, claim: Claim, lane: LaneSlots) -> None:
        """Start what was claimed; its slot is held already."""
        attempt = Attempt.of_claim(
            claim,
            backend=backend,
            endpoint=self._registry[claim.task],
            lane=lane,
            job=self._handles.find(claim.id),
        )
        if attempt.job is not None:  # another process may have run it since the handle last heard of it
            attempt.job.move(claim.due_at, JobStatus.SCHEDULED)
        now = self._clock.now()
        if self._is_unwanted(claim.id):
            self._completer.complete(attempt, Cancelled(), now)
        elif claim.expires_at is not None and claim.expires_at <= max(now, claim.due_at):
            self._completer.complete(attempt, Cancelled("expired"), now)
        elif claim.rule is None:
            self._launch(attempt)
        elif attempt.is_declared and attempt.endpoint.cron is None:  # by a release whose run ended after our start
            self._completer.complete(attempt, Cancelled("no longer declared"), now)
        else:
            self._admit_run(attempt, claim, claim.rule)

    def _admit_run(self, attempt: Attempt, claim: Claim, rule: str) -> None:
        try:
            is_on = self._enter_schedule(attempt, claim, rule)
        except CronUnavailableError as error:
            self._completer.park(attempt, claim, str(error))
        except Exception as error:  # a rule that cannot be read, or a user's cron parser that fails
            self._completer.complete(attempt, Failed(error), self._clock.now())
        else:
            if is_on:
                self._launch(attempt)

    def _enter_schedule(self, attempt: Attempt, claim: Claim, text: str) -> bool:
        """Whether the run takes place: due times that were missed are subject to the rule's misfire policy."""
        rule = self._rules.of_text(text)
        run = attempt.run = Run(
            rule,
            offset_at=claim.due_at if claim.offset_at is None else claim.offset_at,
            run_count=claim.run_count,
            failure_count=claim.failure_count,
        )
        if claim.attempt > 1:
            return True  # a run that has begun is not missed
        if 0 <= rule.cron.max_runs <= run.run_count:  # its rule was changed after so many runs
            self._completer.skip(attempt, run, Plan(None))
            return False
        now = self._clock.now()
        decision = plan(rule.cron.misfire_policy, run.offset_at, now=now, next_due=run.next_due)
        if decision.run_at is None or decision.run_at > max(now, claim.due_at):
            self._completer.skip(attempt, run, decision)
            return False
        run.offset_at = decision.run_at
        run.skipped = decision.skipped
        return True
