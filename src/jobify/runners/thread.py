"""Runs plain functions in threads that belong to the app.

They are not those of the default executor of asyncio, whose other users would wait for jobs, and jobs for them.

**Why threads of our own.** An executor makes a future, a lock and a wake-up of the event loop for each call, which
costs more than a short call itself. Here a call is put into one queue and its outcome into another one; the event loop
is woken once for all outcomes that have come by the time it looks. A thread that finds the next call in the queue does
not wait in between.

A call begins when a thread takes it. Until then it can be withdrawn, at no cost: both sides ask
:meth:`~jobify.runners.base.FunctionCall.take_turn`, and the first one decides.

No thread can be killed. An interrupted function goes on until it returns; its call stays ``is_running`` and keeps its
slot until then. A function can read ``call.is_stop_requested`` to end early. At its exit, the interpreter waits for
functions that still run.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, TypeAlias
from weakref import WeakSet

from jobify.exceptions import ApplicationStateError
from jobify.model.transient import refusal_of
from jobify.runners.base import FunctionCall, OnEnd, contained
from jobify.runtime.fork import call as call_task
from jobify.runtime.logs import get_logger
from jobify.runtime.machine import available_cpus

__all__ = ("ThreadRunner", "not_ready", "report_running")

log = get_logger("jobify.runners")

_Queue: TypeAlias = "SimpleQueue[tuple[FunctionCall, OnEnd] | None]"
"""The calls that wait for a thread. None ends the thread that takes it."""


class ThreadRunner:
    """Calls functions in up to ``slots`` threads (default: processors + 4, at most 32), started as they are needed."""

    def __init__(self, *, slots: int | None = None) -> None:
        self.slots = slots or min(32, available_cpus() + 4)
        self._pool: _Pool | None = None
        self._stopped: list[_Pool] = []
        """Pools whose functions still run."""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._pool is not None and self._pool.loop is not loop:
            await self.stop()  # that event loop was closed without it
        if self._pool is None:
            self._pool = _Pool(loop, self.slots)

    async def stop(self) -> None:
        """End calls that have not begun, request the others to stop, and do not wait for running functions."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            self._stopped = [each for each in (*self._stopped, pool) if each.calls]

    def unfinished(self) -> Mapping[FunctionCall, Future[Any]]:
        pools = self._stopped if self._pool is None else [*self._stopped, self._pool]
        return {call: future for pool in pools for call, future in pool.unfinished().items()}

    def extend(self, count: int) -> None:
        if self._pool is not None:
            self._pool.extend(count)

    def submit(self, call: FunctionCall, on_end: OnEnd) -> None:
        if self._pool is None:
            _call_later(
                asyncio.get_running_loop(), on_end, call, not_ready("it is not started.", "Start the app first.")
            )
        else:
            self._pool.submit(call, on_end)

    def withdraw(self, call: FunctionCall) -> bool:
        return self._pool is not None and self._pool.withdraw(call)

    def interrupt(self, call: FunctionCall) -> None:
        call.is_stop_requested = True
        if self._pool is not None:
            self._pool.forget(call)

    async def run(self, call: FunctionCall) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call.context = call.context or contextvars.copy_context()
        self.submit(call, partial(_resolve, done))
        try:
            value = await done
        except asyncio.CancelledError:
            if not self.withdraw(call):
                self.interrupt(call)
            raise
        # A plain function that returns a coroutine (a lambda around an async function) means what it awaits to.
        return await value if inspect.iscoroutine(value) else value


