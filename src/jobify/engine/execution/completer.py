"""Outcomes → storage → handles. Grouped with whatever else is written, and retried while the storage is unavailable.

An attempt that has ended is noted here by a plain call: there is no await at which a cancel could make it forget. Its
handle is told when the outcome is stored, so that whoever has seen a result will still find it after a power cut.

Two things end the retries: a database that was replaced, and a shutdown that has waited for half a minute. Such an
outcome counts as lost: its handle gets the error, and the job runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from jobify.config import Limits
from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import Attempt, Interruption, RunningAttempts, ScheduleRun
from jobify.engine.execution.handles import Teller
from jobify.engine.execution.job_log import JobLog
from jobify.engine.execution.outcome import Encoded, classify, encode, encode_apart, takes_long
from jobify.engine.execution.outcome_records import LostOutcomes, record_now
from jobify.engine.execution.returns import ReleasedClaims
from jobify.engine.execution.settlement import (
    audience_of,
    build_settlement,
    park_settlement,
    skip_settlement,
    truncated,
)
from jobify.exceptions import (
    BaseJobifyError,
    ResultNotStoredError,
    StorageLostError,
    StorageUnavailableError,
    shown,
)
from jobify.gateway.notification import JOB_ENDED
from jobify.gateway.reports import ReportStream
from jobify.model.clock import Clock
from jobify.model.misfire import Plan
from jobify.model.records import Claim, Settled, Settlement
from jobify.model.retention import Retention
from jobify.model.status import (
    Cancelled,
    Failed,
    JobStatus,
    Outcome,
    Refused,
    Released,
    RetryAt,
    Skipped,
    Snoozed,
    Succeeded,
    TimedOut,
)
from jobify.model.task_options import RunMode
from jobify.model.tracebacks import own_traceback
from jobify.model.transient import refusal_of
from jobify.runners.base import Call
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import Lines, get_logger
from jobify.runtime.spawn import spawn_lasting
from jobify.serializers.offload import SMALL
from jobify.types import UNSET, Microseconds

__all__ = ("Completer",)

log = get_logger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_LOOK_AGAIN = 1.0
_CASCADED = Settled.CASCADED
_PATIENCE = 30.0
"""Seconds that a shutdown gives a storage that does not answer."""


class Completer:
    """Settles ended attempts."""

    def __init__(
        self,
        teller: Teller,
        job_log: JobLog,
        attempts: RunningAttempts,
        events: EngineEvents,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._teller = teller
        self.job_log = job_log
        self.returns = ReleasedClaims(events, clock)
        self._attempts = attempts
        self._events = events
        self._retention = limits.retention
        self._refusals = FailureLog(log, "")
        self._max_crashes = limits.max_crashes
        self._clock = clock
        self._open = 0
        self._unsaved: dict[int, tuple[Attempt, Exception]] = {}
        """The outcomes among them that the storage did not take at the last try."""
        self._has_given_up = False
        self._is_closed = False
        self.lost = LostOutcomes()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def unsaved(self) -> int:
        """How many outcomes the storage has not taken: those that are lost, and those that it refused so far."""
        return len(self.lost) + len(self._unsaved)

    async def idle(self) -> None:
        """Return when every outcome noted so far is stored."""
        await self._is_idle.wait()

    async def drain(self) -> None:
        """:meth:`idle`, for a shutdown: what the storage does not take in half a minute is given up and runs again."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE
        while self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self._is_idle.wait()
            if clock() >= deadline and self._open == len(self._unsaved):
                self._give_up()

    def close(self) -> None:
        """The storage is closed: an outcome that comes now is lost, and its job runs again."""
        self._is_closed = True

    def _give_up(self) -> None:
        self._has_given_up = True
        for attempt, error in list(self._unsaved.values()):
            self._lose(attempt, error)
        self._unsaved.clear()

    def _lose(self, attempt: Attempt, error: Exception) -> None:
        """End the attempt without an outcome: a success that no storage holds is not reported."""
        self.lost.add(attempt.id, error)
        if attempt.job is not None:
            attempt.job.end(JobStatus.CANCELLED, error)
        self._untrack(attempt)

    def decide(self, attempt: Attempt, value: Any, error: BaseException | None, now: Microseconds) -> Outcome:
        """How an attempt that comes to this end has ended. Never raises, or nobody would settle it."""
        try:
            return classify(attempt, value, error, now=now, max_crashes=self._max_crashes)
        except Exception as problem:  # of the user's code, such as a policy of retries
            log.error(
                "Whether job %s is to be tried again cannot be told.\n%s", attempt.id, Lines(own_traceback(problem))
            )
            return Failed(problem)

    def complete(self, attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
        """An attempt has ended. Its slot is free at once, unless its thread goes on. Never raises."""
        self._track(attempt)
        if attempt.call is not None and attempt.call.is_running:
            self._wait_for_thread(attempt, attempt.call, outcome, is_tried_again=_is_tried_again(attempt, outcome))
        else:
            if attempt.waits:
                attempt.free_slot()
            else:  # what free_slot() does for nearly every job, without the call
                attempt.has_slot = False
                attempt.pool.release()
            if not (
                type(outcome) is Succeeded and type(outcome.value) in SMALL and self._settle_fast(attempt, outcome, now)
            ):
                self._settle_retrying(attempt, outcome, now)

    def _settle_fast(self, attempt: Attempt, outcome: Succeeded, now: Microseconds) -> bool:
        """:meth:`_settle` of nearly every job, in one call instead of six: a success with a small value. Whether it
        was one; anything out of the ordinary is left to the long way."""
        if attempt.reports is not None or attempt.run is not None:
            return False
        backend = attempt.backend
        try:
            result = backend.codec.encode_result(outcome.value, attempt.endpoint.spec.result_type)
            settlement = build_settlement(attempt, outcome, result, now=now, retention=self._retention)
        except Exception:  # the long way says so, and tries again
            return False
        self._write(attempt, outcome, settlement, _FIRST_PAUSE)
        return True

    def _wait_for_thread(self, attempt: Attempt, call: Call, outcome: Outcome, *, is_tried_again: bool) -> None:
        """The attempt is over, its function is not: a thread cannot be stopped. It keeps its slot until it returns.

        Two attempts of one job never overlap: the row is given free for the next one when this one is really over.
        """
        if attempt.endpoint.run_mode is RunMode.THREAD:  # a child process is just being killed
            log.warning("Job %s (%s) is over, its thread is not and keeps a slot.", attempt.id, attempt.endpoint.name)
        if not is_tried_again:
            self._settle_retrying(attempt, outcome, self._clock.now())

        def note(task: asyncio.Task[None]) -> Callable[[], bool]:
            self._attempts.lingering[task] = attempt if is_tried_again else None
            task.add_done_callback(self._attempts.lingering.pop)
            return lambda: attempt.has_slot

        spawn_lasting(partial(self._finish_lingering, attempt, call, outcome, is_tried_again=is_tried_again), note)

    async def _finish_lingering(self, attempt: Attempt, call: Call, outcome: Outcome, *, is_tried_again: bool) -> None:
        """Wait for the end of the function. Cancelled along with all tasks of the loop, it begins again."""
        is_late = is_tried_again and isinstance(outcome, RetryAt | TimedOut) and not attempt.is_recorded
        if is_late and attempt.endpoint.run_mode is RunMode.THREAD:
            await record_now(attempt, outcome, self._clock.now())
        await call.ended()
        attempt.free_slot()
        if not is_tried_again:  # its end is stored
            self._attempts.release_begun(attempt)
        if is_tried_again:
            outcome = Cancelled() if attempt.interruption is Interruption.CANCEL else outcome
            self._settle_retrying(attempt, outcome, self._clock.now())

    def skip(self, attempt: Attempt, run: ScheduleRun, decision: Plan) -> None:
        """A claimed schedule does not run: its misfire policy passes the due time over."""
        self._track(attempt)
        attempt.free_slot()
        settlement = skip_settlement(attempt, run, decision, now=self._clock.now())
        self._write(attempt, Skipped(), settlement, _FIRST_PAUSE)

    def park(self, attempt: Attempt, claim: Claim, reason: str) -> None:
        """Release a claimed schedule that this process cannot read, for a process that can. No attempt is counted."""
        self.job_log.parked(attempt, reason)
        self._track(attempt)
        attempt.free_slot()
        settlement = park_settlement(attempt, claim, reason, now=self._clock.now())
        self._write(attempt, Skipped(), settlement, _FIRST_PAUSE)

    def _settle_retrying(
        self,
        attempt: Attempt,
        outcome: Outcome,
        now: Microseconds,
        encoded: Encoded | None = None,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        """:meth:`_settle`, again and again until it succeeds: an outcome is not lost to an error on the way."""
        try:
            self._settle(attempt, outcome, now, encoded)
        except Exception as error:  # no memory, or a defect
            attempt.backend.failures.failed(self, "The outcome of job %s is not written yet: %r", attempt.id, error)
            self._unsaved[id(attempt)] = (attempt, error)
            longer = min(pause * 2, _LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self._settle_retrying, attempt, outcome, now, encoded, longer)

    def _settle(self, attempt: Attempt, outcome: Outcome, now: Microseconds, encoded: Encoded | None) -> None:
        if encoded is None:
            if attempt.reports is not None and self._waits_for(attempt, attempt.reports, outcome, now):
                return
            if type(outcome) is Succeeded and takes_long(attempt, outcome.value):
                encode_apart(attempt, outcome, partial(self._settle_retrying, attempt, outcome, now))
                return
            encoded = encode(attempt, outcome)
        result, problem = encoded
        settlement, outcome = _settlement(attempt, outcome, result, now, self._retention)
        if problem is not None:
            settlement = settlement._replace(error=f"{ResultNotStoredError.__name__}: {shown(problem)}")
        self._write(attempt, outcome, settlement, _FIRST_PAUSE)

    def _waits_for(self, attempt: Attempt, reports: ReportStream, outcome: Outcome, now: Microseconds) -> bool:
        """Whether what the attempt has reported is still to be stored; the outcome follows it."""
        is_waiting = reports.finish(partial(self._settle_retrying, attempt, outcome, now))
        if is_waiting:
            self._unsaved[id(attempt)] = (attempt, StorageUnavailableError("What it has reported is not stored yet."))
        else:
            self._unsaved.pop(id(attempt), None)
        return is_waiting

    def _write(self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float) -> None:
        backend = attempt.backend
        is_own_success = type(outcome) is Succeeded and attempt.origin == backend.owner
        audience = JOB_ENDED if is_own_success else audience_of(attempt, outcome)
        answer = partial(self._on_answer, attempt, outcome, settlement, pause)
        backend.gate.settle(settlement, answer, audience=audience, no_peers=attempt.pool.is_idle)

    def _on_answer(
        self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float, answer: Settled | Exception
    ) -> None:
        if isinstance(answer, Exception):
            self._on_error(attempt, outcome, settlement, pause, answer)
        elif answer:
            if type(outcome) is not Succeeded or attempt.is_logged:
                self.job_log.ended(attempt, outcome, settlement)
            try:
                self._teller.update(attempt, outcome, settlement)
            except Exception as error:
                # No memory, or a defect: the watcher reads from the row what the handle was not told.
                log.error("The handle of job %s was not updated: %r", attempt.id, error)
                self._teller.keep(attempt)
                self._events.storage_changed()
            self._events.settled(attempt, settlement)
            if answer is _CASCADED:
                self._events.storage_changed()
            self._untrack(attempt)
        else:
            self._on_refused(attempt)

    def _on_error(
        self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float, error: Exception
    ) -> None:
        if isinstance(error, StorageLostError):
            self._lose(attempt, error)
            self._events.storage_lost(error)
        elif self._is_closed and not self._has_given_up:
            log.warning("Job %s ended after its app had stopped; it runs again.", attempt.id)
            self._lose(attempt, error)
        elif not self._has_given_up:
            self._retry(attempt, outcome, settlement, pause, error)

    def _on_refused(self, attempt: Attempt) -> None:
        """The claim did not hold: the row was deleted, or taken from this process. The row tells how the job ends."""
        message = "Job %s was taken from this process while it ran; its outcome is refused."
        self._refusals.warn(self, message, attempt.id)
        if attempt.id not in self._attempts.running:  # else it came back, and its handle speaks of the later attempt
            self._teller.release(attempt)
        self._untrack(attempt)
        self._events.storage_changed()

    def _retry(
        self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float, error: Exception
    ) -> None:
        message = "The outcome of job %s is not stored yet, trying again in %.2g s: %s"
        attempt.backend.failures.failed(self, message, attempt.id, pause, error)
        self._unsaved[id(attempt)] = (attempt, error)
        is_transient = isinstance(error, BaseJobifyError) or (refusal_of(error) and pause < _LONGEST_PAUSE)
        if not is_transient:  # it is about what is written, not about the storage or the system
            settlement = truncated(settlement, error)
        longer = min(pause * 2, _LONGEST_PAUSE)
        asyncio.get_running_loop().call_later(pause, self._write, attempt, outcome, settlement, longer)

    def _track(self, attempt: Attempt) -> None:
        if attempt.job is not None:
            attempt.job.is_settling = True
        if not self._open:
            self._is_idle.clear()
        self._open += 1

    def _untrack(self, attempt: Attempt) -> None:
        # The frames of an error's traceback lead to the attempt, and the handle leads to the error. Attempts are out of
        # the garbage collector's sight, so a circle through one would stay for ever.
        if attempt.job is not None:
            attempt.job.is_settling = False
        attempt.job, attempt.args, attempt.kwargs = None, UNSET, {}
        if attempt.slot is not None and (attempt.call is None or not attempt.call.is_running):
            self._attempts.release_begun(attempt)
        if attempt.reports is not None:
            attempt.reports.close()
        if self._unsaved:
            self._unsaved.pop(id(attempt), None)
            if not self._unsaved and not self._has_given_up:
                attempt.backend.failures.succeeded(self)
        self._open -= 1
        if not self._open:
            self._is_idle.set()


def _is_tried_again(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether another attempt under this id waits for the end of this one."""
    return isinstance(outcome, RetryAt | Released | Refused | Snoozed) or attempt.run is not None or attempt.is_replaced


def _settlement(
    attempt: Attempt, outcome: Outcome, result: bytes | None, now: Microseconds, retention: Retention
) -> tuple[Settlement, Outcome]:
    try:
        return build_settlement(attempt, outcome, result, now=now, retention=retention), outcome
    except Exception as error:  # of a user's cron parser, asked for the next run: there is none
        log.error("The schedule %s ends: its next run cannot be found.\n%s", attempt.id, Lines(own_traceback(error)))
        attempt.run, outcome = None, Failed(error)
        return build_settlement(attempt, outcome, None, now=now, retention=retention), outcome
