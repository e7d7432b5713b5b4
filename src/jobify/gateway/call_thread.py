"""A thread for async callers, so that no event loop waits for a disk.

It starts with the first call and ends after a while without calls, or when :meth:`CallThread.end` is called. All
inserts that arrive while a transaction runs share the next one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import NewJob
from jobify.model.transient import as_unavailable

__all__ = ("IDLE_TIMEOUT", "THREAD_TIMEOUT", "CallThread")

T = TypeVar("T")

IDLE_TIMEOUT = 10.0
"""Seconds that a thread of the client waits for more to do before it ends."""

THREAD_TIMEOUT = 30.0
"""Seconds for which a call waits for a thread that the system refuses."""

_RETRY = 0.1
_MAX_GROUP = 1000
_MAX_BYTES = 4_000_000


class _Task(NamedTuple):
    """One call, and who wants its answer."""

    call: Callable[[], Any] | NewJob
    answer: asyncio.Future[Any]


class CallThread:
    """Makes calls in its own thread. ``insert`` stores a batch of rows: for each, whether it was added."""

    def __init__(self, insert: Callable[[Sequence[NewJob]], list[bool]]) -> None:
        self._insert_all = insert
        self._tasks: deque[_Task] = deque()
        self._arrival = threading.Condition()
        self._is_running = False
        self._is_ending = False
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._is_running

    def end(self, timeout: float) -> None:
        """End the thread after the calls that it has, and wait for that. The next call starts another one."""
        with self._arrival:
            if not self._is_running:
                return
            thread, self._is_ending = self._thread, True
            self._arrival.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """What ``function`` gives, called in the thread. Cancelling the future does not take the call back."""
        return self._put(function)

    def insert(self, row: NewJob) -> asyncio.Future[bool]:
        """Add one job, in a transaction that it may share; whether it was added."""
        return self._put(row)

    def _put(self, call: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        with self._arrival:
            self._tasks.append(_Task(call, answer))
            is_running = self._is_running
            self._arrival.notify()
        if not is_running:
            self._start(loop, time.monotonic() + THREAD_TIMEOUT)
        return answer

    def _start(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """Start the thread; where the system has none, try again until ``deadline``, and then answer with that."""
        try:
            with self._arrival:
                if self._is_running or not self._tasks:
                    return
                self._is_running = True
                try:
                    self._thread = threading.Thread(target=self._run, name="jobify-client", daemon=True)
                    self._thread.start()
                except BaseException:
                    self._is_running = False
                    raise
        except (RuntimeError, MemoryError) as error:
            refusal = as_unavailable(error, "The client has no thread for this call")
            if refusal is None or time.monotonic() >= deadline:
                self._fail_all(refusal or error)
            else:
                loop.call_later(_RETRY, self._start, loop, deadline)

    def _fail_all(self, error: BaseException) -> None:
        """Answer everything that waits with ``error``."""
        with self._arrival:
            tasks, self._tasks = list(self._tasks), deque()
        self._answer([(task, error) for task in tasks])

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        tasks: list[_Task] = []
        try:
            while self._wait():
                self._take(tasks)
                self._serve(tasks)
                tasks.clear()
        except BaseException as error:  # the thread ends; the next call starts another one
            with self._arrival:
                self._is_running = self._is_ending = False
                waiting, self._tasks = list(self._tasks), deque()
            failed = StorageUnavailableError(f"The client's thread failed before it could answer: {error!r}.")
            failed.__cause__ = error
            self._answer([(task, failed) for task in (*tasks, *waiting)])

    def _wait(self) -> bool:
        """Wait for calls; False if there was none for a while, and the thread is to end."""
        with self._arrival:
            if not (self._tasks or self._is_ending):
                self._arrival.wait(IDLE_TIMEOUT)
            if not self._tasks:
                self._is_running = self._is_ending = False
                return False
        return True

    def _take(self, tasks: list[_Task]) -> None:
        """Take the next calls, with not too many rows, nor too many bytes of them, for one transaction."""
        size = 0
        while self._tasks and len(tasks) < _MAX_GROUP and size <= _MAX_BYTES:
            task = self._tasks.popleft()
            tasks.append(task)
            if isinstance(task.call, NewJob) and isinstance(task.call.payload, bytes):
                size += len(task.call.payload)

    def _serve(self, tasks: list[_Task]) -> None:
        rows = [task for task in tasks if isinstance(task.call, NewJob)]
        values = self._insert(rows) if rows else []
        answers = list(zip(rows, values, strict=True))
        answers += [(task, _attempt(task.call)) for task in tasks if not isinstance(task.call, NewJob)]
        self._answer(answers)

    def _answer(self, answers: list[tuple[_Task, Any]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Task, Any]]] = {}
        for task, value in answers:
            by_loop.setdefault(task.answer.get_loop(), []).append((task, value))
        for loop, some in by_loop.items():
            with suppress(RuntimeError):  # the event loop was closed: nobody is left to be answered
                loop.call_soon_threadsafe(_deliver, some)

    def _insert(self, tasks: list[_Task]) -> list[Any]:
        """Insert in one transaction; if a row spoils it, each in its own, so that each caller gets its own error."""
        rows: list[Any] = [task.call for task in tasks]
        try:
            return list(self._insert_all(rows))
        except StorageUnavailableError as error:
            return [error] * len(rows)
        except Exception:
            return [_attempt(partial(self._insert_one, row)) for row in rows]

    def _insert_one(self, row: NewJob) -> bool:
        return self._insert_all((row,))[0]


def _attempt(function: Any) -> Any:
    try:
        return function()
    except Exception as error:
        return error


def _deliver(answers: list[tuple[_Task, Any]]) -> None:
    for (_, answer), value in answers:
        if answer.done():
            continue
        if isinstance(value, BaseException):
            answer.set_exception(value)
        else:
            answer.set_result(value)
