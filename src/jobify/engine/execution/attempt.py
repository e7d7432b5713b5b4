"""One try of a job, while it is in the hands of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import Context
from enum import Enum
from typing import Any

from msgspec import Struct

from jobify.engine.execution.slots import SlotPool
from jobify.gateway.backend import Backend
from jobify.gateway.reports import ReportStream
from jobify.jobs.current_job import TIMED_OUT, is_overdue
from jobify.jobs.job import Job
from jobify.model.cron import Cron
from jobify.model.cron_rules import CronRule
from jobify.model.misfire import Missed, NextDue
from jobify.model.records import Claim, JobRecord, MessageKind
from jobify.model.status import JobStatus
from jobify.model.task_options import RunMode
from jobify.router.registry import DECLARED_SUFFIX, Endpoint
from jobify.runners.base import Call, Runner
from jobify.storage.ownership import BegunJobs
from jobify.types import UNSET, Microseconds

__all__ = ("Attempt", "Interruption", "RunningAttempts", "ScheduleRun")


class Interruption(Enum):
    """Why a running attempt was told to stop."""

    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    TAKEN = "taken"
    """The job was taken from this process, and came back: a later attempt waits for the end of this one."""


class ScheduleRun:
    """A schedule's part of an attempt: the rule, the due time it stands for, and the progress before it."""

    __slots__ = ("cron", "failure_count", "next_due", "offset_at", "rule", "run_count", "skipped")

    def __init__(self, rule: CronRule, *, offset_at: Microseconds, run_count: int, failure_count: int) -> None:
        self.rule = rule
        self.cron: Cron = rule.cron
        self.next_due: NextDue = rule.next_due
        self.offset_at = offset_at
        self.run_count = run_count
        self.failure_count = failure_count
        self.skipped: Missed | None = None
        """Due times that this run stands for, or that were passed over before it."""


class Attempt(Struct, eq=False, gc=False):
    """What the engine knows of a claimed job; ``(id, owner, fence)`` is its proof of ownership. (For ``gc=False`` see
    :class:`~jobify.jobs.schedule_builder.PushRequest`; the cycle with its task is opened when the task ends.)

    ``args`` is UNSET until the payload is decoded: a job that was pushed here brings its arguments along, one that was
    claimed from the storage does not.
    """

    backend: Backend
    endpoint: Endpoint
    pool: SlotPool
    id: str
    due_at: Microseconds
    job: Job[Any] | None
    fence: int = 1
    number: int = 1
    crashes: int = 0
    """How many attempts before this one have taken their process down."""
    queue: str = "default"
    origin: int | None = None
    payload: Any = None
    options: str | None = None
    """What the job was told beyond its task; ``endpoint`` is the task as it is for this job once these are read."""
    args: Any = UNSET
    kwargs: dict[str, Any] = {}
    run: ScheduleRun | None = None
    reports: ReportStream | None = None
    """What it has reported; None: nothing yet."""
    timeout: float | None = None
    deadline: float | None = None
    """See :class:`~jobify.jobs.current_job.Running`."""
    call: Call | None = None
    """The function at work in a thread or a process."""
    context: Context | None = None
    """The context variables that the attempt starts from, as a copy; None: those of the dispatcher."""
    task: asyncio.Task[None] | None = None
    started_at: Microseconds = 0
    has_begun: bool = False
    is_logged: bool = False
    """Its begin was logged, so its success is logged, too."""
    slot: int | None = None
    """Where it is noted that it has begun; see :meth:`~jobify.storage.ownership.BegunJobs.enter`."""
    is_over: bool = False
    interruption: Interruption | None = None
    is_replaced: bool = False
    """Another job stands behind this id by now; it begins when this attempt is over."""
    is_last: bool = False
    """A schedule was cancelled without interrupting this run."""
    runner: Runner | None = None
    """What carries ``call``, if the function takes room there: a thread, a process."""
    waits: int = 0
    """How many waits for other jobs are under way in it: while there are any, its slot is lent."""
    has_slot: bool = True
    """Its slot was not given back yet."""
    is_recorded: bool = False
    """The history tells already how it ended."""

    @classmethod
    def of_claim(
        cls, claim: Claim, *, backend: Backend, endpoint: Endpoint, lane: SlotPool, job: Job[Any] | None
    ) -> Attempt:
        """The attempt that a claim stands for."""
        attempt = cls(backend, endpoint, lane, claim.id, claim.due_at, job)
        attempt.fence = claim.fence
        attempt.number = claim.attempt
        attempt.crashes = claim.crashes
        attempt.queue = claim.queue
        attempt.origin = claim.origin
        attempt.payload = claim.payload
        attempt.options = claim.options
        attempt.context = None if job is None else job.context
        return attempt

    @property
    def is_readable(self) -> bool:
        """Whether its arguments could be restored (or did not have to be)."""
        return self.args is not UNSET

    @property
    def is_declared(self) -> bool:
        """Whether it is a run of a cron that is declared in code."""
        return self.id == self.endpoint.name + DECLARED_SUFFIX

    def owns(self, record: JobRecord) -> bool:
        """Whether ``record`` is the job as this attempt has claimed it, and not one that came later under its id."""
        return (record.status, record.owner, record.fence) == (JobStatus.RUNNING, self.backend.owner, self.fence)

    def interrupt(self, why: Interruption) -> None:
        """Tell the attempt to stop; the first reason given is the one that counts, but a user's cancel beats a
        shutdown."""
        if self.interruption is None or why is Interruption.CANCEL:
            self.interruption = why
        if self.call is not None:
            self.call.stop.set()
            if why is not Interruption.CANCEL and self.endpoint.run_mode is RunMode.THREAD and self.call.is_running:
                return  # a thread cannot be stopped: its result is waited for, and counts
        # A task that is cancelled before its first step never runs any of its code, so nobody would settle the job:
        # an attempt that has not begun looks at ``interruption`` when it begins.
        if self.task is not None and self.has_begun:
            self.task.cancel()

    # -- what current_job shows of it (Running) ------------------------------------------------------------------------

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
        """Why it was told to stop."""
        if self.interruption is Interruption.TAKEN:
            return "shutdown"
        if self.interruption is not None:
            return str(self.interruption.value)
        if is_overdue(self):
            return TIMED_OUT
        return "shutdown" if self.call is not None and self.call.stop.is_set() else None

    def encode(self, value: Any) -> Any:
        """See :meth:`Backend.encode_value`."""
        return self.backend.encode_value(value)

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        """Pass a report on. What outlives the attempt (a thread, a task) has nothing to say any more."""
        if not self.is_over:
            reports = self.reports or self.backend.reporter.stream_of(self, self.backend.owner, self.fence)
            reports.add(self, kind, data, level)

    def on_child_message(self, message: tuple[MessageKind | None, Any, str | None]) -> Awaitable[None] | None:
        """Pass on what its child process reports; what to await before the next one is taken."""
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
        if loop is None:
            return  # over, and nothing of it runs any more that holds a slot
        if asyncio._get_running_loop() is loop:
            step()
        else:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(step)

    def _lend_slot(self) -> None:
        self.waits += 1
        if self.waits == 1 and self.has_slot:
            if self.runner is not None:
                self.runner.extend(1)
            self.pool.release()

    def _take_slot_back(self) -> None:
        self.waits -= 1
        if self.waits == 0 and self.has_slot:
            self.pool.take_back()
            if self.runner is not None:
                self.runner.extend(-1)

    def free_slot(self) -> None:
        """The slot is for others from now on; it is free already if it is lent."""
        self.has_slot = False
        if self.waits == 0:
            self.pool.release()
        elif self.runner is not None:
            self.runner.extend(-1)


