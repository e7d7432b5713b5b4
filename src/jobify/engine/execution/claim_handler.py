"""From a claim to an attempt: its handle, and for a schedule, the due time that it stands for.

A claim that no attempt is made of is released: it is due a little later, and not counted. Between a claim and its
attempt the code is short and should not fail. If it does (no memory, a defect) the row must not stay claimed by a
process that does not run it, so it is written as it was before the claim. The write is tried again while the storage
does not take it; at a shutdown the storage takes back whatever this process still holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from jobify.engine.events import EngineEvents
from jobify.engine.execution.arguments import decode_calls, fetch_parent_results
from jobify.engine.execution.attempt import Attempt, ScheduleRun
from jobify.engine.execution.completer import Completer
from jobify.engine.execution.executor import Executor
from jobify.engine.execution.slots import SlotPool
from jobify.exceptions import PayloadError, ResultNotStoredError, shown
from jobify.gateway.backend import Backend
from jobify.gateway.notification import NEW_WORK
from jobify.model.clock import Clock, seconds
from jobify.model.cron_rules import CronRuleCache
from jobify.model.job_options import START_KEY, JobOptions, read_options
from jobify.model.limit_gates import RELEASED_LIMITS, LimitState, SettledLimits
from jobify.model.limit_keys import KeyReader
from jobify.model.misfire import Plan, plan
from jobify.model.records import Claim, JobRecord, Settled, Settlement, SummaryIds
from jobify.model.status import Cancelled, Event, Failed, JobStatus, next_status
from jobify.model.task_options import RunMode
from jobify.model.zones import CronUnavailableError
from jobify.router.registry import Registry
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn
from jobify.types import Microseconds

__all__ = ("ClaimHandler", "ReleasedClaims")

log = get_logger("jobify.engine")

_DUE_IN: Final = 1.0
"""Seconds until a released job is due again: long enough that a defect does not keep the process busy."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_KEY_PAUSE: Final = 0.25
"""Seconds between two looks of a retry whether its unique key is free, once the job that has it is due."""
_RELEASED: Final = next_status(JobStatus.RUNNING, Event.RELEASED).value

Refusal: TypeAlias = Cancelled | Failed | Plan | CronUnavailableError
"""Why a claimed job does not begin."""


