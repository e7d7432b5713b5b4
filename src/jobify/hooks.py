"""Hooks: functions of an app or a router that are called when jobs fail.

A log line is for people, a hook is for programs: an alert, a metric, a row of one's own. The process that knows of the
failure calls it, after the outcome is stored, so a job that looks its own outcome up finds it.

A hook is called at least once for what it is registered for while that process lives: one that dies between the
commit and the call does not call it, and no other process does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from jobify.exceptions import ConfigurationError
from jobify.logs import Lines, get_logger
from jobify.spawn import spawn
from jobify.tracebacks import own_traceback

__all__ = ("Hooks", "JobFailure", "TakesHooks")

log = get_logger("jobify.hooks")

HookT = TypeVar("HookT", bound=Callable[..., Any])

_PATIENCE: Final = 5.0
"""Seconds that a shutdown waits for hooks that are still running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """A job whose attempt failed, as hooks see it."""

    id: str
    """The id of the job, or of the schedule whose run failed."""
    task: str
    queue: str
    attempt: int
    """The attempt that failed, from 1."""
    error: BaseException
    """What the task raised; a JobTimeoutError; or a ProcessDiedError, if the job took its process down."""
    is_schedule: bool = False
    """The job is a run of a schedule."""
    is_dead: bool = False
    """The job will not run again without a user's help: its retries are used up, it took down too many processes, or
    its schedule has failed too often in a row."""
    retry_at: datetime | None = None
    """When the next attempt is due; None: there is none."""


class Hooks:
    """The hooks of one app, or of one router."""

    def __init__(self) -> None:
        self._failure: list[Callable[[JobFailure], Any]] = []
        self._retry: list[Callable[[JobFailure], Any]] = []
        self._dead: list[Callable[[JobFailure], Any]] = []
        self._running: set[asyncio.Task[None]] = set()

    def on_failure(self, function: HookT) -> HookT:
        return _add(self._failure, function)

    def on_retry(self, function: HookT) -> HookT:
        return _add(self._retry, function)

    def on_dead(self, function: HookT) -> HookT:
        return _add(self._dead, function)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to call."""
        return not (self._failure or self._retry or self._dead)

    def call(self, failure: JobFailure, nearer: Iterable[Hooks] = ()) -> None:
        """Call what is registered for ``failure``: by the routers ``nearer`` to the task, then here; each in order of
        registration. On the event loop; never raises."""
        for hooks in (*nearer, self):
            for function in hooks.chosen(failure):
                self._call_one(function, failure)

    def chosen(self, failure: JobFailure) -> list[Callable[[JobFailure], Any]]:
        """What is registered here for ``failure``."""
        if failure.retry_at is not None:
            return [*self._retry]
        return [*self._failure, *(self._dead if failure.is_dead else ())]

    def _call_one(self, function: Callable[[JobFailure], Any], failure: JobFailure) -> None:
        try:
            answer = function(failure)
            if inspect.isawaitable(answer):
                task = spawn(_awaited(answer), name="jobify hook")
                self._running.add(task)
                task.add_done_callback(partial(self._on_end, failure))
        except Exception as error:
            _report(failure, error)

    def _on_end(self, failure: JobFailure, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _report(failure, error)

    async def idle(self) -> None:
        """Return when no hook runs, after some seconds at the latest."""
        if self._running:
            _, left = await asyncio.wait(self._running, timeout=_PATIENCE)
            for task in left:
                log.warning("A hook did not end within %g s of the shutdown, and is cancelled.", _PATIENCE)
                task.cancel()


class TakesHooks:
    """The decorators of an app, for all its jobs, and of a router, for those of its tasks and of the routers that it
    includes."""

    hooks: Hooks

    def on_failure(self, function: HookT) -> HookT:
        """Call ``function`` with a :class:`JobFailure` when a job has failed for good, or a run of a schedule has.

        A plain function is called on the event loop and must be quick; an async one runs beside it. What it raises is
        logged, and changes nothing. Several hooks are called in the order of their registration; those of the router
        of the task before those of the routers above it, and of the app.

        ::

            @app.on_failure
            async def alert(failure: JobFailure) -> None:
                await pager.send(f"{failure.task} failed: {failure.error}")
        """
        return self.hooks.on_failure(function)

    def on_retry(self, function: HookT) -> HookT:
        """:meth:`on_failure`, for an attempt that failed and is followed by another one, at ``failure.retry_at``. That
        includes an attempt that lost its process."""
        return self.hooks.on_retry(function)

    def on_dead(self, function: HookT) -> HookT:
        """:meth:`on_failure`, only for jobs and schedules that are dead: see :attr:`JobFailure.is_dead`. The hooks of
        ``on_failure`` are called first."""
        return self.hooks.on_dead(function)


def _add(hooks: list[Callable[[JobFailure], Any]], function: HookT) -> HookT:
    if not callable(function):
        raise ConfigurationError(f"{function!r} cannot be a hook; it must be a function of one argument, a JobFailure.")
    hooks.append(function)
    return function


async def _awaited(answer: Any) -> None:
    await answer


def _report(failure: JobFailure, error: BaseException) -> None:
    log.error("A hook failed for job %s (%s).\n%s", failure.id, failure.task, Lines(own_traceback(error)))
