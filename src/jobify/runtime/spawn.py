"""Tasks of the library's own, made past the task factory of the program.

A factory could refuse, delay or run them eagerly.

A task factory belongs to the program: one with an old signature, or one that raises, must not decide
whether an outcome is stored or an app shuts down. The tasks of jobs are made through the factory
(:mod:`jobify.engine.execution.executor`); all others are made here.

Code of a user may cancel ``asyncio.all_tasks()``, and these tasks with them. So does ``asyncio.run`` when its loop
ends. A task that is needed is started again in the first case (:func:`spawn_lasting`), but not in the second, which
:func:`is_loop_ending` detects.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ("call_in", "is_loop_ending", "spawn", "spawn_lasting")

T = TypeVar("T")

_ENDINGS: Final = frozenset({"_cancel_all_tasks", "_cancel_tasks", "cancel_all_tasks"})
"""What the functions are called that end an event loop: of asyncio, and of servers that have one of their own."""


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
    """Run ``coroutine`` as a task of the running event loop, past its task factory."""
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name)


def spawn_lasting(
    begin: Callable[[], Coroutine[Any, Any, None]], on_task: Callable[[asyncio.Task[None]], Callable[[], bool]]
) -> None:
    """Run ``begin()`` as a task, and again whenever the task is cancelled while it is still wanted.

    ``on_task`` is given each task, and returns how to ask whether it is wanted.
    """
    task = spawn(begin())
    is_wanted = on_task(task)

    def on_end(ended: asyncio.Task[None]) -> None:
        if ended.cancelled() and is_wanted() and not is_loop_ending():
            spawn_lasting(begin, on_task)

    task.add_done_callback(on_end)


def call_in(loop: asyncio.AbstractEventLoop, step: Callable[[], None]) -> None:
    """Call ``step`` in this event loop: now, if this is code of it, else soon. Not if it is closed."""
    if asyncio._get_running_loop() is loop:
        step()
    else:
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(step)


def is_loop_ending() -> bool:
    """Whether the event loop only runs until its tasks end. Call it in a step of the loop."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in _ENDINGS:
            return True
    return False
