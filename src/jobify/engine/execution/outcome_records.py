"""Records of outcomes beside their settlement: early lines of the history, and outcomes that are lost."""

from __future__ import annotations

from typing import Final

from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.settlement import attempt_record
from jobify.model.status import Outcome
from jobify.runtime.logs import get_logger
from jobify.types import Microseconds

__all__ = ("LostOutcomes", "record_now")

log = get_logger("jobify.engine")

_NAMED: Final = 5
"""Jobs whose ids the log line of lost outcomes names."""


async def record_now(attempt: Attempt, outcome: Outcome, now: Microseconds) -> None:
    """Write the history line of an attempt before its settlement: its thread may take long to return, and users look
    at the history. Where that fails, the line is written with the settlement."""
    line = attempt_record(attempt, outcome, now=now)
    storage = attempt.backend.storage
    try:
        await attempt.backend.gate.call(lambda: storage.add_history((line,)))
        attempt.is_recorded = True
    except Exception as error:
        message = "The timeout of job %s is not stored yet: %s"
        attempt.backend.failures.warn("timeouts", message, attempt.id, error)


class LostOutcomes:
    """The jobs whose outcomes no storage has taken; they run again."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._last_error: Exception | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, job_id: str, error: Exception) -> None:
        log.debug("The outcome of job %s is lost.", job_id)
        self._ids.append(job_id)
        self._last_error = error

    def report(self) -> None:
        """Log what was lost, in one line. To be called when nothing is open any more."""
        if not self._ids:
            return
        some = ", ".join(self._ids[:_NAMED]) + (", ..." if len(self._ids) > _NAMED else "")
        log.error(
            "The outcomes of %d jobs could not be stored, and are lost (%s); the jobs run again. Last error: %s",
            len(self._ids),
            some,
            self._last_error,
        )
