"""Outcomes → storage → handles. Grouped with whatever else is written, retried while the storage is away, never lost.

An attempt that has ended is noted here by a plain call: there is no await at which a cancel could make it forget. Its
handle is told when the outcome is stored, so that whoever has seen a result will still find it after a power cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from functools import partial

from jobify.clock import Clock, to_datetime
from jobify.engine.attempt import Attempt, Interruption, Run
from jobify.engine.handles import Handles
from jobify.engine.verdict import settlement_of, skip_settlement
from jobify.exceptions import AppStoppedError, BaseJobifyError, PayloadError, ResultNotStoredError, shown
from jobify.misfire import Plan
from jobify.options import RunMode
from jobify.records import Settlement
from jobify.runners.base import Call, contained
from jobify.status import ENDED, Cancelled, Failed, JobStatus, Outcome, Released, RetryAt, Skipped, Succeeded, TimedOut
from jobify.types import UNSET, Microseconds

__all__ = ("Completer",)

log = logging.getLogger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_LOOK_AGAIN = 1.0
_PATIENCE = 30.0
"""Seconds that a shutdown gives a storage that does not answer."""


class Completer:
    """Settles ended attempts."""

    def __init__(
        self,
        *,
        handles: Handles,
        clock: Clock,
        ttl: float,
        on_settled: Callable[[Attempt, Settlement], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._handles = handles
        self._clock = clock
        self._ttl = ttl
        self._on_settled = on_settled
        self._on_refused = on_refused
        self._open = 0
        self._stuck: dict[int, tuple[Attempt, Exception]] = {}
        """The outcomes among them that the storage did not take at the last try."""
        self._has_given_up = False
        self._overruns: dict[asyncio.Task[None], Attempt | None] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def idle(self) -> None:
        """Return when every outcome noted so far is stored."""
        await self._is_idle.wait()

    async def drain(self) -> None:
        """:meth:`idle`, for a shutdown: what the storage does not take within half a minute is given up.

        Those jobs stay running in the storage. Whoever opens it next takes them for lost with this process.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE
        while self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self._is_idle.wait()
            if clock() >= deadline and self._open == len(self._stuck):
                self._give_up()

    def _give_up(self) -> None:
        self._has_given_up = True
        for attempt, error in self._stuck.values():
            log.error("The outcome of job %s could not be stored and is lost: %s", attempt.id, error)
            if attempt.job is not None:
                attempt.job.end(JobStatus.CANCELLED, error)
            self._forget(attempt)
        self._stuck.clear()

    def complete(self, attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
        """An attempt has ended. Its slot is free at once, unless its thread goes on."""
        self._note()
        if attempt.call is not None and attempt.call.is_running:
            is_tried_again = isinstance(outcome, RetryAt | Released) or attempt.run is not None or attempt.is_replaced
            overrun = self._overrun(attempt, attempt.call, outcome, is_tried_again=is_tried_again)
            task = asyncio.get_running_loop().create_task(overrun)
            self._overruns[task] = attempt if is_tried_again else None
            task.add_done_callback(self._overruns.pop)
        else:
            attempt.lane.release()
            self._settle(attempt, outcome, now)

    def overruns(self) -> list[Attempt]:
        """The attempts that are over, whose threads are not, and whose jobs are therefore still in these hands."""
        return [attempt for attempt in self._overruns.values() if attempt is not None]

    async def _overrun(self, attempt: Attempt, call: Call, outcome: Outcome, *, is_tried_again: bool) -> None:
        """The attempt is over, its function is not: a thread cannot be stopped. It keeps its slot until it returns.

        Two attempts of one job never overlap: the row is given free for the next one when this one is really over.
        """
        if attempt.endpoint.run_mode is RunMode.THREAD:  # a child process is just being killed
            log.warning("Job %s (%s) is over, its thread is not and keeps a slot.", attempt.id, attempt.endpoint.name)
        if not is_tried_again:
            self._settle(attempt, outcome, self._clock.now())
        await call.ended()
        attempt.lane.release()
        if is_tried_again:
            outcome = Cancelled() if attempt.interruption is Interruption.CANCEL else outcome
            self._settle(attempt, outcome, self._clock.now())

    def skip(self, attempt: Attempt, run: Run, decision: Plan) -> None:
        """A claimed schedule does not run: its misfire policy passes the due time over."""
        self._note()
        attempt.lane.release()
        settlement = skip_settlement(attempt, run, decision, now=self._clock.now())
        self._write(attempt, Skipped(), settlement, _FIRST_PAUSE)

    def _settle(self, attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
        result, problem = self._encode(attempt, outcome)
        try:
            settlement = settlement_of(attempt, outcome, result, now=now, ttl=self._ttl)
        except Exception as error:  # of a user's cron parser, asked for the next run: there is none
            log.exception("The schedule %s ends: its next run cannot be found.", attempt.id)
            attempt.run, outcome = None, Failed(error)
            settlement = settlement_of(attempt, outcome, None, now=now, ttl=self._ttl)
        if problem is not None:
            settlement = settlement._replace(error=f"{ResultNotStoredError.__name__}: {shown(problem)}")
        self._write(attempt, outcome, settlement, _FIRST_PAUSE)

    def _encode(self, attempt: Attempt, outcome: Outcome) -> tuple[bytes | None, str | None]:
        if type(outcome) is not Succeeded:
            return None, None
        try:
            return attempt.backend.encode_result(attempt.endpoint, outcome.value), None
        except PayloadError as error:
            log.warning("The result of job %s is not stored: %s", attempt.id, error)
            return None, str(error)

    def _write(self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float) -> None:
        is_news = attempt.origin != attempt.backend.owner or isinstance(outcome, Released | Cancelled)
        answer = partial(self._answer, attempt, outcome, settlement, pause)
        attempt.backend.gate.settle(settlement, answer, is_news=is_news, is_last=attempt.lane.is_idle)

    def _answer(
        self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float, answer: bool | Exception
    ) -> None:
        if answer is True:
            self._tell(attempt, outcome, settlement)
            self._on_settled(attempt, settlement)
            self._forget(attempt)
        elif answer is False:
            self._refused(attempt)
        elif not self._has_given_up:
            self._retry(attempt, outcome, settlement, pause, answer)

    def _refused(self, attempt: Attempt) -> None:
        """The claim did not hold: the row was deleted, or taken from this process. The row tells how the job ends."""
        log.warning("Job %s was taken from this process while it ran; its outcome is refused.", attempt.id)
        if attempt.job is not None and attempt.backend.storage.is_shared:
            self._handles.add(attempt.job)
        elif attempt.job is not None:
            attempt.job.end(JobStatus.CANCELLED)
        self._forget(attempt)
        self._on_refused()

    def _retry(
        self, attempt: Attempt, outcome: Outcome, settlement: Settlement, pause: float, error: Exception
    ) -> None:
        log.warning("The outcome of job %s is not stored yet, trying again in %.2g s: %s", attempt.id, pause, error)
        self._stuck[id(attempt)] = (attempt, error)
        if not isinstance(error, BaseJobifyError):  # it is about what is written, not about the storage
            settlement = _with_less(settlement, error)
        longer = min(pause * 2, _LONGEST_PAUSE)
        asyncio.get_running_loop().call_later(pause, self._write, attempt, outcome, settlement, longer)

    def _note(self) -> None:
        if not self._open:
            self._is_idle.clear()
        self._open += 1

    def _forget(self, attempt: Attempt) -> None:
        # The frames of an error's traceback lead to the attempt, and the handle leads to the error. Attempts are out of
        # the garbage collector's sight, so a circle through one would stay for ever.
        attempt.job, attempt.args, attempt.kwargs = None, UNSET, {}
        if self._stuck:
            self._stuck.pop(id(attempt), None)
        self._open -= 1
        if not self._open:
            self._is_idle.set()

    def _tell(self, attempt: Attempt, outcome: Outcome, settlement: Settlement) -> None:
        """The handle learns what is stored."""
        job = attempt.job if attempt.job is not None else self._handles.find(attempt.id)
        if job is None:
            return
        if attempt.is_replaced:  # the handle speaks of the job that took this one's place
            job.move(job.due_at, JobStatus.SCHEDULED)
            self._handles.add(job)
            return
        if attempt.run is None and type(outcome) is Succeeded:  # what nearly every job comes to
            job.set_result(outcome.value, status=JobStatus.SUCCESS)
            return
        status = JobStatus(settlement.status)
        context = job.cron_context
        if context is not None:
            context.run_count, context.failure_count = settlement.run_count, settlement.failure_count
            context.offset = to_datetime(settlement.offset_at or attempt.due_at, zone=context.offset.tzinfo or UTC)
        match outcome:
            case Succeeded(value):
                job.set_result(value, status=status if status in ENDED else JobStatus.SUCCESS)
            case Failed(error):
                job.set_exception(as_exception(error), status=status if status in ENDED else JobStatus.FAILED)
            case TimedOut(error):
                job.set_exception(as_exception(error), status=status if status in ENDED else JobStatus.TIMEOUT)
            case Cancelled():
                job.end(JobStatus.CANCELLED)
            case Released():  # the row waits for the next start; this process will not tell how it ended
                job.end(JobStatus.CANCELLED, AppStoppedError(is_stored=attempt.backend.is_durable))
                return
            case _ if status in ENDED:
                job.end(status)
            case _:  # it waits again
                pass
        if status not in ENDED:
            job.move(settlement.due_at, status)
            self._handles.add(job)  # whoever claims it next, here or elsewhere, ends with this handle


def _with_less(settlement: Settlement, error: Exception) -> Settlement:
    """The same end with less about it: whatever cannot be written, the job has ended and must not run again."""
    if settlement.result is not None:
        return settlement._replace(result=None, error=f"{ResultNotStoredError.__name__}: {shown(error)}")
    return settlement._replace(
        error=settlement.error and f"{type(error).__name__} while its error was stored", history=()
    )


def as_exception(error: BaseException) -> Exception:
    """A handle holds an Exception; what is not one (SystemExit, CancelledError) is wrapped, and is its cause."""
    return error if isinstance(error, Exception) else contained(error)
