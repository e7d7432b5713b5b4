"""Why a job ended that nobody has ended: what stands in ``error`` of its row, the same in all storages."""

from __future__ import annotations

from typing import Final

from jobify.exceptions import JobLostError
from jobify.status import JobStatus

__all__ = ("EXPIRED", "dependency_deleted", "dependency_ended", "lost_for_good")

EXPIRED: Final = "expired"
"""It waited longer than it was allowed to."""

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
