"""Hooks: functions of an app or a router that are called when jobs fail.

A log line is for people, a hook is for programs: for an alert, a metric, or a row of one's own. The process that learns
of the failure calls it after the outcome is stored, so that the hook can read the outcome.

A hook is called at least once for each failure, as long as that process lives. If it dies between the commit and the
call, the hook is not called, in no other process either.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from jobify.exceptions import ConfigurationError
from jobify.model.tracebacks import own_frames, own_traceback
from jobify.runtime.errortools import described
from jobify.runtime.logs import get_logger, write
from jobify.runtime.spawn import spawn

__all__ = ("Hooks", "JobFailure", "TakesHooks")

log = get_logger("jobify.hooks")

HookT = TypeVar("HookT", bound=Callable[..., Any])

_SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds that a shutdown waits for running hooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """A failed attempt of a job, which hooks get."""

    id: str
    """The id of the job, or of the schedule whose run failed."""
    task: str
    queue: str
    attempt: int
    """The number of the failed attempt, from 1."""
    error: BaseException
    """The exception of the task; a JobTimeoutError; a ProcessDiedError if the process that ran the job died; or a
    JobLostError if too many processes died."""
    is_schedule: bool = False
    """Whether the job is a run of a schedule."""
    is_dead: bool = False
    """Whether the job runs again only if a user retries it: its retries are used up, it took down too many processes,
    or its schedule failed too often in a row."""
    retry_at: datetime | None = None
    """When the next attempt is due. None if there is none."""


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
        """Call the hooks for ``failure``: those of the routers ``nearer`` to the task, then those registered here.

        Each in order of registration, on the event loop. Never raises.
        """
        for hooks in (*nearer, self):
            for function in hooks.chosen(failure):
                self._call_one(function, failure)

    def chosen(self, failure: JobFailure) -> list[Callable[[JobFailure], Any]]:
        """The hooks that are registered here for ``failure``."""
        if failure.retry_at is not None:
            return [*self._retry]
        return [*self._failure, *(self._dead if failure.is_dead else ())]

    @property
    def has_retry(self) -> bool:
        """Whether a hook for retries is registered."""
        return bool(self._retry)

    def _call_one(self, function: Callable[[JobFailure], Any], failure: JobFailure) -> None:
        try:
            answer = function(failure)
            if inspect.isawaitable(answer):
                task = spawn(_awaited(answer, function, failure), name="jobify hook")
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        except (
            BaseException
        ) as error:  # including SystemExit and CancelledError, because the caller is part of the engine
            _report(function, failure, error)

    async def idle(self) -> None:
        """Wait for running hooks, and cancel them after some seconds."""
        if self._running:
            _, left = await asyncio.wait(self._running, timeout=_SHUTDOWN_TIMEOUT)
            for task in left:
                log.warning("A hook did not end within %g s of the shutdown, and is cancelled.", _SHUTDOWN_TIMEOUT)
                task.cancel()


class TakesHooks:
    """The hook decorators of an app, for all its jobs, and of a router, for those of its tasks and sub-routers."""

    hooks: Hooks

    def on_failure(self, function: HookT) -> HookT:
        """Call ``function`` when a job, or a run of a schedule, has failed for good.

        It gets a :class:`JobFailure`. A plain function is called on the event loop and must be quick; an async one runs
        in a task of its own. An error in it is logged, and has no other effect. Hooks are called in the order of their
        registration; those of the task's router before those of the routers above it and of the app. ConfigurationError
        if ``function`` does not take one argument.

        ::

            @app.on_failure
            async def alert(failure: JobFailure) -> None:
                await pager.send(f"{failure.task} failed: {failure.error}")
        """
        return self.hooks.on_failure(function)

    def on_retry(self, function: HookT) -> HookT:
        """:meth:`on_failure` for an attempt that failed and is retried.

        It is retried at ``failure.retry_at``. That includes an attempt whose process died.
        """
        return self.hooks.on_retry(function)

    def on_dead(self, function: HookT) -> HookT:
        """:meth:`on_failure` for dead jobs and schedules only.

        See :attr:`JobFailure.is_dead`. The hooks of ``on_failure`` are called first.
        """
        return self.hooks.on_dead(function)


def _add(hooks: list[Callable[[JobFailure], Any]], function: HookT) -> HookT:
    if not (callable(function) and _takes_one(function)):
        raise ConfigurationError(f"{function!r} cannot be a hook; it must be a function of one argument, a JobFailure.")
    hooks.append(function)
    return function


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except ValueError:  # a builtin without a signature
        return True
    except TypeError:
        return False
    return True


async def _awaited(answer: Any, function: Callable[..., Any], failure: JobFailure) -> None:
    try:
        await answer
    except BaseException as error:  # SystemExit would end the event loop
        current = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and current is not None and current.cancelling():
            raise
        _report(function, failure, error)


def _report(function: Callable[..., Any], failure: JobFailure, error: BaseException) -> None:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    write(
        log, logging.ERROR, "The hook %s failed for job %s (%s): %s", name, failure.id, failure.task, described(error),
        job_id=failure.id, task=failure.task, queue=failure.queue, attempt=failure.attempt,
        exc_info=(type(error), error, own_frames(error)), exc_text=own_traceback(error),
    )  # fmt: skip
