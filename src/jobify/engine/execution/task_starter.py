"""Starts the task of an attempt, with the event loop's task factory if it has one.

A task factory is code of the user's: it may run the first step at once, return something else than a task, or fail.
The attempt runs all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

from jobify.engine.execution.attempt import Attempt, Phase
from jobify.model.transient import refusal_of
from jobify.runtime.logs import get_logger

__all__ = ("TaskStarter",)

log = get_logger("jobify.engine")


class TaskStarter:
    """Starts ``run(attempt)`` in a task; ``on_refused`` gets an attempt that there is no memory for, and the reason."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        run: Callable[[Attempt], Coroutine[Any, Any, None]],
        *,
        on_refused: Callable[[Attempt, str], None],
    ) -> None:
        self._loop = loop
        self._run = run
        self._on_refused = on_refused
        self._make_task = _task_maker(loop)
        self.has_factory = loop.get_task_factory() is not None
        self._is_factory_reported = False

    def start(self, attempt: Attempt, context: Context) -> None:
        """Start the attempt in ``context``. Never raises."""
        if self.has_factory:
            # A factory may run the first step at once. Here that would be inside the code that launches the attempt,
            # and an attempt that pushes a job would nest; in a turn of the loop of its own it cannot.
            self._loop.call_soon(self._start, attempt, context)
            return
        running = self._run(attempt)
        try:
            attempt.task = self._make_task(running, context=context)
        except Exception as error:
            running.close()
            self._start_directly(attempt, context, error)

    def _start(self, attempt: Attempt, context: Context) -> None:
        """Start an attempt through the task factory of the event loop."""
        running = self._run(attempt)
        try:
            task = self._make_task(running, context=context)
        except Exception as error:
            running.close()
            self._start_directly(attempt, context, error)
        else:
            if attempt.phase is Phase.LAUNCHED:
                attempt.task = task

    def _start_directly(self, attempt: Attempt, context: Context, error: Exception) -> None:
        """Start an attempt for which no task was made the usual way, because of ``error``."""
        if attempt.phase is not Phase.LAUNCHED:
            return  # the factory has run it, and then failed
        if self.has_factory and not self._is_factory_reported:
            self._is_factory_reported = True
            log.warning("The task factory of the event loop fails; jobs run without it: %r", error)
        try:
            attempt.task = asyncio.Task(self._run(attempt), loop=self._loop, context=context)
        except Exception as problem:  # no memory for it
            self._on_refused(attempt, refusal_of(problem) or repr(problem))


def _task_maker(loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.Task[Any]]:
    """``loop.create_task``, or without a factory the task's constructor, at a third of the cost."""
    if loop.get_task_factory() is not None:
        return partial(_through_factory, loop)
    return partial(asyncio.Task, loop=loop, name="jobify job")


def _through_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], *, context: Context
) -> asyncio.Task[None]:
    """A task in a copy of ``context``. A factory from before Python 3.11 takes no context, so it is called inside
    one."""
    task = context.run(loop.create_task, coroutine)
    if not hasattr(task, "cancel"):
        raise TypeError(f"it has made {task!r}, which is no task")
    return task
