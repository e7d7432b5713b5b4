"""Runs plain functions in threads of a pool that belongs to the app.

It never uses the default executor of asyncio, whose other users would wait for jobs, and jobs for them. A call costs
one hop there and one back. The caller's context variables are seen inside.

No thread can be killed. An interrupted function goes on until it returns; its call stays ``is_running`` and keeps its
slot until then. A function can check ``call.stop`` to end early. At its exit, the interpreter waits for
threads that still run.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from jobify.exceptions import ApplicationStateError
from jobify.model.transient import refusal_of
from jobify.runners.base import Call
from jobify.runners.executor_future import await_future
from jobify.runtime.fork import call as call_task
from jobify.runtime.logs import get_logger
from jobify.runtime.machine import available_cpus

__all__ = ("ThreadRunner",)

log = get_logger("jobify.runners")


class ThreadRunner:
    """Calls functions in ``slots`` threads (default: processors + 4, at most 32), or in the user's own ``executor``.

    An executor that was given is used as it is and never shut down.
    """

    def __init__(self, *, slots: int | None = None, executor: ThreadPoolExecutor | None = None) -> None:
        self.slots = executor._max_workers if executor else slots or min(32, available_cpus() + 4)
        self._given = executor
        self._executor: ThreadPoolExecutor | None = None
        self._calls: dict[Call, Future[Any]] = {}

    async def start(self) -> None:
        if self._executor is None:
            self._executor = self._given or ThreadPoolExecutor(self.slots, thread_name_prefix="jobify")

    async def stop(self) -> None:
        """Cancel calls that have not begun, request the others to stop, and do not wait for running functions."""
        executor, self._executor = self._executor, None
        running = [*self._calls]  # a copy: threads that end take theirs out
        for call in running:
            call.is_stop_requested = True
        if running:
            log.warning("Threads cannot be stopped; still running: %s", ", ".join(sorted(map(repr, running))))
        if executor is not None and executor is not self._given:
            # Idle threads end at once, and the pool has no other when nothing runs: their end is awaited.
            executor.shutdown(wait=not running, cancel_futures=True)

    def unfinished(self) -> Mapping[Call, Future[Any]]:
        return dict(self._calls)

    def extend(self, count: int) -> None:
        # The pool has no public way to grow. A thread that it no longer needs stays, and rests.
        executor = self._executor or self._given
        if executor is not None:
            executor._max_workers += count

    async def run(self, call: Call) -> Any:
        future = self._submit(call)
        self._calls[call] = future
        future.add_done_callback(lambda _: self._calls.pop(call, None))
        value = await await_future(future, call)
        # A plain function that returns a coroutine (a lambda around an async function) means what it awaits to.
        return await value if inspect.iscoroutine(value) else value

    def _submit(self, call: Call) -> Future[Any]:
        if self._executor is None:
            raise _not_ready("it is not started.", "Start the app first.")
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
                raise _not_ready(f"{call.refusal}.", "It is tried again.") from error
            raise _not_ready(f"{error}.", "Give the app an executor that works, or none.") from error
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


def _perform(call: Call, context: contextvars.Context, turn: _Submission) -> Any:
    """In the thread. A call that was interrupted before its turn does not begin."""
    if call.is_stop_requested:
        return None
    return turn.run(partial(context.run, call_task, call.func, *call.args, **call.kwargs))


def _not_ready(reason: str, solution: str) -> ApplicationStateError:
    return ApplicationStateError(operation="run a task in a thread", reason=reason, solution=solution)
