"""Attempts whose function runs in a thread or a child process, with nothing around it: they need no task.

A task on the event loop that only waits for a thread costs more than the thread's work. So the call goes straight to
the runner, and its outcome comes back by a plain call. The same rules hold as for an attempt with a task: it begins
with its function (then ``started_at`` is taken, the begin recorded, and the timeout set), a cancel or a shutdown before
that means that it never begins, and it ends once.

*Threads.* :meth:`DirectCalls._on_begin` runs in the thread of the call, everything else on the event loop. Whether a
call has begun is decided by :meth:`~jobify.runners.base.FunctionCall.take_turn`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from logging import DEBUG
from time import monotonic
from typing import Any, Final

from jobify.engine.execution.arguments import decode_arguments
from jobify.engine.execution.attempt import Attempt, Interruption, Phase, RunningAttempts
from jobify.engine.execution.job_log import JobLog
from jobify.engine.execution.job_log import log as jobs_log
from jobify.exceptions import JobTimeoutError
from jobify.jobs.current_job import CURRENT
from jobify.middleware.timeout import is_own_timeout
from jobify.model.clock import Clock
from jobify.model.status import JobStatus
from jobify.model.task_options import RunMode
from jobify.runners.base import DirectRunner, FunctionCall, Runner
from jobify.runners.job_info import job_info_of
from jobify.serializers.offload import LARGE_BYTES
from jobify.types import UNSET

__all__ = ("DirectCalls",)

_LAUNCHED, _RUNNING, _OVER = Phase
_PROCESS: Final = RunMode.PROCESS


class DirectCalls:
    """Makes the calls of such attempts; ``conclude`` gets each attempt with its value or its error."""

    def __init__(
        self,
        runners: dict[RunMode, Runner],
        attempts: RunningAttempts,
        job_log: JobLog,
        conclude: Callable[[Attempt, Any, BaseException | None], None],
        clock: Clock,
    ) -> None:
        self._runners = {mode: runner for mode, runner in runners.items() if isinstance(runner, DirectRunner)}
        self._attempts = attempts
        self._job_log = job_log
        self._conclude = conclude
        self._clock = clock
        self._submitted: dict[Attempt, asyncio.TimerHandle | None] = {}
        """The attempts that are not over, each with the timer of its timeout."""
        self._loop = asyncio.get_running_loop()

    @property
    def modes(self) -> tuple[RunMode, ...]:
        """The run modes whose runners make calls without tasks."""
        return tuple(self._runners)

    def is_direct(self, attempt: Attempt) -> bool:
        """Whether an attempt only calls its function, in a runner that needs no task."""
        endpoint = attempt.endpoint
        return (
            endpoint.is_direct
            and attempt.options is None
            and attempt.pool.trial is None
            and attempt.interruption is None
            and endpoint.run_mode in self._runners
            and not (isinstance(attempt.payload, bytes) and len(attempt.payload) > LARGE_BYTES)
        )

    def not_begun(self) -> Iterator[Attempt]:
        """The attempts that wait in a runner, in order."""
        return (attempt for attempt in self._submitted if attempt.phase is _LAUNCHED)

    def submit(self, attempt: Attempt, context: Context) -> bool:
        """Give the call to its runner. False if the arguments cannot be read: the usual way says so."""
        endpoint = attempt.endpoint
        if attempt.args is UNSET:
            try:
                attempt.args, attempt.kwargs = decode_arguments(attempt)
            except Exception:
                return False
        call = attempt.call = FunctionCall(endpoint.func, attempt.args, attempt.kwargs, address=endpoint.address)
        call.context, call.tag, call.on_begin = context, attempt, self._on_begin
        if endpoint.run_mode is _PROCESS:
            call.job_info = job_info_of(attempt, attempt.backend.serializer)
            call.on_message = attempt.on_child_message
        attempt.interrupter = self._interrupt
        attempt.runner = runner = self._runners[endpoint.run_mode]
        timeout = endpoint.timeout
        self._submitted[attempt] = None if timeout is None else self._loop.call_later(timeout, self._on_time, attempt)
        runner.submit(call, self._on_end)
        return True

    def withdraw(self, attempt: Attempt) -> bool:
        """Take a call back that has not begun; False if it has."""
        runner, call = self._runners[attempt.endpoint.run_mode], attempt.call
        if call is None or not runner.withdraw(call):
            return False
        self._forget(attempt)
        call.release()
        return True

    def _on_begin(self, call: FunctionCall) -> None:
        """The function begins: in its thread, or on the event loop for one in a child process."""
        attempt: Attempt = call.tag
        if call.address is None:
            CURRENT.set(attempt)
        if attempt.phase is _LAUNCHED:
            attempt.phase = _RUNNING
        begun = self._attempts.begun
        if begun is not None:
            attempt.slot = begun.enter(attempt.id)
        attempt.started_at = self._clock.now()
        timeout = attempt.endpoint.timeout
        if timeout is not None:
            attempt.timeout, attempt.deadline = timeout, monotonic() + timeout
        if attempt.job is not None:
            attempt.job.status = JobStatus.RUNNING
        if jobs_log.isEnabledFor(DEBUG):
            attempt.is_logged = True
            self._job_log.began(attempt)

    def _on_end(self, call: FunctionCall, value: Any, error: BaseException | None) -> None:
        attempt: Attempt = call.tag
        context = call.context
        self._forget(attempt)
        call.release()
        if inspect.iscoroutine(value) and context is not None:
            # A plain function that returns a coroutine (a lambda around an async function) means what it awaits to.
            attempt.task = self._loop.create_task(self._await(attempt, value), context=context)
            return
        if error is not None and attempt.timeout is not None and is_own_timeout(error, attempt.id):
            overdue = JobTimeoutError(attempt.id, attempt.timeout)
            overdue.__cause__ = error
            error = overdue
        self._conclude(attempt, value, error)

    def _on_time(self, attempt: Attempt) -> None:
        """The timeout of an attempt is over, if it had begun when it was submitted."""
        timeout, call = attempt.endpoint.timeout, attempt.call
        assert timeout is not None
        assert call is not None
        left = timeout if attempt.deadline is None else attempt.deadline - monotonic()
        if left > 0:
            self._submitted[attempt] = self._loop.call_later(left, self._on_time, attempt)
            return
        self._runners[attempt.endpoint.run_mode].interrupt(call)
        self._forget(attempt)
        self._conclude(attempt, None, JobTimeoutError(attempt.id, timeout))

    async def _await(self, attempt: Attempt, coroutine: Coroutine[Any, Any, Any]) -> None:
        value, failure = None, None
        limit = asyncio.timeout(None if attempt.deadline is None else max(0.0, attempt.deadline - monotonic()))
        try:
            async with limit:
                value = await coroutine
        except BaseException as error:
            failure = error
            if limit.expired() and attempt.timeout is not None:
                failure = JobTimeoutError(attempt.id, attempt.timeout)
                failure.__cause__ = error
        CURRENT.set(None)  # the context may belong to a handle, which would keep the attempt alive
        self._conclude(attempt, value, failure)

    def _interrupt(self, attempt: Attempt, why: Interruption) -> None:
        """Stop an attempt: at once if it has not begun, else as its runner can."""
        call = attempt.call
        assert call is not None
        if not self.withdraw(attempt):
            call.is_stop_requested = True
            if why is not Interruption.CANCEL and call.address is None:
                return  # a thread cannot be stopped: its result is waited for, and counts
            self._runners[attempt.endpoint.run_mode].interrupt(call)
            self._forget(attempt)
        self._conclude(attempt, None, asyncio.CancelledError())

    def _forget(self, attempt: Attempt) -> None:
        timer = self._submitted.pop(attempt, None)
        if timer is not None:
            timer.cancel()
        attempt.interrupter = None
