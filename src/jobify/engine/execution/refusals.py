"""What follows when the system refuses what an attempt needs: a thread, a process, memory."""

from __future__ import annotations

from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.slots import SlotPool
from jobify.model.task_options import RunMode
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger

__all__ = ("Refusals",)

log = get_logger("jobify.engine")


class Refusals:
    """Suspends and resumes lanes. Writes one line a minute for each."""

    def __init__(self) -> None:
        self._log = FailureLog(log, "Jobs that could not begin do so again")

    def suspend(self, attempt: Attempt, refusal: str) -> None:
        """The system has refused what the attempt needs: jobs of its kind wait for a while."""
        lane = attempt.pool
        lane.suspend()
        kind = "in the event loop" if lane.mode is RunMode.MAIN else f"in a {lane.mode.value}"
        self._log.failed(lane.mode, "Jobs that run %s cannot begin, and wait: %s.", kind, refusal.rstrip("."))

    def recover(self, lane: SlotPool) -> None:
        """A job begins in a lane that was suspended."""
        lane.recover()
        self._log.succeeded(lane.mode)
