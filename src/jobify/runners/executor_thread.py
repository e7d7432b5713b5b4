"""Runs plain functions in the threads of an executor that the user gave.

The executor is used as it is, and never shut down: it may have other users, and its threads are not counted here. A
call costs one hop there and one back. For the threads that the app starts itself see :mod:`jobify.runners.thread`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from jobify.exceptions import ApplicationStateError
from jobify.model.transient import refusal_of
from jobify.runners.base import FunctionCall, contained
from jobify.runners.thread import not_ready, report_running
from jobify.runtime.fork import call as call_task

__all__ = ("ExecutorThreadRunner", "await_future")


# -- executor future ---------------------------------------------------------------------------------------------------
# Await a call in an executor of :mod:`concurrent.futures`, which cannot be stopped from outside.

ReturnT = TypeVar("ReturnT")


async def await_future(future: Future[ReturnT], call: FunctionCall) -> ReturnT:
    """The result of ``future``, or its contained error. ``call`` runs until ``future`` is done, however this ends.

    A cancellation removes a call that has not begun, requests a running one to stop, and does not wait.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def on_end() -> None:
        call.end()
        if not done.done():
            done.set_result(None)

    def on_done(_: Future[ReturnT]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(on_end)

    call.begin()
    future.add_done_callback(on_done)
    try:
        await done
    finally:
        if not future.done():
            call.is_stop_requested = True
            future.cancel()
    return _result_of(future)


def _result_of(future: Future[ReturnT]) -> ReturnT:
    if future.cancelled():
        raise ApplicationStateError(
            operation="run the call", reason="its executor was shut down first.", solution="Start the app again."
        )
    error = future.exception()
    if error is not None:
        raise contained(error)
    return future.result()


# -- executor thread ---------------------------------------------------------------------------------------------------


class ExecutorThreadRunner:
    """Calls functions in the user's own ``executor``."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.slots = executor._max_workers
        self._executor = executor
        self._is_started = False
        self._calls: dict[FunctionCall, Future[Any]] = {}

    async def start(self) -> None:
        self._is_started = True

    async def stop(self) -> None:
        """Request the running functions to stop, and do not wait for them."""
        self._is_started = False
        report_running([*self._calls])  # a copy: threads that end take theirs out

    def unfinished(self) -> Mapping[FunctionCall, Future[Any]]:
        return dict(self._calls)

    def extend(self, count: int) -> None:
        # The pool has no public way to grow. A thread that it no longer needs stays, and rests.
        self._executor._max_workers += count

    async def run(self, call: FunctionCall) -> Any:
        future = self._submit(call)
        self._calls[call] = future
        future.add_done_callback(lambda _: self._calls.pop(call, None))
        value = await await_future(future, call)
        # A plain function that returns a coroutine (a lambda around an async function) means what it awaits to.
        return await value if inspect.iscoroutine(value) else value

    def _submit(self, call: FunctionCall) -> Future[Any]:
        if not self._is_started:
            raise not_ready("it is not started.", "Start the app first.")
        turn = _Submission()
        try:
            future = self._executor.submit(_perform, call, contextvars.copy_context(), turn)
        except (RuntimeError, OSError, MemoryError) as error:
            begun = turn.refuse()
            if begun is not None:
                return begun
            call.is_stop_requested = True
            call.refusal = refusal_of(error)
            if call.refusal is not None:
                raise not_ready(f"{call.refusal}.", "It is tried again.") from error
            raise not_ready(f"{error}.", "Give the app an executor that works, or none.") from error
        turn.is_accepted = True
        return future


class _Submission:
    """Decides once whether a call begins in a thread or is refused.

    An executor that cannot start a thread raises after it has queued the call. Another of its threads may take the call
    at this moment: then it has begun, and must not be made again.
    """

    __slots__ = ("_begun", "_is_refused", "_lock", "is_accepted")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_refused = False
        self._begun: Future[Any] | None = None
        self.is_accepted = False

    def refuse(self) -> Future[Any] | None:
        """The executor has raised. None: the call does not begin. Otherwise it has, and this is its outcome."""
        with self._lock:
            self._is_refused = self._begun is None
            return self._begun

    def run(self, perform: Callable[[], Any]) -> Any:
        """In the thread."""
        with self._lock:
            if self._is_refused:
                return None
            if not self.is_accepted:
                self._begun = Future()
                self._begun.set_running_or_notify_cancel()
        return perform() if self._begun is None else self._run_into(self._begun, perform)

    @staticmethod
    def _run_into(future: Future[Any], perform: Callable[[], Any]) -> Any:
        try:
            value = perform()
        except BaseException as error:
            future.set_exception(error)
            raise
        future.set_result(value)
        return value


def _perform(call: FunctionCall, context: contextvars.Context, turn: _Submission) -> Any:
    """In the thread. A call that was interrupted before its turn does not begin."""
    if call.is_stop_requested:
        return None
    return turn.run(partial(context.run, call_task, call.func, *call.args, **call.kwargs))