class _Pool:
    """The threads of one event loop. All methods are for that loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.loop = loop
        self.calls: dict[FunctionCall, OnEnd | None] = {}
        """The calls that have not ended, in order. None: the outcome is not wanted any more."""
        self._size = size
        self._queue: _Queue = SimpleQueue()
        self._outcomes = _Outcomes(loop, self._deliver)
        self._threads: set[threading.Thread] = set()
        self._count = 0
        """How many threads there are, without those that are about to end."""
        self._futures: dict[FunctionCall, Future[None]] = {}
        _pools.add(self)

    def submit(self, call: FunctionCall, on_end: OnEnd) -> None:
        """See :class:`~jobify.runners.base.DirectRunner`."""
        call.loop = self.loop
        if self._count < self._size and len(self.calls) >= self._count:
            try:
                self._start_thread()
            except (RuntimeError, OSError, MemoryError) as error:
                _call_later(self.loop, on_end, call, _refused(call, error))
                return
        call.is_running = True
        self.calls[call] = on_end
        self._queue.put((call, on_end))

    def withdraw(self, call: FunctionCall) -> bool:
        """See :class:`~jobify.runners.base.DirectRunner`."""
        if call not in self.calls or not call.take_turn():
            return False
        del self.calls[call]
        call.end()
        return True

    def forget(self, call: FunctionCall) -> None:
        """Drop the outcome of a call that goes on."""
        if call in self.calls:
            self.calls[call] = None

    def extend(self, count: int) -> None:
        """Have more threads, or fewer. One too many ends before it takes another call."""
        self._size += count
        while self._count < min(self._size, len(self.calls)):
            try:
                self._start_thread()
            except (RuntimeError, OSError, MemoryError):  # the calls wait for the threads that there are
                return
        surplus = self._count - self._size
        if surplus > 0:
            waiting = self._take_queued()
            self._end_threads(surplus)
            for item in waiting:
                self._queue.put(item)

    def close(self) -> None:
        """See :meth:`ThreadRunner.stop`."""
        for item in self._take_queued():
            if item is None:
                self._queue.put(None)  # for a thread that was too many
            elif self.withdraw(item[0]):
                _call_later(self.loop, item[1], item[0], not_ready("it was shut down first.", "Start the app again."))
        report_running(self.calls)
        self._end_threads(self._count)
        if not self.calls:
            self.join()  # they end at once

    def join(self) -> None:
        """Return when all threads have ended, which were requested to."""
        for thread in list(self._threads):
            thread.join()

    def end(self) -> None:
        """Have the threads end, whatever becomes of the event loop."""
        self._end_threads(self._count)

    def unfinished(self) -> dict[FunctionCall, Future[None]]:
        """The calls that run, each with a future that its thread resolves at the end of the function."""
        for call in self.calls:
            if call not in self._futures:
                future: Future[None] = Future()
                self._futures[call] = future
                call.on_return = partial(_set_done, future)
                if call.has_returned:  # before it could find the future
                    _set_done(future)
        return {call: future for call, future in self._futures.items() if not future.done()}

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=_work, args=(self._queue, self._outcomes, self._threads), name=f"jobify_{self._count}", daemon=True
        )
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            raise
        self._count += 1

    def _end_threads(self, count: int) -> None:
        self._count -= count
        for _ in range(count):
            self._queue.put(None)

    def _take_queued(self) -> list[tuple[FunctionCall, OnEnd] | None]:
        """Take what waits in the queue; a thread may take the first of it at the same time."""
        queued = []
        with suppress(Empty):
            while True:
                queued.append(self._queue.get_nowait())
        return queued

    def _deliver(self, call: FunctionCall, value: Any, error: BaseException | None) -> None:
        """The outcome of a call, on the event loop."""
        on_end = self.calls.pop(call, None)
        call.end()
        if on_end is not None:
            on_end(call, value, None if error is None else contained(error))


class _Outcomes:
    """The outcomes of calls on their way from the threads to the event loop, which is woken once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: OnEnd) -> None:
        self._loop = loop
        self._deliver = deliver
        self._outcomes: deque[tuple[FunctionCall, Any, BaseException | None]] = deque()
        self._is_woken = False

    def put(self, call: FunctionCall, value: Any, error: BaseException | None) -> None:
        """In a thread."""
        self._outcomes.append((call, value, error))
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver_all)

    def _deliver_all(self) -> None:
        self._is_woken = False  # first: what comes from now on wakes the loop again
        outcomes = self._outcomes
        while outcomes:
            try:
                self._deliver(*outcomes.popleft())
            except Exception:  # a defect of one callback must not keep the others from their outcomes
                log.exception("A call in a thread has ended, and what follows has failed.")


def _work(queue: _Queue, outcomes: _Outcomes, threads: set[threading.Thread]) -> None:
    """In a thread: make one call after the other."""
    while (item := queue.get()) is not None:
        call = item[0]
        del item
        if call.take_turn():
            _make(call, outcomes)
        del call
    threads.discard(threading.current_thread())


def _make(call: FunctionCall, outcomes: _Outcomes) -> None:
    value, failure = None, None
    started = perf_counter()
    try:
        context = call.context
        value = _perform(call) if context is None else context.run(_perform, call)
    except BaseException as error:
        failure = error
    call.seconds = perf_counter() - started
    call.has_returned = True
    if call.on_return is not None:
        call.on_return()
    outcomes.put(call, value, failure)
    del value, failure  # a traceback refers to this frame


def _perform(call: FunctionCall) -> Any:
    call.begin()
    return call_task(call.func, *call.args, **call.kwargs)


def _resolve(done: asyncio.Future[Any], _: FunctionCall, value: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)


def _call_later(loop: asyncio.AbstractEventLoop, on_end: OnEnd, call: FunctionCall, error: Exception) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon(on_end, call, None, error)


def _set_done(future: Future[None]) -> None:
    with suppress(Exception):  # the thread and the event loop may say it at the same time
        future.set_result(None)


def _refused(call: FunctionCall, error: BaseException) -> ApplicationStateError:
    """The error of a call for which the system gives no thread."""
    call.is_stop_requested = True
    call.refusal = refusal_of(error)
    refused = not_ready(f"{call.refusal or error}.", "It is tried again." if call.refusal else "Start the app again.")
    refused.__cause__ = error
    return refused


def report_running(calls: Collection[FunctionCall]) -> None:
    """Request calls to stop, and log that threads cannot be stopped."""
    for call in calls:
        call.is_stop_requested = True
    if calls:
        log.warning("Threads cannot be stopped; still running: %s", ", ".join(sorted(map(repr, calls))))


def not_ready(reason: str, solution: str) -> ApplicationStateError:
    """The error of a call that cannot be made."""
    return ApplicationStateError(operation="run a task in a thread", reason=reason, solution=solution)


_pools: WeakSet[_Pool] = WeakSet()


def _finish() -> None:
    """At the interpreter's exit: wait for functions that still run."""
    pools = list(_pools)
    for pool in pools:
        pool.end()
    for pool in pools:
        pool.join()


# As for executors of the standard library: before exit handlers of the program, which may close what functions use.
getattr(threading, "_register_atexit", atexit.register)(_finish)
