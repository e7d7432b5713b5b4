"""Outcomes → storage → handles. Grouped with other writes, and retried while the storage is unavailable.

The end of an attempt is recorded here by a plain call: there is no await at which a cancel could lose it. The handle is
updated after the outcome is stored, so that a result that was seen survives a power cut.

Two things end the retries: a database that was replaced, and a shutdown that has waited for half a minute. Such an
outcome counts as lost: its handle gets the error, and the job runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from msgspec import Struct

from jobify.config import Limits
from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import Attempt, RunningAttempts, ScheduleRun
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.job_completion import Committed
from jobify.engine.execution.job_log import JobLog
from jobify.engine.execution.lingering import LingeringThreads
from jobify.engine.execution.outcome import (
    Encoded,
    classify,
    death_of_child,
    doubted,
    encode,
    encode_in_thread,
    takes_long,
)
from jobify.engine.execution.settlement import (
    audience_of,
    build_settlement,
    park_settlement,
    skip_settlement,
    success_delete_at,
    truncated,
)
from jobify.exceptions import (
    BaseJobifyError,
    PayloadError,
    ResultNotStoredError,
    StorageLostError,
    StorageUnavailableError,
    shown,
)
from jobify.gateway.inline import InlineGateway
from jobify.gateway.notification import JOB_ENDED, STATE_CHANGED
from jobify.model.clock import Clock
from jobify.model.misfire import Plan
from jobify.model.records import Claim, Settled, Settlement
from jobify.model.status import (
    Failed,
    JobStatus,
    Outcome,
    Refused,
    Released,
    RetryAt,
    Returned,
    Skipped,
    Snoozed,
    Succeeded,
)
from jobify.model.tracebacks import own_traceback
from jobify.model.transient import refusal_of
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import Lines, get_logger
from jobify.runtime.spawn import spawn_lasting
from jobify.serializers.offload import SMALL
from jobify.types import UNSET, Microseconds

__all__ = ("Completer", "PendingOutcome")

log = get_logger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_RECHECK: Final = 1.0
_CASCADED, _FREED = Settled.CASCADED, Settled.FREED
_PATIENCE: Final = 30.0
"""Seconds that a shutdown gives a storage that does not answer."""
_NAMED: Final = 5
"""Jobs whose ids the log line of lost outcomes names."""


class Completer:
    """Settles ended attempts."""

    def __init__(
        self,
        handles: HandleRegistry,
        job_log: JobLog,
        attempts: RunningAttempts,
        events: EngineEvents,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self.handles = handles
        self.job_log = job_log
        self.attempts = attempts
        self.events = events
        self.retention = limits.retention
        self.unsaved: dict[int, tuple[Attempt, Exception]] = {}
        """The outcomes that the storage did not take at the last try, by the id of their attempt."""
        self.max_crashes = limits.max_crashes
        self.lingering = LingeringThreads(attempts, events, clock, self._store)
        self._clock = clock
        self._refusals = FailureLog(log, "")
        self._open = 0
        """How many outcomes are not stored yet."""
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._has_given_up = False
        self._is_closed = False
        self._lost: list[str] = []
        """The jobs whose outcomes no storage has taken; they run again."""
        self._last_error: Exception | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def count_unsaved(self) -> int:
        """How many outcomes the storage has not taken: the lost ones, and those that it refused so far."""
        return len(self._lost) + len(self.unsaved)

    async def idle(self) -> None:
        """Return when every outcome recorded so far is stored."""
        await self._is_idle.wait()

    async def drain(self) -> None:
        """Return when every outcome is stored, or given up after half a minute in which the storage took none."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE
        while self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECHECK):
                    await self._is_idle.wait()
            if clock() >= deadline and self._open == len(self.unsaved):
                self._has_given_up = True
                for attempt, error in list(self.unsaved.values()):
                    self.lose(attempt, error)
                self.unsaved.clear()

    def report_lost(self) -> None:
        """Log the lost outcomes, in one line."""
        if self._lost:
            some = ", ".join(self._lost[:_NAMED]) + (", ..." if len(self._lost) > _NAMED else "")
            message = (
                "The outcomes of %d jobs could not be stored, and are lost (%s); the jobs run again. Last error: %s"
            )
            log.error(message, len(self._lost), some, self._last_error)

    def close(self) -> None:
        """The storage is closed: an outcome that comes now is lost, and its job runs again."""
        self._is_closed = True

    # -- the end of an attempt -----------------------------------------------------------------------------------------

    def decide(self, attempt: Attempt, value: Any, error: BaseException | None, now: Microseconds) -> Outcome:
        """The outcome of an attempt that comes to this end. Never raises, because the job would not be settled."""
        try:
            return classify(attempt, value, error, now=now, max_crashes=self.max_crashes)
        except Exception as problem:  # of the user's code, such as a retry policy
            message = "The retry policy of job %s raised an error; the job fails.\n%s"
            log.error(message, attempt.id, Lines(own_traceback(problem)))
            return Failed(problem)

    def complete(self, attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
        """Store the outcome of an attempt. Its slot is free at once, unless its thread still runs. Never raises."""
        inline = attempt.backend.inline
        if inline is not None and type(outcome) is Succeeded and self._end_unwritten(attempt, outcome, now, inline):
            return
        self._track(attempt)
        if attempt.committed is not None:  # whatever the task did after that
            outcome = Succeeded(attempt.committed.value)
        if attempt.call is not None and attempt.call.is_running:
            is_tried_again = _is_tried_again(attempt, outcome)
            self.lingering.wait_for(attempt, attempt.call, outcome, is_tried_again=is_tried_again)
        else:
            if attempt.waits:
                attempt.free_slot()
            else:  # free_slot() for nearly every job, without the call
                attempt.has_slot = False
                attempt.pool.release()
            if not (
                type(outcome) is Succeeded and type(outcome.value) in SMALL and self._settle_fast(attempt, outcome, now)
            ):
                PendingOutcome(self, attempt, outcome, now).settle()

    def _end_unwritten(self, attempt: Attempt, outcome: Succeeded, now: Microseconds, inline: InlineGateway) -> bool:
        """Fast path of everything from :meth:`complete` to :meth:`on_stored`, for a job in memory that has no row yet:
        nothing is written, so nothing is waited for. Return False for anything else."""
        job = attempt.job
        if job is None or attempt.call is not None or attempt.is_logged or attempt.waits or attempt.reports is not None:
            return False
        result = (outcome.value,)  # as ObjectCodec encodes it
        delete_at = success_delete_at(attempt, now=now, retention=self.retention)
        if not inline.end_unwritten(attempt.id, result, finished_at=now, delete_at=delete_at):
            return False
        attempt.has_slot = False
        attempt.pool.release()
        job.set_result(outcome.value, status=JobStatus.SUCCESS)
        if attempt.slot is not None:
            self.attempts.release_begun(attempt)
        self.events.jobs_changed.set()
        attempt.job, attempt.args, attempt.kwargs = None, UNSET, {}
        return True

    def _settle_fast(self, attempt: Attempt, outcome: Succeeded, now: Microseconds) -> bool:
        """Fast path of :meth:`PendingOutcome.settle` for nearly every job: a success with a small value, in one call
        instead of six. Return False for anything else."""
        if attempt.reports is not None or attempt.run is not None:
            return False
        try:
            result = attempt.backend.codec.encode_result(outcome.value, attempt.endpoint.spec.result_type)
            settlement = build_settlement(attempt, outcome, result, now=now, retention=self.retention)
        except Exception:  # the usual path logs it, and tries again
            return False
        PendingOutcome(self, attempt, outcome, now, settlement).write()
        return True

    def success_of(self, attempt: Attempt, value: Any) -> Settlement:
        """The settlement of an attempt that ends with ``value``; PayloadError if that cannot be stored."""
        outcome = Succeeded(value)
        result, problem = encode(attempt, outcome)
        if problem is not None:
            raise PayloadError(f"The result of job {attempt.id!r} cannot be stored: {problem}")
        settlement = build_settlement(attempt, outcome, result, now=self._clock.now(), retention=self.retention)
        return settlement._replace(limits=None)  # they are locked in no transaction of a user: see LingeringThreads

    def _store(self, attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
        PendingOutcome(self, attempt, outcome, now).settle()

    def skip(self, attempt: Attempt, run: ScheduleRun, decision: Plan) -> None:
        """Store that a claimed schedule does not run, because its misfire policy skips the due time."""
        self._write_unstarted(attempt, skip_settlement(attempt, run, decision, now=self._clock.now()))

    def park(self, attempt: Attempt, claim: Claim, reason: str) -> None:
        """Release a claimed schedule that this process cannot read, for a process that can. No attempt is counted."""
        self.job_log.parked(attempt, reason)
        self._write_unstarted(attempt, park_settlement(attempt, claim, reason, now=self._clock.now()))

    def _write_unstarted(self, attempt: Attempt, settlement: Settlement) -> None:
        self._track(attempt)
        attempt.free_slot()
        PendingOutcome(self, attempt, Skipped(), 0, settlement).write()

    # -- the answer of the storage -------------------------------------------------------------------------------------

    def on_stored(self, attempt: Attempt, outcome: Outcome, settlement: Settlement, settled: Settled) -> None:
        """The outcome is stored: log it, update the handle, and have the dispatcher expect what comes next."""
        if type(outcome) is not Succeeded or attempt.is_logged:
            self.job_log.ended(attempt, outcome, settlement)
        try:
            if type(outcome) is not Succeeded or attempt.job is None or attempt.run is not None or attempt.is_replaced:
                self.handles.update(attempt, outcome, settlement)
            else:  # the same for nearly every job, without the call
                attempt.job.set_result(outcome.value, status=JobStatus.SUCCESS)
        except Exception as error:  # no memory, or a defect: the watcher updates the handle from the row
            log.error("The handle of job %s was not updated: %r", attempt.id, error)
            if attempt.job is not None:
                self.handles.add(attempt.job)
            self.events.storage_changed(attempt.backend)
        if attempt.is_replaced or settled is _CASCADED:
            self.events.storage_changed(attempt.backend)
        elif settled is _FREED:  # a job may go on that waits for the limit
            self.events.job_due(attempt.backend, min(attempt.due_at, settlement.due_at))
        elif settlement.finished_at is None and settlement.parking is None:
            self.events.job_due(attempt.backend, settlement.due_at)
        self.events.jobs_changed.set()
        self.untrack(attempt)

    def on_refused(self, attempt: Attempt) -> None:
        """The claim no longer holds: the row was deleted, or taken from this process. The row says how the job ends."""
        message = "Job %s was taken from this process while it ran; its outcome is refused."
        self._refusals.warn(self, message, attempt.id)
        if attempt.id not in self.attempts.running:  # else it came back, and its handle belongs to the later attempt
            self.handles.release(attempt)
        self.untrack(attempt)
        self.events.storage_changed(attempt.backend)

    def is_final(self, attempt: Attempt, error: Exception) -> bool:
        """Handle an error that ends the retries; return False for any other error."""
        if isinstance(error, StorageLostError):
            self.lose(attempt, error)
            self.events.storage_lost(error)
        elif self._has_given_up:
            pass
        elif self._is_closed:
            log.warning("Job %s ended after its app had stopped; it runs again.", attempt.id)
            self.lose(attempt, error)
        else:
            return False
        return True

    def lose(self, attempt: Attempt, error: Exception) -> None:
        """End the attempt without an outcome: a success that no storage holds is not reported."""
        log.debug("The outcome of job %s is lost.", attempt.id)
        self._lost.append(attempt.id)
        self._last_error = error
        if attempt.job is not None:
            attempt.job.end(JobStatus.CANCELLED, error)
        self.untrack(attempt)

    def _track(self, attempt: Attempt) -> None:
        if attempt.job is not None:
            attempt.job.is_settling = True
        if not self._open:
            self._is_idle.clear()
        self._open += 1

    def untrack(self, attempt: Attempt) -> None:
        """The attempt is settled, or lost."""
        # The frames of an error's traceback lead to the attempt, and the handle leads to the error. Attempts are out of
        # the garbage collector's sight, so a circle through one would stay for ever.
        if attempt.job is not None:
            attempt.job.is_settling = False
        attempt.job, attempt.args, attempt.kwargs = None, UNSET, {}
        if attempt.slot is not None and (attempt.call is None or not attempt.call.is_running):
            self.attempts.release_begun(attempt)
        if attempt.reports is not None:
            attempt.reports.close()
        if self.unsaved:
            self.unsaved.pop(id(attempt), None)
            if not self.unsaved and not self._has_given_up:
                attempt.backend.failures.succeeded(self)
        self._open -= 1
        if not self._open:
            self._is_idle.set()


class PendingOutcome(Struct, eq=False, gc=False):
    """The outcome of an attempt on its way to the storage: reports → encoded result → settlement → write → answer.

    (For ``gc=False`` see :class:`~jobify.jobs.schedule_builder.PushRequest`.)
    """

    completer: Completer
    attempt: Attempt
    outcome: Outcome
    ended_at: Microseconds
    settlement: Settlement | None = None
    pause: float = _FIRST_PAUSE
    """Seconds until the next try."""
    is_judged: bool = False
    """It is decided whether the job is to blame for the death of its child process."""

    def settle(self, encoded: Encoded | None = None) -> None:
        """Build the settlement and write it; try again until that succeeds, so that no error loses the outcome."""
        try:
            self._settle(encoded)
        except Exception as error:  # no memory, or a defect
            attempt = self.attempt
            failures = attempt.backend.failures
            failures.failed(self.completer, "The outcome of job %s is not written yet: %r", attempt.id, error)
            self._try_again(error, partial(self.settle, encoded))

    def _settle(self, encoded: Encoded | None) -> None:
        attempt, outcome = self.attempt, self.outcome
        if encoded is None:
            if self._waits_for_reports():
                return
            if attempt.committed is not None:
                self._confirm(attempt.committed)
                return
            if not self.is_judged and (reason := death_of_child(outcome)) is not None:
                self._judge(reason)
                return
            if type(outcome) is Succeeded and takes_long(attempt, outcome.value):
                encode_in_thread(attempt, outcome, self.settle)
                return
            encoded = encode(attempt, outcome)
        result, problem = encoded
        settlement = self._build_settlement(result)
        if problem is not None:
            settlement = settlement._replace(error=f"{ResultNotStoredError.__name__}: {shown(problem)}")
        if self.settlement is None:
            self.pause = _FIRST_PAUSE
        self.settlement = settlement
        self.write()

    def _judge(self, reason: str) -> None:
        """Decide whether the job is to blame for the death of its child process, and go on."""
        attempt, completer = self.attempt, self.completer
        if completer.max_crashes == 1 or not attempt.backend.storage.is_shared:
            self.is_judged = True
            self.settle()
            return

        async def judge() -> None:
            self.outcome = await doubted(attempt, self.outcome, reason, now=self.ended_at)
            self.is_judged = True
            self.settle()

        spawn_lasting(judge, lambda _: lambda: not self.is_judged)

    def _waits_for_reports(self) -> bool:
        """Whether what the attempt has reported is not stored yet; the outcome follows it."""
        attempt, unsaved = self.attempt, self.completer.unsaved
        if attempt.reports is None:
            return False
        if attempt.reports.finish(self.settle):
            unsaved[id(attempt)] = (attempt, StorageUnavailableError("What it has reported is not stored yet."))
            return True
        unsaved.pop(id(attempt), None)
        return False

    def _build_settlement(self, result: bytes | None) -> Settlement:
        attempt, now, retention = self.attempt, self.ended_at, self.completer.retention
        try:
            return build_settlement(attempt, self.outcome, result, now=now, retention=retention)
        except Exception as error:  # of a user's cron parser, called for the next run: there is none
            message = "The schedule %s ends, because its cron parser raised an error for the next run.\n%s"
            log.error(message, attempt.id, Lines(own_traceback(error)))
            attempt.run, self.outcome = None, Failed(error)
            return build_settlement(attempt, self.outcome, None, now=now, retention=retention)

    def write(self) -> None:
        """Write the settlement."""
        attempt, outcome = self.attempt, self.outcome
        backend = attempt.backend
        is_plain = type(outcome) is Succeeded and attempt.origin == backend.owner
        assert self.settlement is not None
        backend.gate.settle(
            self.settlement,
            self,
            audience=JOB_ENDED if is_plain else audience_of(attempt, outcome),
            no_peers=attempt.pool.is_idle,
        )

    def _confirm(self, committed: Committed) -> None:
        """The end is stored already, in a transaction of the task: notify those who wait for it."""
        attempt, self.outcome = self.attempt, Succeeded(committed.value)
        is_wide = committed.settled is _CASCADED
        attempt.backend.gate.notify(STATE_CHANGED if is_wide else audience_of(attempt, self.outcome) or JOB_ENDED)
        self.completer.on_stored(attempt, self.outcome, committed.settlement, committed.settled)
        self.completer.lingering.release_limits(attempt)

    def __call__(self, answer: Settled | Exception) -> None:
        """Take the answer of the storage: it is the callback of its settlement itself, see ``PendingJob``."""
        if isinstance(answer, Exception):
            if not self.completer.is_final(self.attempt, answer):
                self._retry(answer)
        elif answer:
            assert self.settlement is not None
            self.completer.on_stored(self.attempt, self.outcome, self.settlement, answer)
        else:
            self.completer.on_refused(self.attempt)

    def _retry(self, error: Exception) -> None:
        attempt = self.attempt
        message = "The outcome of job %s is not stored yet, trying again in %.2g s: %s"
        attempt.backend.failures.failed(self.completer, message, attempt.id, self.pause, error)
        is_transient = isinstance(error, BaseJobifyError) or (refusal_of(error) and self.pause < _LONGEST_PAUSE)
        if not is_transient and self.settlement is not None:  # it is about what is written, not about the storage
            self.settlement = truncated(self.settlement, error)
        self._try_again(error, self.write)

    def _try_again(self, error: Exception, step: Callable[[], None]) -> None:
        self.completer.unsaved[id(self.attempt)] = (self.attempt, error)
        pause, self.pause = self.pause, min(self.pause * 2, _LONGEST_PAUSE)
        asyncio.get_running_loop().call_later(pause, step)


def _is_tried_again(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether another attempt under this id waits for the end of this one."""
    return (
        isinstance(outcome, RetryAt | Released | Returned | Refused | Snoozed)
        or attempt.run is not None
        or attempt.is_replaced
    ) and attempt.committed is None
