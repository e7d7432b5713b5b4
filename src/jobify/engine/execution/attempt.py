"""An attempt: one run of a claimed job in this process, and the attempts that run here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context
from enum import Enum
from typing import Any

from msgspec import Struct

from jobify.engine.execution.job_completion import Committed, JobCompletion
from jobify.engine.execution.slots import SlotPool
from jobify.exceptions import ConfigurationError
from jobify.gateway.backend import Backend
from jobify.gateway.reports import ReportStream
from jobify.jobs.current_job import TIMED_OUT, is_overdue
from jobify.jobs.job import Job
from jobify.model.cron import Cron
from jobify.model.cron_rules import CronRule
from jobify.model.job_options import calls_of
from jobify.model.limit_gates import RELEASED_LIMITS, SettledLimits
from jobify.model.misfire import Missed, NextDue
from jobify.model.records import Claim, JobRecord, MessageKind
from jobify.model.status import JobStatus
from jobify.model.task_options import RunMode
from jobify.router.registry import DECLARED_SUFFIX, Endpoint
from jobify.runners.base import FunctionCall, Runner
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import call_in
from jobify.storage.ownership import BegunJobs
from jobify.types import UNSET, Microseconds

__all__ = ("Attempt", "Interruption", "Phase", "RunningAttempts", "ScheduleRun")

log = get_logger("jobify.engine")


class Interruption(Enum):
    """Why a running attempt has to stop."""

    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    TAKEN = "taken"
    """The job was taken from this process, and came back: a later attempt waits for the end of this one."""


class Phase(Enum):
    """Where an attempt is in its life."""

    LAUNCHED = "launched"
    """It has a slot, and nothing of it has run: it waits for its task's first step, or for its due time."""
    RUNNING = "running"
    OVER = "over"
    """Its outcome is decided. A thread may still run."""


class ScheduleRun:
    """One run of a schedule: the rule, the due time that the run stands for, and the progress before it."""

    __slots__ = ("cron", "failure_count", "next_due", "offset_at", "rule", "run_count", "skipped")

    def __init__(self, rule: CronRule, *, offset_at: Microseconds, run_count: int, failure_count: int) -> None:
        self.rule = rule
        self.cron: Cron = rule.cron
        self.next_due: NextDue = rule.next_due
        self.offset_at = offset_at
        self.run_count = run_count
        self.failure_count = failure_count
        self.skipped: Missed | None = None
        """The missed due times that this run stands for, or that were skipped before it."""


