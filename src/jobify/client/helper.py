"""A thread for async callers, so that no event loop waits for a disk.

It begins with the first call and ends when there has been none for a while. All inserts that arrive while a
transaction runs share the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobify.exceptions import StorageUnavailableError
from jobify.records import NewJob

__all__ = ("LINGER", "Helper")

T = TypeVar("T")

LINGER = 10.0
"""Seconds that a thread of the client waits for more to do before it ends."""

_MAX_GROUP = 1000
_MAX_BYTES = 4_000_000


class _Task(NamedTuple):
    """One call, and who wants its answer."""

    call: Callable[[], Any] | NewJob
    answer: asyncio.Future[Any]


class Helper:
    """Makes calls in its own thread. ``insert`` stores a batch of rows: for each, whether it was added."""

    def __init__(self, insert: Callable[[Sequence[NewJob]], list[bool]]) -> None:
        self._insert_all = insert
        self._tasks: deque[_Task] = deque()
        self._arrival = threading.Condition()
        self._is_running = False

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """What ``function`` gives, called in the thread. Cancelling the future does not take the call back."""
        return self._ask(function)

    def insert(self, row: NewJob) -> asyncio.Future[bool]:
        """Add one job, in a transaction that it may share; whether it was added."""
        return self._ask(row)

    def _ask(self, call: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._arrival:
            self._tasks.append(_Task(call, answer))
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="jobify-client", daemon=True).start()
            self._arrival.notify()
        return answer

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._arrival:
                if not self._tasks:
                    self._arrival.wait(LINGER)
                if not self._tasks:
                    self._is_running = False
                    return
                tasks = self._take()
            self._serve(tasks)

    def _take(self) -> list[_Task]:
        """The next calls, with not too many rows, nor too many bytes of them, for one transaction."""
        tasks: list[_Task] = []
        size = 0
        while self._tasks and len(tasks) < _MAX_GROUP and size <= _MAX_BYTES:
            task = self._tasks.popleft()
            tasks.append(task)
            if isinstance(task.call, NewJob) and isinstance(task.call.payload, bytes):
                size += len(task.call.payload)
        return tasks

    def _serve(self, tasks: list[_Task]) -> None:
        rows = [task for task in tasks if isinstance(task.call, NewJob)]
        values = self._insert(rows) if rows else []
        answers = list(zip(rows, values, strict=True))
        answers += [(task, _attempt(task.call)) for task in tasks if not isinstance(task.call, NewJob)]
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
