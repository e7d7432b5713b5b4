"""Choosing the app of a call, for a task whose router is included in several apps.

An app factory (``create_app()``) includes the same module-level routers in every app that it makes, so the task that a
module holds, and that its code pushes, belongs to each of them. The app is chosen at each call:

1. in a job, the app that runs the job;
2. the app that runs in this event loop, or else the only one that runs in this process;
3. if none runs, the only app that exists. Apps without references do not count, because tests make many.

Everything else is an error that names the apps. There is no guess such as *the newest app*, which is what Celery's
``shared_task`` takes, because a job in the wrong database would be lost without any sign.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from jobify.exceptions import ApplicationStateError
from jobify.jobs.current_job import CURRENT
from jobify.jobs.schedule_builder import Scheduler

__all__ = ("Binding", "ambiguous", "choose")


class Binding(NamedTuple):
    """A task in an app: the app, and the name that the task has there."""

    scheduler: Scheduler
    name: str


def choose(bindings: Sequence[Binding]) -> Binding | None:
    """The binding of the app to use. None means that it is ambiguous."""
    running = CURRENT.get()
    if running is not None:
        for binding in bindings:
            if binding.scheduler is running.app:
                return binding
    started = [binding for binding in bindings if binding.scheduler.loop is not None]
    if len(started) > 1:
        loop = _running_loop()
        started = [binding for binding in started if binding.scheduler.loop is loop]
        return started[0] if len(started) == 1 else None
    if started:
        return started[0]
    return bindings[0] if len(bindings) == 1 else None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def ambiguous(task: str, bindings: Sequence[Binding]) -> ApplicationStateError:
    """The error of a call that does not say which app is meant."""
    apps = ", ".join(binding.scheduler.description for binding in bindings)
    running = sum(binding.scheduler.loop is not None for binding in bindings)
    return ApplicationStateError(
        operation=f"use the task {task!r}",
        reason=f"Its router is included in {len(bindings)} apps, of which {running or 'none'} run: {apps}.",
        solution="Say which app is meant: app.task_for(task).push(...), or app.enqueue(task, ...).",
    )