class ClaimHandler:
    """Makes attempts of claims, and launches them."""

    def __init__(
        self,
        registry: Registry,
        completer: Completer,
        rules: CronRuleCache,
        released: ReleasedClaims,
        *,
        is_being_cancelled: Callable[[str], bool],
        executor: Executor,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._handles = completer.handles
        self._rules = rules
        self._completer = completer
        self._is_being_cancelled = is_being_cancelled
        self._executor = executor
        self.released = released
        self._clock = clock
        self._reading: set[asyncio.Task[None]] = set()
        """Those that read keys."""

    def count_fitting(self, mode: RunMode, claims: Sequence[Claim], free: int) -> int:
        """How many of ``claims`` to handle; the others are to be released. See :class:`Prefetch`."""
        return self._executor.prefetch.count_fitting(mode, claims, free)

    def handle(self, backend: Backend, claim: Claim, pool: SlotPool) -> None:
        """Start what was claimed; its slot is held already. Never raises: if it cannot begin, both are released."""
        try:
            if claim.limits is LimitState.UNKEYED:
                self._add_keys(backend, claim, pool)
                return
            attempt = Attempt.of_claim(
                claim,
                backend=backend,
                endpoint=self._registry[claim.task],
                pool=pool,
                job=self._handles.find(claim.id),
            )
            now = self._clock.now()
            refusal: Refusal | None = None
            if self._is_being_cancelled(claim.id):
                refusal = Cancelled()
            elif claim.rule is not None or claim.expires_at is not None or attempt.job is not None:
                refusal = self._examine(attempt, claim, now)
            if refusal is None and claim.fence > 1 and claim.options is not None and START_KEY in claim.options:
                self._reading.add(task := spawn(self._begin_if_key_is_free(attempt, claim)))
                task.add_done_callback(self._reading.discard)
                return
        except Exception as error:
            pool.release()
            self.released.release_failed(backend, claim, error)
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

    def _add_keys(self, backend: Backend, claim: Claim, pool: SlotPool) -> None:
        """Put a job back with the keys of its limits, which the process that enqueued it could not read."""
        endpoint, own = self._registry[claim.task], read_options(claim.options)
        attempt = Attempt.of_claim(claim, backend=backend, endpoint=endpoint, pool=pool, job=None)
        keys = endpoint.limit_keys
        if own.inputs is None and keys is not None and not keys.has_all(own):
            self._release_with_keys(attempt, claim, keys, own)
        else:
            self._reading.add(task := spawn(self._read_and_add_keys(attempt, claim, own)))
            task.add_done_callback(self._reading.discard)

    async def _read_and_add_keys(self, attempt: Attempt, claim: Claim, own: JobOptions) -> None:
        """:meth:`_add_keys`, for a job whose first argument comes from other jobs, or whose limits another release has
        declared, with keys that are not known here: paths can be read here, too. It keeps its slot meanwhile."""
        try:
            keys, storage = attempt.endpoint.limit_keys, attempt.backend.storage
            if keys is None or keys.has_all(own):
                limits = await attempt.backend.read(lambda: storage.task_limits([claim.task]).get(claim.task, []))
                paths = {one.key for one in limits if one.key is not None} - own.limit_keys.keys()
                keys = KeyReader.of_paths(claim.task, attempt.endpoint.spec.signature, paths)
            inputs: tuple[Any, ...] = ()
            if own.inputs is not None:
                inputs = (await fetch_parent_results(attempt, own.inputs, self._registry),)
            self._release_with_keys(attempt, claim, keys, own, *inputs)
        except ResultNotStoredError as error:
            self._end(attempt, error)
        except Exception as error:
            attempt.free_slot()
            self.released.release_failed(attempt.backend, claim, error)

    def _release_with_keys(
        self, attempt: Attempt, claim: Claim, keys: KeyReader, own: JobOptions, *inputs: Any
    ) -> None:
        try:
            options = keys.options(*decode_calls(attempt, *inputs)[-1], own)
        except PayloadError as error:
            self._end(attempt, error)
            return
        attempt.free_slot()
        self.released.release(attempt.backend, claim, options=options)

    def _end(self, attempt: Attempt, error: Exception) -> None:
        """The job ends as it would if it had begun: it fails, or waits for other code."""
        now = self._clock.now()
        self._completer.complete(attempt, self._completer.decide(attempt, None, error, now), now)

    async def _begin_if_key_is_free(self, attempt: Attempt, claim: Claim) -> None:
        """Begin a job that has given its unique key up at an earlier start; while another one has it, that goes first.
        It keeps its slot meanwhile."""
        backend = attempt.backend
        try:
            key = read_options(claim.options).start_key
            other, is_cancelled = await backend.gate.call(partial(_look, backend, claim.id, key), flush=False)
        except Exception as error:
            attempt.free_slot()
            self.released.release_failed(backend, claim, error)
            return
        now = self._clock.now()
        if other is not None and not is_cancelled:
            attempt.free_slot()
            due_at = max(other.due_at, now) + seconds(_KEY_PAUSE)
            self.released.postpone(backend, claim, due_at, f"job {other.id} has its unique key and goes first")
        elif is_cancelled:
            self._completer.complete(attempt, Cancelled(), now)
        else:
            self._executor.launch_when_due(attempt)

    def _examine(self, attempt: Attempt, claim: Claim, now: Microseconds) -> Refusal | None:
        """Why the attempt is not made. None means that it is."""
        if attempt.job is not None:  # another process may have run it since the handle was last updated
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
        """Apply the misfire policy of the rule to missed due times. A plan is returned if the run does not happen."""
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


class ReleasedClaims:
    """Releases claims of which no attempt was made."""

    def __init__(self, events: EngineEvents, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._failures = FailureLog(log, "")

    def release_failed(self, backend: Backend, claim: Claim, error: BaseException) -> None:
        """Release ``claim``, whose attempt could not be made because of ``error``. Never raises; frees no slot."""
        message = "Job %s (%s) cannot begin and is released: %r"
        self._failures.warn(self, message, claim.id, claim.task, error)
        due_at = self._clock.now() + seconds(_DUE_IN)
        self.postpone(backend, claim, due_at, f"could not begin: {type(error).__name__}: {shown(error)}")

    def postpone(self, backend: Backend, claim: Claim, due_at: Microseconds, why: str) -> None:
        """Release ``claim``, to be due at this time. Never raises; frees no slot."""
        settlement = _released(backend, claim, due_at=due_at)
        self._write(backend, settlement._replace(ready=False, error=why), _FIRST_PAUSE)

    def release(self, backend: Backend, claim: Claim, *, options: str | None = None) -> None:
        """Release ``claim`` as it was, to be run later or by another process; ``options``: with these from now on.
        Never raises; frees no slot."""
        settlement = _released(backend, claim, due_at=claim.due_at)
        if options is not None:
            settlement = settlement._replace(limits=SettledLimits(options=options))
        self._write(backend, settlement, _FIRST_PAUSE)

    def _write(self, backend: Backend, settlement: Settlement, pause: float) -> None:
        audience = NEW_WORK if settlement.ready else None
        try:
            backend.gate.settle(settlement, partial(self._on_answer, backend, settlement, pause), audience=audience)
        except Exception as error:
            self._on_answer(backend, settlement, pause, error)

    def _on_answer(self, backend: Backend, settlement: Settlement, pause: float, answer: Any) -> None:
        if isinstance(answer, Exception):
            longer = min(pause * 2, _LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self._write, backend, settlement, longer)
        elif answer is not Settled.REFUSED:
            self._events.job_due(backend, settlement.due_at)


def _look(backend: Backend, id: str, key: str | None) -> tuple[JobRecord | None, bool]:
    """The job that has this unique key; and whether the cancel of job ``id`` was requested."""
    storage = backend.storage
    other = None if key is None else storage.find_unique(key)
    found = () if other in (None, id) else storage.get(SummaryIds((other,)))
    return next(iter(found), None), id in storage.cancel_requests(backend.owner)


def _released(backend: Backend, claim: Claim, *, due_at: Microseconds) -> Settlement:
    return Settlement(
        status=_RELEASED,
        ready=True,
        due_at=due_at,
        offset_at=claim.due_at if claim.rule is not None and claim.offset_at is None else claim.offset_at,
        attempt=max(0, claim.attempt - 1),
        run_count=claim.run_count,
        failure_count=claim.failure_count,
        result=None,
        error=None,
        finished_at=None,
        delete_at=None,
        is_dead=False,
        is_lost=False,
        id=claim.id,
        owner=backend.owner,
        fence=claim.fence,
        limits=RELEASED_LIMITS if claim.limits else None,
    )
