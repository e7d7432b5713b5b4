"""The state machine of a job: its statuses, the events, and the table of transitions.

No code sets a status directly. An attempt ends in one :data:`Outcome`; a user, a clock or a worker causes an event. The
new status is that of the table :data:`TRANSITIONS`; a transition that is not in the table cannot happen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, TypeAlias

from msgspec import Struct

from jobify.types import Microseconds

__all__ = (
    "ACTIVE",
    "FAILURES",
    "TERMINAL",
    "TRANSITIONS",
    "Cancelled",
    "ClaimScope",
    "Event",
    "Failed",
    "JobStatus",
    "Lost",
    "Outcome",
    "Refused",
    "Released",
    "RetryAt",
    "Returned",
    "Skipped",
    "Snoozed",
    "Succeeded",
    "TimedOut",
    "Unfit",
    "known_status",
    "next_status",
)


class JobStatus(StrEnum):
    """The status of a job. Equal to, and printed as, its lower-case name.

    A durable job is stored as SCHEDULED, RUNNING or one of the terminal statuses; PENDING is the status of a handle
    before its job is registered.
    """

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    PERMANENTLY_FAILED = "permanently_failed"


TERMINAL: Final = frozenset(
    {
        JobStatus.SUCCESS,
        JobStatus.FAILED,
        JobStatus.TIMEOUT,
        JobStatus.CANCELLED,
        JobStatus.PERMANENTLY_FAILED,
    }
)
"""The statuses of ended jobs, which no event changes."""

ACTIVE: Final[tuple[str, ...]] = tuple(status.value for status in JobStatus if status not in TERMINAL)
"""The other statuses, as they are stored."""
FAILURES: Final[tuple[str, ...]] = (
    JobStatus.FAILED.value,
    JobStatus.TIMEOUT.value,
    JobStatus.PERMANENTLY_FAILED.value,
)
"""The statuses of failed jobs, as they are stored."""


class Succeeded(Struct, frozen=True):
    """The task returned ``value``."""

    value: Any


class RetryAt(Struct, frozen=True):
    """The attempt failed with ``error``; the next one is due ``at``."""

    error: Exception
    at: Microseconds


class Failed(Struct, frozen=True):
    """The last attempt failed with ``error``."""

    error: Exception
    is_dead: bool = False
    """Whether it had retries, which are used up."""


class TimedOut(Struct, frozen=True):
    """The last attempt ran out of time."""

    error: Exception
    is_dead: bool = False


class Cancelled(Struct, frozen=True):
    """A user's cancel reached the running attempt."""

    reason: str = "cancelled"


class Released(Struct, frozen=True):
    """A shutdown released the unfinished job; the attempt is not counted."""

    reason: str = "shutdown"


class Returned(Struct, frozen=True):
    """The job was claimed ahead of a free slot, and has not begun; it waits as before. The attempt is not counted."""


class Refused(Struct, frozen=True):
    """The system refused a resource (a process, a thread), so the attempt did not begin.

    It is not counted, and the job is due again ``at``.
    """

    reason: str
    at: Microseconds


class Snoozed(Struct, frozen=True):
    """The task raised Snooze: it runs again ``at``, and the attempt is not counted."""

    at: Microseconds
    reason: str | None = None
    closes_rates: bool = False
    """Whether the keys of its rates are closed until then."""


class Lost(Struct, frozen=True):
    """The process died; the attempt is counted."""

    reason: str = "the process died"
    is_crash: bool = True
    """The job is blamed for it."""
    at: Microseconds | None = None
    """When it runs again. None means at once."""


class Unfit(Struct, frozen=True):
    """The stored call does not fit ``code``, that of this process. Nothing ran; the job waits for other code."""

    reason: str
    code: str


class Skipped(Struct, frozen=True):
    """A schedule's due time was missed and is skipped by its policy; no attempt was made."""


Outcome: TypeAlias = (
    Succeeded
    | RetryAt
    | Failed
    | TimedOut
    | Cancelled
    | Released
    | Returned
    | Refused
    | Snoozed
    | Lost
    | Unfit
    | Skipped
)
"""How an attempt ended."""


class Event(StrEnum):
    """The events of a job. The first eight are the outcomes of an attempt."""

    SUCCEEDED = "succeeded"
    RETRY = "retry at"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    RELEASED = "released"
    LOST = "lost"
    PARKED = "parked"
    REGISTER = "register"
    CLAIM = "claim"
    CANCEL = "cancel"
    NEXT_RUN = "next run"
    LAST_RUN = "last run"
    GIVE_UP = "max_failures"
    QUARANTINE = "max_crashes"


_WAITING, _RUNNING = JobStatus.SCHEDULED, JobStatus.RUNNING

TRANSITIONS: Final[dict[tuple[JobStatus, Event], JobStatus]] = {
    (JobStatus.PENDING, Event.REGISTER): _WAITING,
    (_WAITING, Event.CLAIM): _RUNNING,
    (_WAITING, Event.CANCEL): JobStatus.CANCELLED,
    (_RUNNING, Event.SUCCEEDED): JobStatus.SUCCESS,
    (_RUNNING, Event.RETRY): _WAITING,
    (_RUNNING, Event.FAILED): JobStatus.FAILED,
    (_RUNNING, Event.TIMED_OUT): JobStatus.TIMEOUT,
    (_RUNNING, Event.CANCELLED): JobStatus.CANCELLED,
    (_RUNNING, Event.RELEASED): _WAITING,
    (_RUNNING, Event.LOST): _WAITING,
    (_RUNNING, Event.PARKED): _WAITING,
    (_RUNNING, Event.NEXT_RUN): _WAITING,
    (_RUNNING, Event.LAST_RUN): JobStatus.SUCCESS,
    (_RUNNING, Event.GIVE_UP): JobStatus.PERMANENTLY_FAILED,
    (_RUNNING, Event.QUARANTINE): JobStatus.FAILED,
}
"""(status, event) → status. The diagram in the documentation is generated from this table."""


def known_status(word: str) -> JobStatus:
    """The status of a row. One that only a newer release knows reads RUNNING, because the job may not have ended."""
    try:
        return JobStatus(word)
    except ValueError:
        return JobStatus.RUNNING


def next_status(status: JobStatus, event: Event) -> JobStatus:
    """The status after ``event``; ValueError if the event cannot happen in ``status``."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise ValueError(f"the event {event.value!r} cannot happen to a job that is {status}") from None


class ClaimScope(StrEnum):
    """The jobs that a claim may take; see *Suspects* in :mod:`jobify.storage.base`."""

    ANY = "any"
    """Ordinary jobs, or, if there are none, a group that runs apart."""
    ORDINARY = "ordinary"
    """Only jobs that need not run apart."""
    APART = "apart"
    """Only a group that runs apart, while the claimant runs nothing else. The answer does not cover other jobs."""
    PARKED = "parked"
    """Only parked calls that were not tried with the code of the claimant. The answer does not cover other jobs."""

    @property
    def covers_ordinary(self) -> bool:
        """Whether ordinary jobs may be taken."""
        return self is ClaimScope.ANY or self is ClaimScope.ORDINARY
