"""One attempt, from claim to outcome. Read it top to bottom.

::

    launch → _run_attempt: begin → perform (middleware → runner → function) → outcome → completer

The function runs in a task of its own, which a cancel or a shutdown interrupts. Its end is followed by plain calls
only: between the end of the function and the record of its outcome nothing can be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from logging import DEBUG
from typing import Any, Final

from jobify.config import JobifyConfiguration
from jobify.engine.execution.arguments import decode_arguments, fetch_parent_results
from jobify.engine.execution.attempt import Attempt, Interruption, Phase
from jobify.engine.execution.batch_calls import BatchCalls
from jobify.engine.execution.completer import Completer
from jobify.engine.execution.direct_calls import DirectCalls
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.job_log import log as jobs_log
from jobify.engine.execution.prefetch import Prefetches
from jobify.engine.execution.slots import SharedSlot, SlotPools
from jobify.engine.execution.task_starter import TaskStarter
from jobify.engine.execution.timers import DueTimer
from jobify.jobs.context import JobContext, Runnable, RunStrategy
from jobify.jobs.current_job import CURRENT
from jobify.jobs.schedule_builder import ScheduleBuilder, Scheduler
from jobify.model.clock import SECOND, Clock, seconds
from jobify.model.job_options import ParentResults, read_options
from jobify.model.state import RequestState
from jobify.model.status import JobStatus, Outcome, Refused, Returned, Succeeded
from jobify.model.task_options import RunMode
from jobify.router.registry import Registry
from jobify.runners.base import CallMaker, FunctionCall, Runner, contained
from jobify.runners.job_info import job_info_of
from jobify.runtime.fork import end_fork, forks
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn
from jobify.serializers.offload import LARGE_BYTES, off_loop
from jobify.types import UNSET, Microseconds

__all__ = ("Executor", "build_context")

log = get_logger("jobify.engine")

_PROCESS: Final = RunMode.PROCESS
_LAUNCHED, _RUNNING, _OVER = Phase
_LONGEST_AHEAD: Final[Microseconds] = SECOND
"""A claimed job is due within some milliseconds, unless the clock is set back between the claim and its answer."""


class Executor:
    """Runs attempts."""

    def __init__(
        self,
        registry: Registry,
        runners: dict[RunMode, Runner],
        completer: Completer,
        pools: SlotPools,
        new_context: Callable[[Attempt, RunStrategy], JobContext],
        *,
        clock: Clock,
        loop_is_closing: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._runners = runners
        self._completer = completer
        self._pools = pools
        self._new_context = new_context
        self._clock = clock
        self._loop_is_closing = loop_is_closing
        self._attempts = completer.attempts
        self._by_id = self._attempts.running
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._due_timer = DueTimer(clock)
        self._loop = asyncio.get_running_loop()
        self._direct = direct = DirectCalls(runners, self._attempts, completer.job_log, self._conclude, clock)
        self.prefetch = Prefetches(pools, direct, begin=self._begin_registered, release=self._return)
        self._tasks = tasks = TaskStarter(self._loop, self._run_attempt, on_refused=self._refuse)
        self._start_task = tasks.start
        self._forks = forks.count
        self._batches = BatchCalls(runners, pools, new_context)
        self.call_makers: tuple[CallMaker, ...] = (*runners.values(), self._batches)

    async def idle(self) -> None:
        """Return when no attempt runs."""
        await self._is_idle.wait()

    def launch(self, attempt: Attempt) -> None:
        """Start an attempt whose claim and slot are held. Returns at once, and never raises."""
        latest = self._by_id.setdefault(attempt.id, attempt)
        if len(self._by_id) == 1:
            self._is_idle.clear()
        if (latest is not attempt or self._attempts.lingering) and self._attempts.must_wait(
            attempt, latest, self.launch
        ):
            if isinstance(attempt.pool, SharedSlot):
                attempt.pool = attempt.pool.split()
            return
        prefetch = self.prefetch.get(attempt.pool.mode)
        if prefetch is None or attempt.endpoint.batch is not None:
            self._begin_in_task(attempt)
        else:
            prefetch.launch(attempt)

    def _begin_registered(self, attempt: Attempt) -> None:
        """Begin a registered attempt whose runner may need no task."""
        context = attempt.context
        if self._direct.is_direct(attempt):
            own = copy_context() if context is None else context.copy()
            if self._direct.submit(attempt, own):
                return
        self._begin_in_task(attempt)

    def _begin_in_task(self, attempt: Attempt) -> None:
        """Begin a registered attempt in a task of its own."""
        context, endpoint = attempt.context, attempt.endpoint
        may_run_again = endpoint.retry is not None or attempt.options is not None or endpoint.run_mode is _PROCESS
        if context is None:
            context = copy_context()
        elif attempt.number > 1 or may_run_again:  # the only attempt needs no copy
            context = context.copy()
        self._start_task(attempt, context)

    def relaunch(self) -> None:
        """Start the attempts again whose tasks were cancelled before their first step: nothing of them has run."""
        for attempt in list(self._by_id.values()):
            if attempt.phase is _LAUNCHED and attempt.task is not None and attempt.task.done():
                self.launch(attempt)

    def launch_when_due(self, attempt: Attempt) -> None:
        """:meth:`launch`, at the due time of a job that was claimed a little ahead of it.

        It counts as running from now on: a cancel or a shutdown finds it, and takes effect when it would begin.
        """
        ahead = attempt.due_at - self._clock.now()
        if ahead <= 0 or ahead > _LONGEST_AHEAD:  # the clock was set back since the claim, by which it was due
            self.launch(attempt)
            return
        self._is_idle.clear()
        if self._by_id.setdefault(attempt.id, attempt) is not attempt:
            self.launch(attempt)  # which has it wait for the earlier attempt
            return
        start = partial(self.launch, attempt)
        try:
            self._due_timer.call_at(attempt.due_at, start)
        except Exception:  # the system has no timer left; the loop's own is a millisecond late
            self._loop.call_later(max(0.0, (attempt.due_at - self._clock.now()) / SECOND), start)

    def close(self) -> None:
        """Start no more attempts."""
        self.prefetch.close()
        self._due_timer.close()

    async def _run_attempt(self, attempt: Attempt) -> None:
        """Run one claimed job once, to its outcome. Never raises for the job's own failure."""
        CURRENT.set(attempt)
        if self._tasks.has_factory:  # without one it is set already
            attempt.task = asyncio.current_task()
        attempt.phase = _RUNNING
        begun = self._attempts.begun
        if begun is not None:
            attempt.slot = begun.enter(attempt.id)
        attempt.started_at = self._clock.now()
        if jobs_log.isEnabledFor(DEBUG):
            attempt.is_logged = True
            self._completer.job_log.began(attempt)
        value: Any = None
        error: BaseException | None = None
        try:
            if attempt.interruption is None:
                value = await self._perform(attempt)
            else:
                error = asyncio.CancelledError()
        except BaseException as raised:  # SystemExit and CancelledError included: a job cannot end its app
            error = raised
            if attempt.interruption is None and type(raised) is asyncio.CancelledError and self._loop_is_closing():
                attempt.interruption = Interruption.SHUTDOWN
        if forks.count != self._forks:
            end_fork(error)
        CURRENT.set(None)  # the context may belong to a handle, which would keep the attempt alive
        if error is None and attempt.interruption is None and attempt.call is None:  # _conclude() for most jobs
            self._settle(attempt, Succeeded(value), self._clock.now())
        else:
            self._conclude(attempt, value, error)

    def _conclude(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        """The function of an attempt has ended like this, or never begins. Only plain calls follow."""
        now = self._clock.now()
        call = attempt.call
        outcome: Outcome
        if error is None and attempt.interruption is None and (call is None or call.refusal is None):
            outcome = Succeeded(value)  # as decide() would say
        else:
            if call is not None and call.refusal is not None:
                self._pools.suspend(attempt.pool, call.refusal)
            if attempt.phase is _LAUNCHED:
                attempt.started_at = now
            outcome = self._completer.decide(attempt, value, error, now)
        if call is not None and call.seconds is not None and (prefetch := self.prefetch.get(attempt.pool.mode)):
            prefetch.observe(attempt.endpoint.name, call.seconds)
        self._settle(attempt, outcome, now)

    def _settle(self, attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
        attempt.phase = _OVER
        if self._attempts.superseded:
            self._end(attempt)
        else:  # _end() for nearly every job, without the call
            del self._by_id[attempt.id]
            attempt.task = None
            if not self._by_id:
                self._is_idle.set()
        self._completer.complete(attempt, outcome, now)

    def _return(self, attempt: Attempt) -> None:
        """Return a job that was claimed ahead, unless it has begun."""
        if attempt.call is None or self._direct.withdraw(attempt):
            self._settle(attempt, Returned(), self._clock.now())

    def _refuse(self, attempt: Attempt, reason: str) -> None:
        """The system has no memory for the task of an attempt."""
        self._pools.suspend(attempt.pool, reason)
        now = self._clock.now()
        self._settle(attempt, Refused(reason, now + seconds(attempt.pool.pause)), now)

    def _end(self, attempt: Attempt) -> None:
        """The attempt is over."""
        if self._attempts.superseded and attempt in self._attempts.superseded:
            self._launch_successor(attempt, self._attempts.superseded.pop(attempt))
        else:
            del self._by_id[attempt.id]
        attempt.task = None  # not needed any more, and four objects fewer for a job in flight
        if not self._by_id:
            self._is_idle.set()

    def _launch_successor(self, attempt: Attempt, following: Attempt) -> None:
        """Launch the attempt that waited for the end of this one: at once, or when its thread has ended, too."""
        if attempt.call is not None and attempt.call.is_running:
            waiting = spawn(attempt.call.ended())
            waiting.add_done_callback(lambda _: self.launch(following))
        else:
            self._loop.call_soon(self.launch, following)

    def _perform(self, attempt: Attempt) -> Awaitable[Any]:
        """The awaitable of the attempt, with as few layers around the function as it needs."""
        if attempt.options is not None:
            options = read_options(attempt.options)
            attempt.endpoint = attempt.endpoint.for_job(options)
            if options.inputs is not None:
                return self._perform_on(attempt, options.inputs)
        if attempt.args is UNSET:
            if isinstance(attempt.payload, bytes) and len(attempt.payload) > LARGE_BYTES:
                return self._perform_large(attempt)
            attempt.args, attempt.kwargs = decode_arguments(attempt)
        if attempt.endpoint.is_bare and attempt.pool.trial is None:  # _begin() for most jobs, without calls
            if attempt.job is not None:
                attempt.job.status = JobStatus.RUNNING
            running: Awaitable[Any] = attempt.endpoint.func(*attempt.args, **attempt.kwargs)
            return running
        return self._begin(attempt)

    async def _perform_large(self, attempt: Attempt) -> Any:
        """:meth:`_perform`, for a job whose arguments take long to decode."""
        attempt.args, attempt.kwargs = await off_loop(partial(decode_arguments, attempt))
        return await self._begin(attempt)

    async def _perform_on(self, attempt: Attempt, inputs: ParentResults) -> Any:
        """:meth:`_perform`, for a job whose first argument comes from other jobs."""
        attempt.args, attempt.kwargs = decode_arguments(
            attempt, await fetch_parent_results(attempt, inputs, self._registry)
        )
        return await self._begin(attempt)

    def _begin(self, attempt: Attempt) -> Awaitable[Any]:
        if attempt.job is not None:
            attempt.job.status = JobStatus.RUNNING
        if attempt.endpoint.call is not None:
            return attempt.endpoint.call(self._new_context(attempt, partial(self._run_contained, attempt)))
        return self._run(attempt, attempt.args, attempt.kwargs)

    def _run(self, attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        endpoint = attempt.endpoint
        if endpoint.batch is not None:
            return self._batches.join(attempt, args, kwargs)
        if endpoint.run_mode is RunMode.MAIN:
            if attempt.pool.trial is not None:
                self._pools.recover(attempt.pool)
            running: Awaitable[Any] = endpoint.func(*args, **kwargs)
            return running
        call = attempt.call = FunctionCall(endpoint.func, args, kwargs, address=endpoint.address)
        if attempt.pool.trial is not None:
            call.tag, call.on_begin = attempt.pool, self._recover_pool
        attempt.runner = runner = self._runners[endpoint.run_mode]
        return self._run_in_process(attempt, call) if endpoint.run_mode is _PROCESS else runner.run(call)

    def _recover_pool(self, call: FunctionCall) -> None:
        """A call that was tried after a refusal has begun."""
        self._pools.recover(call.tag)

    async def _run_contained(self, attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """:meth:`_run` inside middleware and exception handlers, which see the same error in every run mode."""
        try:
            value = await self._run(attempt, args, kwargs)
        except BaseException as error:
            self._end_a_fork(error)
            if isinstance(error, Exception) or _is_interruption(error):
                raise
            raise contained(error) from error
        self._end_a_fork(None)
        return value

    def _end_a_fork(self, error: BaseException | None) -> None:
        """End this process if it is a fork of a task, before middleware or an outcome takes it for the job."""
        if forks.count != self._forks:
            end_fork(error)

    async def _run_in_process(self, attempt: Attempt, call: FunctionCall) -> Any:
        """Run the call in a child process, which gets the facts of its job and may report on it."""
        call.job_info = job_info_of(attempt, attempt.backend.serializer)
        call.on_message = attempt.on_child_message
        try:
            return await self._runners[RunMode.PROCESS].run(call)
        finally:
            call.on_message = None  # because the garbage collector does not see cycles through an attempt


def _is_interruption(error: BaseException) -> bool:
    """Whether ``error`` ends the coroutine from outside: a cancel of its task (not of what it awaits), or a close."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def build_context(
    handles: HandleRegistry, scheduler: Scheduler, config: JobifyConfiguration, attempt: Attempt, strategy: RunStrategy
) -> JobContext:
    """The context of middleware, exception handlers and INJECT parameters; ``strategy`` runs the task's function."""
    endpoint = attempt.endpoint
    job = handles.of_attempt(attempt)
    job.status = JobStatus.RUNNING
    return JobContext(
        job=job,
        state=endpoint.state,
        runnable=Runnable(
            name=endpoint.name,
            bound=endpoint.run_spec.bind(attempt.args, attempt.kwargs),
            strategy=strategy,
            func_spec=endpoint.run_spec,
            positional=len(attempt.args),
        ),
        request_state=RequestState(),
        route_options=endpoint.options,
        jobify_config=config,
        schedule_builder=ScheduleBuilder(
            name=endpoint.name,
            func_spec=endpoint.spec,
            options=endpoint.options,
            scheduler=scheduler,
            args=attempt.args,
            kwargs=attempt.kwargs,
        ),
        app=config.app,
    )
