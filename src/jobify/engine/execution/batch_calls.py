"""One call of a function for the jobs of a batch.

Each job of a batch is an attempt like any other, with its own middleware, timeout, cancel, retry and outcome. In the
place of calling the function, it *joins*: it makes the element of its call and waits. When all attempts of the batch
that are not over have joined, the function is called once, with the list of their elements, by the runner of its run
mode; and each attempt gets its own result, or its own error.

::

    attempt ─▶ middleware ─▶ join ─┐                        ┌─▶ result ─▶ outcome
    attempt ─▶ middleware ─▶ join ─┼─▶ SharedCall: runner ─▶┼─▶ error ──▶ outcome
    attempt ─▶ cancelled           ┘                        └─▶ …

An attempt that is cancelled or times out ends at once, as :attr:`BatchMember.is_cancelled` says to the function; the
others go on. If none is left, the call itself is interrupted. As long as the function runs, an attempt that ended
before it is in the state of one whose thread goes on: the slot and the limits are held, and the job does not run again.

A middleware that calls the rest of the chain again joins again. Its attempt waits for the others as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.shared_call import BatchMember, SharedCall
from jobify.engine.execution.slots import SharedSlot, SlotPools
from jobify.jobs.context import JobContext, RunStrategy
from jobify.model.task_options import RunMode
from jobify.router.injection import inject_shared
from jobify.runners.base import FunctionCall, Runner

__all__ = ("BatchCalls",)


class BatchCalls:
    """Makes the calls of batches."""

    def __init__(
        self,
        runners: Mapping[RunMode, Runner],
        pools: SlotPools,
        new_context: Callable[[Attempt, RunStrategy], JobContext],
    ) -> None:
        self._runners = runners
        self._pools = pools
        self._new_context = new_context
        self._loop = asyncio.get_running_loop()
        self._running: set[SharedCall] = set()

    async def join(self, attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Wait for the other attempts of the batch, then for the call; the result of this attempt, or its error.

        What the element type raises for these arguments is the error of this attempt alone.
        """
        slot, function = attempt.pool, attempt.endpoint.batch
        assert function is not None
        assert isinstance(slot, SharedSlot)
        element = function.element.build(args, kwargs, id=attempt.id, attempt=attempt.number)
        member = BatchMember(attempt, element, self._loop.create_future())
        slot.on_release = self._start_if_complete
        slot.waiting.append(member)
        self._start_if_complete(slot)
        try:
            return await member.result
        except asyncio.CancelledError:
            if member in slot.waiting:
                slot.waiting.remove(member)
            elif slot.call is not None:
                slot.call.interrupt_if_empty()
            raise
        finally:
            del member, element  # the traceback of an error keeps this frame

    def _start_if_complete(self, slot: SharedSlot) -> None:
        """Make the call if every attempt of the batch that is not over waits for it."""
        if slot.call is not None or not slot.waiting or len(slot.waiting) < slot.holders:
            return
        members, slot.waiting = slot.waiting, []
        call = slot.call = SharedCall(slot, members, self._runners, self._pools)
        self._running.add(call)
        call.task = asyncio.Task(self._run(call), loop=self._loop, context=slot.context.copy())
        call.task.add_done_callback(partial(self._on_end, call))

    async def _run(self, call: SharedCall) -> None:
        spec, injected = call.function.spec, {}
        try:
            if spec.inject_params:
                injected = inject_shared(self._new_context(call.first, _call_nothing), spec)
        except Exception as error:  # what is to be injected is the user's
            call.end(None, error)
        else:
            await call.run(injected)

    def _on_end(self, call: SharedCall, task: asyncio.Task[None]) -> None:
        self._running.discard(call)
        if not call.is_over:  # it was cancelled before its first step
            call.end(None, asyncio.CancelledError() if task.cancelled() else task.exception())

    def unfinished(self) -> dict[FunctionCall, Future[Any]]:
        """The calls of coroutines that have not ended, each with a future that is done at its end."""
        return {
            shared.call: _end_of(shared.task)
            for shared in self._running
            if shared.run_mode is RunMode.MAIN and shared.task is not None
        }


def _end_of(task: asyncio.Task[None]) -> Future[Any]:
    ended: Future[Any] = Future()
    task.add_done_callback(lambda _: ended.set_result(None))
    return ended


def _call_nothing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
    """A context needs something to call; this one is only read."""
    raise NotImplementedError
