"""Threads that outlive their attempt, because a thread cannot be stopped; and limits that outlive it with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import Attempt, Interruption, RunningAttempts
from jobify.engine.execution.settlement import attempt_record
from jobify.exceptions import StorageLostError
from jobify.gateway.notification import STATE_CHANGED
from jobify.model.clock import Clock
from jobify.model.status import Cancelled, Outcome, RetryAt, TimedOut
from jobify.model.task_options import RunMode
from jobify.runners.base import FunctionCall
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn, spawn_lasting
from jobify.types import Microseconds

__all__ = ("LingeringThreads",)

log = get_logger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_TRIES: Final = 100
"""Tries to release limits: some minutes. After that a process that ends releases them."""


class LingeringThreads:
    """Settles attempts whose functions still run. ``settle`` stores an outcome."""

    def __init__(
        self,
        attempts: RunningAttempts,
        events: EngineEvents,
        clock: Clock,
        settle: Callable[[Attempt, Outcome, Microseconds], None],
    ) -> None:
        self._attempts = attempts
        self._events = events
        self._clock = clock
        self._settle = settle
        self._releasing: set[asyncio.Task[None]] = set()

    def wait_for(self, attempt: Attempt, call: FunctionCall, outcome: Outcome, *, is_tried_again: bool) -> None:
        """Settle an attempt whose function still runs. It keeps its slot and its limits meanwhile.

        Two attempts of one job never overlap: if the job runs again, its row is released when the function returns.
        """
        endpoint = attempt.endpoint
        if endpoint.run_mode is RunMode.THREAD and endpoint.batch is None:  # a child process is just being killed
            log.warning("Job %s (%s) is over, its thread is not and keeps a slot.", attempt.id, attempt.endpoint.name)
        if not is_tried_again:
            if attempt.limits is not None:
                attempt.limits = attempt.limits._replace(is_kept=True)
            self._settle(attempt, outcome, self._clock.now())

        def register(task: asyncio.Task[None]) -> Callable[[], bool]:
            self._attempts.lingering[task] = attempt if is_tried_again else None
            task.add_done_callback(self._attempts.lingering.pop)
            return lambda: attempt.has_slot

        spawn_lasting(partial(self._finish, attempt, call, outcome, is_tried_again), register)

    async def _finish(self, attempt: Attempt, call: FunctionCall, outcome: Outcome, is_tried_again: bool) -> None:
        """Wait for the end of the function. Starts again if it is cancelled along with all tasks of the loop."""
        is_late = is_tried_again and isinstance(outcome, RetryAt | TimedOut) and not attempt.is_recorded
        if is_late and attempt.endpoint.run_mode is RunMode.THREAD:
            await self._record_now(attempt, outcome)
        await call.ended()
        call.release()
        attempt.free_slot()
        if is_tried_again:
            outcome = Cancelled() if attempt.interruption is Interruption.CANCEL else outcome
            self._settle(attempt, outcome, self._clock.now())
        else:  # its end is stored
            self._attempts.release_begun(attempt)
            self.release_limits(attempt)

    def release_limits(self, attempt: Attempt) -> None:
        """Release what a settled attempt still holds: its function went on in a thread, or its end was stored in a
        transaction of its task, in which no limit is locked."""
        if attempt.limits is not None:
            self._releasing.add(task := spawn(self._release_limits(attempt)))
            task.add_done_callback(self._releasing.discard)

    async def _release_limits(self, attempt: Attempt) -> None:
        backend, pause = attempt.backend, _FIRST_PAUSE
        release = partial(backend.storage.let_go, attempt.id, backend.owner, attempt.fence)
        for _ in range(_TRIES):
            try:
                if await backend.gate.call(release):
                    backend.gate.notify(STATE_CHANGED)
                    self._events.storage_changed(backend)
                return
            except StorageLostError:
                return
            except Exception as error:
                message = "The limits of job %s are not released yet, trying again in %.2g s: %s"
                backend.failures.warn("limits", message, attempt.id, pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _record_now(self, attempt: Attempt, outcome: Outcome) -> None:
        """Write the history line of an attempt before its settlement, because its thread may take long to return.

        If that fails, the line is written with the settlement.
        """
        backend, line = attempt.backend, attempt_record(attempt, outcome, now=self._clock.now())
        try:
            await backend.gate.call(lambda: backend.storage.add_history((line,)))
            attempt.is_recorded = True
        except Exception as error:
            backend.failures.warn("timeouts", "The timeout of job %s is not stored yet: %s", attempt.id, error)
