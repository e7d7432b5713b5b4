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

    A job that another one needs is kept until that is over: one that depends on it and has not ended, or may be tried
    again. Two kinds are kept whatever is said here:
    declared crons that ended by their own rule, and jobs that could not be read, for somebody to look at.
    """

    complete: float | None = _DAY
    """Of jobs that succeeded; their results go with them."""
    failed: float | None = 7 * _DAY
    """Of jobs that ended with an error and had no retries to use."""
    dead: float | None = 7 * _DAY
    """Of jobs whose retries were used up, that took too many processes down, or whose schedule was stopped."""
    cancelled: float | None = _DAY
    """Of jobs that were cancelled, or expired."""

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
        """When a job that is cancelled or expires ``now`` may be deleted; None: never."""
        return self.delete_at(JobStatus.CANCELLED, is_dead=False, now=now)

    def delete_at(self, status: JobStatus, *, is_dead: bool, now: Microseconds) -> Microseconds | None:
        """When a job that ends like this may be deleted; None: never."""
        match status:
            case JobStatus.SUCCESS:
                window = self.complete
            case JobStatus.CANCELLED:
                window = self.cancelled
            case _:
                window = self.dead if is_dead else self.failed
        return None if window is None else now + seconds(window)