class RunningAttempts:
    """Who runs here: kept by the executor and the completer, asked by everybody."""

    def __init__(self) -> None:
        self.running: dict[str, Attempt] = {}
        """By job id, from their launch to their end: of the attempts of one job, the latest."""
        self.superseded: dict[Attempt, Attempt] = {}
        """Those whose job was taken from this process and came back to it, each with the attempt that waits for its
        end: two attempts of one job do not overlap."""
        self.lingering: dict[asyncio.Task[None], Attempt | None] = {}
        """Those that are over while their thread goes on, by who waits for that; None if the job has been given
        away."""
        self.begun: BegunJobs | None = None
        """Where attempts are noted that have begun, from their begin until their end is stored."""

    def __iter__(self) -> Iterator[Attempt]:
        yield from list(self.running.values())
        yield from list(self.superseded)
        yield from [attempt for attempt in self.lingering.values() if attempt is not None]

    def lingering_of(self, job_id: str) -> asyncio.Task[None] | None:
        """What waits for the thread of an attempt of this job that is over."""
        return next((task for task, over in self.lingering.items() if over is not None and over.id == job_id), None)

    def release_begun(self, attempt: Attempt) -> None:
        """Note that an attempt is over which had begun: its end is stored, and its thread does not go on."""
        begun, slot = self.begun, attempt.slot
        if begun is not None and slot is not None:
            attempt.slot = None
            begun.leave(slot)

    def is_busy(self) -> bool:
        """Whether the function of any job is still at work here."""
        return bool(self.running or self.superseded or self.lingering)

    def find(self, job_id: str) -> Attempt | None:
        """The attempt of a job that is in the hands of this process: running, or over while its thread goes on."""
        running = self.running.get(job_id)
        if running is not None or not self.lingering:
            return running
        return next((over for over in self.lingering.values() if over is not None and over.id == job_id), None)
