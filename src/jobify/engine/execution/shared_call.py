"""One call of a function for several attempts, and each attempt's part in it. See ``batch_calls``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NoReturn

from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.slots import SharedSlot, SlotPools
from jobify.exceptions import BatchResultError, ConfigurationError, JobTimeoutError, TaskCancelledError
from jobify.jobs.current_job import CURRENT
from jobify.model.batch import BatchFunction
from jobify.model.records import MessageKind
from jobify.model.task_options import RunMode
from jobify.router.registry import Endpoint
from jobify.runners.base import FunctionCall, Runner, contained
from jobify.runners.job_info import job_info_of
from jobify.runtime.fork import end_fork, forks
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import call_in

__all__ = ("BatchMember", "SharedCall")

log = get_logger("jobify.engine")

_NUDGE: Final = 5.0
"""Seconds after which a function that nothing waits for is interrupted again."""


class BatchMember:
    """An attempt that has joined its batch."""

    __slots__ = ("attempt_made", "element", "result")

    def __init__(self, attempt: Attempt, element: Any, result: asyncio.Future[Any]) -> None:
        self.attempt_made = attempt
        self.element = element
        self.result = result

    @property
    def id(self) -> str:
        return self.attempt_made.id

    @property
    def attempt(self) -> int:
        return self.attempt_made.number

    @property
    def is_cancelled(self) -> bool:
        """See :class:`~jobify.jobs.current_job.BatchJob`."""
        return self.result.cancelled()


class SharedCall:
    """One call of a function, for the attempts that wait for it. The function sees it as ``current_job``."""

    def __init__(
        self, slot: SharedSlot, members: Sequence[BatchMember], runners: Mapping[RunMode, Runner], pools: SlotPools
    ) -> None:
        self.first = first = members[0].attempt_made
        self.batch: Sequence[BatchMember] = tuple(members)
        self.task: asyncio.Task[None] | None = None
        self._slot = slot
        self._pools = pools
        self.run_mode = first.endpoint.run_mode
        self._runner = runners[self.run_mode]
        self._waits = 0
        """How many waits for other jobs are under way in the function: while there are any, the slot is lent."""
        self.is_over = False
        self._forks = forks.count
        self.call = SharedFunctionCall(first.endpoint, [member.attempt_made for member in members])
        self.call.on_end = slot.end_call
        # What current_job shows
        self.id = first.id if len(members) == 1 else f"{first.id} and {len(members) - 1} more"
        self.number = first.number
        deadlines = [member.attempt_made.deadline for member in members]
        self.deadline = None if None in deadlines else max(filter(None, deadlines))
        timeouts = [member.attempt_made.timeout for member in members]
        self.timeout = None if None in timeouts else max(filter(None, timeouts))

    @property
    def function(self) -> BatchFunction:
        function = self.first.endpoint.batch
        assert function is not None
        return function

    # -- the call ------------------------------------------------------------------------------------------------------

    async def run(self, injected: dict[str, Any]) -> None:
        """Call the function, and give each attempt its result."""
        CURRENT.set(self)
        call, pool = self.call, self._slot.pool
        call.args, call.kwargs = ([member.element for member in self.batch],), injected
        if pool.trial is not None:
            call.on_begin = self._recover
            if self.run_mode is RunMode.MAIN:
                self._recover(call)
        if self.run_mode is RunMode.PROCESS:
            call.job_info = job_info_of(self, self.first.backend.serializer)
            call.on_message = self._on_child_message
        value: Any = None
        error: BaseException | None = None
        try:
            value = await self._runner.run(call)
        except BaseException as raised:  # of any kind: each job decides what it means to it
            error = raised
        if forks.count != self._forks:
            end_fork(error)
        self.end(value, error)

    def _recover(self, _: FunctionCall) -> None:
        """A call that was tried after a refusal has begun."""
        self._pools.recover(self._slot.pool)

    def end(self, value: Any, error: BaseException | None) -> None:
        """The function has ended like this, or is not waited for any more. Only plain calls follow."""
        self.is_over = True
        if self._waits:  # its child was killed meanwhile
            self._return_slot()
        if self.call.is_running and self.run_mode is RunMode.THREAD:
            name = self.first.endpoint.name
            log.warning("All jobs of a batch of %s are over, their thread is not and keeps a slot.", name)
        self.call.let_go()
        members, self.batch = self.batch, ()
        if error is None:
            try:
                value = self._checked(value, len(members))
            except BatchResultError as problem:
                error = problem
        for member, result in zip(members, repeat(error) if error is not None else value, strict=False):
            self._give(member, result)

    def _checked(self, value: Any, count: int) -> Sequence[Any]:
        """The results; BatchResultError if they are not one for each job."""
        task = self.first.endpoint.name
        if value is None and not self.function.has_results:
            return (None,) * count
        if not isinstance(value, list | tuple):
            raise BatchResultError(task, count, f"{type(value).__name__}, which is no list")
        if len(value) != count:
            raise BatchResultError(task, count, f"a list of {len(value)}")
        return value

    def _give(self, member: BatchMember, result: Any) -> None:
        if member.result.done():  # it is over
            return
        if isinstance(result, BaseException):
            member.result.set_exception(self._error_of(member, contained(result)))
            member.result.exception()  # a task that is cancelled just now does not retrieve it
        else:
            member.result.set_result(result)

    def _error_of(self, member: BatchMember, error: Exception) -> Exception:
        """The error of one attempt: what ``current_job`` has raised for all is raised for each."""
        own: Exception | None = None
        if type(error) is TaskCancelledError and error.job_id == self.id:
            own = TaskCancelledError(member.id, error.reason)
        elif type(error) is JobTimeoutError and error.job_id == self.id:
            own = JobTimeoutError(member.id, member.attempt_made.timeout or error.timeout)
        if own is None:
            return error
        own.__cause__ = error
        return own.with_traceback(error.__traceback__)

    def interrupt_if_empty(self) -> None:
        """Interrupt the function if all of its attempts are over."""
        if not self.is_over and all(member.is_cancelled for member in self.batch):
            self.call.is_stop_requested = True
            if self.task is not None:
                self.task.cancel()
            asyncio.get_running_loop().call_later(_NUDGE, self.interrupt_if_empty)

    # -- its slot ------------------------------------------------------------------------------------------------------

    def lend(self) -> None:
        """See :class:`~jobify.jobs.current_job.Running`."""
        if self.task is not None:
            call_in(self.task.get_loop(), self._lend_slot)

    def take_back(self) -> None:
        """See :class:`~jobify.jobs.current_job.Running`."""
        if self.task is not None:
            call_in(self.task.get_loop(), self._take_slot_back)

    def _lend_slot(self) -> None:
        if self.is_over:
            return
        self._waits += 1
        if self._waits == 1:
            self._runner.extend(1)
            self._slot.pool.release()

    def _take_slot_back(self) -> None:
        if self.is_over:
            return
        self._waits -= 1
        if self._waits == 0:
            self._return_slot()

    def _return_slot(self) -> None:
        self._slot.pool.take_back()
        self._runner.extend(-1)

    # -- what current_job shows of it (Running) ------------------------------------------------------------------------

    @property
    def app(self) -> object:
        return self.first.app

    @property
    def task_name(self) -> str:
        return self.first.task_name

    @property
    def queue_name(self) -> str:
        return self.first.queue_name

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self.first.endpoint.route.options.get("metadata") or {})

    def stop_reason(self) -> str | None:
        """Why the function has to stop: all of its jobs have to. None means that it has not."""
        reasons = [member.attempt_made.stop_reason() for member in self.batch]
        return None if None in reasons else next(iter(reasons), "shutdown")

    def encode(self, value: Any) -> Any:
        """See :meth:`Backend.encode_value`."""
        return self.first.encode(value)

    def completion(self) -> NoReturn:
        """A transaction completes one job."""
        raise ConfigurationError(
            f"One call of task {self.task_name!r} runs many jobs, which no transaction can complete. Leave batch= out, "
            "or open the transaction without current_job."
        )

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        """Report it of each job that is not over."""
        for member in self.batch:
            if not member.is_cancelled:
                member.attempt_made.report(kind, data, level)

    def _on_child_message(self, message: tuple[MessageKind | None, Any, str | None]) -> Awaitable[None] | None:
        """Pass on a report of its child process; return what to await before the next one is read."""
        kind, data, level = message
        if kind is None:
            self._lend_slot() if data else self._take_slot_back()
            return None
        self.report(kind, data, level)
        streams = (member.attempt_made.reports for member in self.batch)
        waits = [wait for stream in streams if stream is not None and (wait := stream.wait_for_room()) is not None]
        return _all(waits) if waits else None


async def _all(waits: Sequence[Awaitable[None]]) -> None:
    for wait in waits:
        await wait


class SharedFunctionCall(FunctionCall):
    """The call of the function, on which the state of the attempts' own calls depends.

    These count as running from the beginning until nothing of the function runs any more.
    """

    __slots__ = ("_is_let_go", "_parts", "on_end")

    def __init__(self, endpoint: Endpoint, attempts: Sequence[Attempt]) -> None:
        super().__init__(endpoint.func, address=endpoint.address)
        self._is_let_go = False
        self._parts = [FunctionCall(endpoint.func) for _ in attempts]
        self.on_end: Callable[[], None] | None = None
        loop = asyncio.get_running_loop()
        for attempt, part in zip(attempts, self._parts, strict=True):
            part.is_running, part.loop, part.whole = True, loop, self
            attempt.call = part

    def let_go(self) -> None:
        """Its outcome is known, or not waited for."""
        self._is_let_go = True
        self.args: tuple[Any, ...] = ()
        for part in self._parts:
            part.refusal, part.misfit = self.refusal, self.misfit
        if not self.is_running:
            self.end()

    def end(self) -> None:
        """A runner also calls it when it takes the call back and makes it later."""
        super().end()
        if not self._is_let_go:
            return
        parts, self._parts = self._parts, []
        for part in parts:
            part.end()
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()
