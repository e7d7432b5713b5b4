"""Reasons of ends that are no outcome of the job: the ``error`` of its row, the same in all storages."""

from __future__ import annotations

from typing import Final, NamedTuple

from jobify.exceptions import JobLostError
from jobify.model.status import JobStatus

__all__ = (
    "DELETED",
    "EXPIRED",
    "SNOOZED",
    "SUPERSEDED",
    "Cause",
    "because_of",
    "crash_limit_reached",
    "is_snoozed",
    "snoozed",
)

SUPERSEDED: Final = "superseded by a later call"
"""A later call has its unique key."""
EXPIRED: Final = "expired"
"""It waited longer than it was allowed to."""
DELETED: Final = "deleted"
"""A word beside those of JobStatus: it was deleted while others waited for it."""
SNOOZED: Final = "snoozed by its task"
"""How the ``error`` of a waiting job begins that its task has put off. No error does: a type's name has no space."""

_WORDS: Final = {
    JobStatus.FAILED.value: "failed",
    JobStatus.TIMEOUT.value: "timed out",
    JobStatus.CANCELLED.value: "was cancelled",
    JobStatus.PERMANENTLY_FAILED.value: "failed for good",
    DELETED: "was deleted",
}
_LONGEST: Final = 300
"""Characters of an error that is repeated in each job that falls with its own."""


class Cause(NamedTuple):
    """A job whose end cancels those that depend on it, directly or not."""

    id: str
    task: str
    status: str
    """How it has ended, without success."""
    error: str | None

    @property
    def word(self) -> str:
        """How it has ended, in words."""
        is_expired = self.status == JobStatus.CANCELLED.value and self.error == EXPIRED
        return EXPIRED if is_expired else _WORDS.get(self.status, "ended")

    @property
    def is_failure(self) -> bool:
        """Whether its error says why."""
        return self.status in _WORDS and self.status not in (JobStatus.CANCELLED.value, DELETED)


def because_of(parent: str, cause: Cause | None) -> str:
    """The reason of a job that waited for ``parent``, which has ended without success, or was cancelled for ``cause``.
    None: that one is not known any more.

    >>> because_of("7", Cause("7", "charge", "failed", "ConnectionError: payment is down"))
    'dependency 7 failed: charge failed: ConnectionError: payment is down'
    >>> because_of("8", Cause("7", "charge", "failed", "ConnectionError: payment is down"))
    'dependency 8 was cancelled: charge failed: ConnectionError: payment is down'
    """
    if cause is None:
        return f"dependency {parent} was cancelled"
    reason = f"dependency {parent} {cause.word if parent == cause.id else 'was cancelled'}"
    if cause.is_failure and cause.error:
        return f"{reason}: {cause.task} {cause.word}: {_shortened(cause.error)}"
    return reason if parent == cause.id else f"{reason}: {cause.task} {cause.word}"


def _shortened(error: str) -> str:
    line = error.partition("\n")[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def crash_limit_reached(id: str, crashes: int) -> str:
    """The reason of a job that took so many processes down, and gets no other one."""
    return f"{JobLostError.__name__}: {JobLostError(id, crashes)}"


def snoozed(reason: str | None) -> str:
    """What stands in the row of a job that its task has put off, which is no error."""
    return SNOOZED if reason is None else f"{SNOOZED}: {reason}"


def limit_reached(name: str) -> str:
    """The reason of a job that a limit with ``on_excess="skip"`` has refused."""
    return f"the limit {name!r} was reached"


def is_snoozed(error: str | None) -> bool:
    """Whether this is what :func:`snoozed` says."""
    return error is not None and error.startswith(SNOOZED)
