"""How long ended jobs are kept, by how they ended."""

from __future__ import annotations

from dataclasses import dataclass

from jobify.model.clock import seconds
from jobify.model.durations import Duration, check_duration
from jobify.model.status import JobStatus
from jobify.types import Microseconds

__all__ = ("Retention",)

_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True, init=False)
class Retention:
    """Windows in seconds (or timedeltas), counted from the end of a job; None keeps for good.

    ::

        app = Jobify(retention=Retention(complete=3600, failed=30 * 86_400))

    A job is kept while another one needs it: one that depends on it and has not ended, or may be retried. Two kinds are
    always kept: declared crons that ended by their own rule, and jobs that could not be read, so that they can be
    examined.
    """

    complete: float | None = _DAY
    """For jobs that succeeded; their results are deleted with them."""
    failed: float | None = 7 * _DAY
    """For jobs that ended with an error and had no retries."""
    dead: float | None = 7 * _DAY
    """For jobs whose retries were used up, that took too many processes down, or whose schedule was stopped."""
    cancelled: float | None = _DAY
    """For jobs that were cancelled, or expired."""

    def __init__(
        self,
        *,
        complete: Duration | None = _DAY,
        failed: Duration | None = 7 * _DAY,
        dead: Duration | None = 7 * _DAY,
        cancelled: Duration | None = _DAY,
    ) -> None:
        given = {"complete": complete, "failed": failed, "dead": dead, "cancelled": cancelled}
        for name, value in given.items():
            window = None if value is None else check_duration(value, what=f"retention of {name} jobs")
            object.__setattr__(self, name, window)

    def cancelled_until(self, now: Microseconds) -> Microseconds | None:
        """When a job that is cancelled or expires ``now`` may be deleted. None means never."""
        return self.delete_at(JobStatus.CANCELLED, is_dead=False, now=now)

    def delete_at(self, status: JobStatus, *, is_dead: bool, now: Microseconds) -> Microseconds | None:
        """When a job that ends like this may be deleted. None means never."""
        match status:
            case JobStatus.SUCCESS:
                window = self.complete
            case JobStatus.CANCELLED:
                window = self.cancelled
            case _:
                window = self.dead if is_dead else self.failed
        return None if window is None else now + seconds(window)