class Attempt(Struct, eq=False, gc=False):
    """One run of a claimed job in this process: launched → running → over. ``(id, owner, fence)`` proves the claim.

    (For ``gc=False`` see :class:`~jobify.jobs.schedule_builder.PushRequest`; the cycle with its task is opened when the
    task ends.)
    """

    # What runs, and where
    backend: Backend
    endpoint: Endpoint
    """The task; with the options of this job once these are read."""
    pool: SlotPool
    id: str
    due_at: Microseconds
    job: Job[Any] | None
    """The handle, if one is held."""
    phase: Phase = Phase.LAUNCHED

    # The claim. The defaults are those of a job that this process has inserted already claimed
    fence: int = 1
    number: int = 1
    crashes: int = 0
    """How many attempts before this one have taken their process down."""
    queue: str = "default"
    origin: int | None = None
    """The process that has pushed the job."""
    payload: Any = None
    options: str | None = None
    """The options of this job alone, as they are stored."""
    run: ScheduleRun | None = None

    # The call
    args: Any = UNSET
    """UNSET until the payload is decoded. A job that was pushed here brings its arguments along."""
    kwargs: dict[str, Any] = {}
    context: Context | None = None
    """The context variables that the attempt starts from, as a copy. None means those of the dispatcher."""
    task: asyncio.Task[None] | None = None
    call: FunctionCall | None = None
    """The function at work in a thread or a process."""
    runner: Runner | None = None
    """The runner of ``call``."""
    interrupter: Callable[[Attempt, Interruption], None] | None = None
    """What interrupts it while it has no task of its own: it waits for a slot, or its runner needs none."""
    started_at: Microseconds = 0
    timeout: float | None = None
    deadline: float | None = None
    """See :class:`~jobify.jobs.current_job.Running`."""
    reports: ReportStream | None = None
    """What it has reported. None means nothing yet."""

    # How it is stopped, and what follows
    interruption: Interruption | None = None
    is_replaced: bool = False
    """Another job has this id by now; it begins when this attempt is over."""
    is_last: bool = False
    """The schedule was cancelled without interrupting this run."""

    # What it holds, and what is written of it
    has_slot: bool = True
    waits: int = 0
    """How many waits for other jobs are under way in it: while there are any, its slot is lent."""
    slot: int | None = None
    """Where its begin is recorded; see :meth:`~jobify.storage.ownership.BegunJobs.enter`."""
    is_logged: bool = False
    """Its begin was logged, so its success is logged, too."""
    limits: SettledLimits | None = None
    """That it holds limits, and what becomes of them when it is settled."""
    is_recorded: bool = False
    """The history says already how it ended."""
    committed: Committed | None = None
    """Its end was stored in a transaction of its task."""

    @classmethod
    def of_claim(
        cls, claim: Claim, *, backend: Backend, endpoint: Endpoint, pool: SlotPool, job: Job[Any] | None
    ) -> Attempt:
        """The attempt of a claim."""
        attempt = cls(backend, endpoint, pool, claim.id, claim.due_at, job)
        attempt.fence = claim.fence
        attempt.number = claim.attempt
        attempt.crashes = claim.crashes
        attempt.queue = claim.queue
        attempt.origin = claim.origin
        attempt.payload = claim.payload
        attempt.options = claim.options
        attempt.context = None if job is None else job.context
        if claim.limits:
            attempt.limits = RELEASED_LIMITS
        return attempt

    @property
    def is_readable(self) -> bool:
        """Whether its arguments could be restored (or did not have to be)."""
        return self.args is not UNSET

    @property
    def is_collected(self) -> bool:
        """Whether it has the arguments of several calls."""
        return calls_of(self.options) > 0

    @property
    def is_declared(self) -> bool:
        """Whether it is a run of a cron that is declared in code."""
        return self.id == self.endpoint.name + DECLARED_SUFFIX

    def owns(self, record: JobRecord) -> bool:
        """Whether ``record`` is the claim of this attempt, and not a later one, or a later job with its id."""
        return (record.status, record.owner, record.fence) == (JobStatus.RUNNING, self.backend.owner, self.fence)

    def interrupt(self, why: Interruption) -> None:
        """Stop the attempt. The first reason counts, except that a user's cancel wins over a shutdown."""
        if self.interruption is None or why is Interruption.CANCEL:
            self.interruption = why
        if self.interrupter is not None:
            self.interrupter(self, why)
            return
        if self.call is not None:
            self.call.is_stop_requested = True
            if why is not Interruption.CANCEL and self.endpoint.run_mode is RunMode.THREAD and self.call.is_running:
                return  # a thread cannot be stopped: its result is waited for, and counts
        # A task that is cancelled before its first step runs none of its code, so the job would not be settled: an
        # attempt that has not begun checks ``interruption`` when it begins.
        if self.task is not None and self.phase is Phase.RUNNING:
            self.task.cancel()

    # -- what current_job shows of it (Running) ------------------------------------------------------------------------

    @property
    def batch(self) -> tuple[()]:
        return ()

    @property
    def app(self) -> object:
        return self.endpoint.app

    @property
    def task_name(self) -> str:
        return self.endpoint.name

    @property
    def queue_name(self) -> str:
        return self.queue

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self.endpoint.options.get("metadata") or {})

    def stop_reason(self) -> str | None:
        """Why the attempt has to stop; None means that it has not."""
        if self.interruption is Interruption.TAKEN:
            return "shutdown"
        if self.interruption is not None:
            return str(self.interruption.value)
        if is_overdue(self):
            return TIMED_OUT
        return "shutdown" if self.call is not None and self.call.is_stop_requested else None

    def encode(self, value: Any) -> Any:
        """See :meth:`Backend.encode_value`."""
        return self.backend.encode_value(value)

    def completion(self) -> JobCompletion:
        """See :class:`~jobify.jobs.current_job.Running`."""
        if self.backend.is_in_memory:
            raise ConfigurationError(
                f"The jobs of {self.task_name!r} are in memory, so they cannot end in a transaction. Give the app a "
                "storage in the file of your connection, and leave durable=False out."
            )
        return JobCompletion(self)

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        """Pass a report on. Reports of a thread or a task that outlives the attempt are dropped."""
        if self.phase is not Phase.OVER:
            reports = self.reports or self.backend.reporter.stream_of(self, self.backend.owner, self.fence)
            reports.add(self, kind, data, level)

    def on_child_message(self, message: tuple[MessageKind | None, Any, str | None]) -> Awaitable[None] | None:
        """Pass on a report of its child process; return what to await before the next one is read."""
        kind, data, level = message
        if kind is None:
            self._lend_slot() if data else self._take_slot_back()
        else:
            self.report(kind, data, level)
        return None if self.reports is None else self.reports.wait_for_room()

    # -- its slot ------------------------------------------------------------------------------------------------------

    def lend(self) -> None:
        """See :class:`~jobify.jobs.current_job.Running`."""
        self._call_on_loop(self._lend_slot)

    def take_back(self) -> None:
        """See :class:`~jobify.jobs.current_job.Running`."""
        self._call_on_loop(self._take_slot_back)

    def _call_on_loop(self, step: Callable[[], None]) -> None:
        task, call = self.task, self.call
        loop = task.get_loop() if task is not None else None if call is None else call.loop
        if loop is not None:  # else it is over, and none of its code holds a slot any more
            call_in(loop, step)

    def _lend_slot(self) -> None:
        self.waits += 1
        if self.waits == 1 and self.has_slot:
            if self.runner is not None:
                self.runner.extend(1)
            self.pool.lend()

    def _take_slot_back(self) -> None:
        self.waits -= 1
        if self.waits == 0 and self.has_slot:
            self.pool.take_back()
            if self.runner is not None:
                self.runner.extend(-1)

    def free_slot(self) -> None:
        """Release the slot, unless it is lent and so free already."""
        self.has_slot = False
        if self.waits == 0:
            self.pool.release()
            return
        self.pool.release_lent()
        if self.runner is not None:
            self.runner.extend(-1)


