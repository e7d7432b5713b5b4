"""Restart the services of an app when a task cancels ``asyncio.all_tasks()``.

The background services are tasks like any others, so such a task cancels them, too. They are started again a moment
later, with one line of log. When ``asyncio.run`` ends its loop it cancels all tasks as well; then nothing comes back,
and a running job is released instead of failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobify.engine.service import Service
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import is_loop_ending

__all__ = ("ServiceRestarts",)

log = get_logger("jobify.engine")

_PAUSE = 0.05
"""Seconds from the cancellation to the new start: a loop that ends in an unknown way is closed by then."""


class ServiceRestarts:
    """Restarts services that were cancelled from outside."""

    def __init__(self, services: list[Service]) -> None:
        self._services = services
        self._starter = asyncio.current_task()
        self._cancelled: list[Service] = []
        self._has_survived = False
        self.relaunch: Callable[[], None] = _nothing
        """Starts the attempts again whose tasks were cancelled before their first step."""

    def watch(self, service: Service) -> None:
        """Restart ``service`` when it is cancelled."""
        service.on_cancelled = self._on_cancelled

    def is_torn_down(self) -> bool:
        """Whether the event loop is ending before the app was stopped.

        Where the way of the ending is unknown, it is assumed once the task is over that has started the app; until the
        services have survived a cancellation, which proves that their loop goes on.
        """
        if is_loop_ending():
            return True
        is_left = self._starter is not None and self._starter.done() and not self._has_survived
        return is_left and any(service.was_cancelled for service in self._services)

    def _on_cancelled(self, service: Service) -> None:
        if is_loop_ending():
            return
        if not self._cancelled:
            asyncio.get_running_loop().call_later(_PAUSE, self._restart)
        self._cancelled.append(service)

    def _restart(self) -> None:
        cancelled, self._cancelled = self._cancelled, []
        revived = [type(service).__name__ for service in cancelled if service.revive()]
        self.relaunch()
        if revived:
            self._has_survived = True
            log.warning(
                "A task has cancelled %d background services of this app (%s); they are started again. Cancel only the "
                "tasks that you have made, not asyncio.all_tasks().",
                len(revived),
                ", ".join(sorted(set(revived))),
            )


def _nothing() -> None:
    """There are no attempts yet."""
