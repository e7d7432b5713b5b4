"""Why a job ended that nobody has ended: what stands in ``error`` of its row, the same in all storages."""

from __future__ import annotations

from typing import Final

from jobify.exceptions import JobLostError
from jobify.status import JobStatus

__all__ = ("EXPIRED", "SNOOZED", "dependency_deleted", "dependency_ended", "is_snoozed", "lost_for_good", "snoozed")

EXPIRED: Final = "expired"
"""It waited longer than it was allowed to."""
SNOOZED: Final = "snoozed by its task"
"""How the ``error`` of a waiting job begins that its task has put off. No error does: a type's name has no space."""

_WORDS: Final = {
    JobStatus.FAILED.value: "failed",
    JobStatus.TIMEOUT.value: "timed out",
    JobStatus.CANCELLED.value: "was cancelled",
    JobStatus.PERMANENTLY_FAILED.value: "failed for good",
}


def dependency_ended(id: str, status: str, error: str | None) -> str:
    """The reason of a job that waited for ``id``, which has ended with this status and error, and without success."""
    is_expired = status == JobStatus.CANCELLED.value and error == EXPIRED
    return f"dependency {id} {EXPIRED if is_expired else _WORDS[status]}"


def dependency_deleted(id: str) -> str:
    """The reason of a job that waited for ``id``, which was deleted while it waited, too."""
    return f"dependency {id} was deleted"


def lost_for_good(id: str, crashes: int) -> str:
    """The reason of a job that took so many processes down, and gets no other one."""
    return f"{JobLostError.__name__}: {JobLostError(id, crashes)}"


def snoozed(reason: str | None) -> str:
    """What stands in the row of a job that its task has put off, which is no error."""
    return SNOOZED if reason is None else f"{SNOOZED}: {reason}"


def is_snoozed(error: str | None) -> bool:
    """Whether this is what :func:`snoozed` says."""
    return error is not None and error.startswith(SNOOZED)