class RunningAttempts:
    """The attempts that run in this process. The executor and the completer keep it up to date."""

    def __init__(self) -> None:
        self.running: dict[str, Attempt] = {}
        """By job id, from launch to end: the latest attempt of each job."""
        self.superseded: dict[Attempt, Attempt] = {}
        """Attempts whose job was taken from this process and came back, each with the attempt that waits for its end,
        because two attempts of one job do not overlap."""
        self.lingering: dict[asyncio.Task[None], Attempt | None] = {}
        """Attempts that are over while their thread still runs, by the task that waits for it; None if the job is
        settled already."""
        self.begun: BegunJobs | None = None
        """Where the attempts that have begun are recorded, until their end is stored."""

    def __iter__(self) -> Iterator[Attempt]:
        yield from list(self.running.values())
        yield from list(self.superseded)
        yield from [attempt for attempt in self.lingering.values() if attempt is not None]

    def lingering_of(self, job_id: str) -> asyncio.Task[None] | None:
        """The task that waits for the thread of an attempt of this job that is over."""
        return next((task for task, over in self.lingering.items() if over is not None and over.id == job_id), None)

    def must_wait(self, attempt: Attempt, latest: Attempt, launch: Callable[[Attempt], None]) -> bool:
        """Whether the attempt begins later, because an earlier one of its job still runs here; ``launch`` begins it.

        The job was taken from this process (its lock file was deleted, or it was stopped for long), and came back.
        """
        if latest is not attempt:
            if attempt in self.superseded:
                return False  # it was claimed ahead of its time, and superseded since
            log.warning("Job %s came back while an attempt of it still runs; the new one waits.", attempt.id)
            self.running[attempt.id] = attempt
            self.superseded[latest] = attempt
            attempt.job = attempt.job or latest.job
            latest.interrupt(Interruption.TAKEN)
            return True
        overrun = self.lingering_of(attempt.id)
        if overrun is not None:
            earlier = self.lingering[overrun]
            attempt.job = attempt.job or (None if earlier is None else earlier.job)
            overrun.add_done_callback(lambda _: launch(attempt))
        return overrun is not None

    def release_begun(self, attempt: Attempt) -> None:
        """Remove the record of an attempt that had begun: its end is stored, and its thread has ended."""
        begun, slot = self.begun, attempt.slot
        if begun is not None and slot is not None:
            attempt.slot = None
            begun.leave(slot)

    def is_busy(self) -> bool:
        """Whether the function of any job is still at work here."""
        return bool(self.running or self.superseded or self.lingering)

    def find(self, job_id: str) -> Attempt | None:
        """The attempt of a job that runs here, or is over while its thread still runs."""
        running = self.running.get(job_id)
        if running is not None or not self.lingering:
            return running
        return next((over for over in self.lingering.values() if over is not None and over.id == job_id), None)
