"""What the handle of a job from any process asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any, Protocol, TypeVar

from jobify.model.durations import Duration
from jobify.model.records import JobRecord, Relations

__all__ = ("Polls", "ResultBackend")

T = TypeVar("T")

Polls = tuple[Duration, Duration]
"""Seconds until the first look that nobody has rung for, and the most that this grows to."""


class ResultBackend(Protocol):
    """What a handle needs: the storage that its job is in, and somebody who hears how it ends.

    All of it raises JobNotFoundError for an id that the storage does not know (any more), and StorageUnavailableError.
    """

    def record(self, job_id: str) -> JobRecord:
        """The row: one select by primary key."""
        ...

    def relations(self, job_id: str) -> Relations:
        """What the job depends on, and what depends on it."""
        ...

    def error(self, job_id: str) -> str | None:
        """``Type: message`` of the last failure."""
        ...

    def errors(self, job_id: str) -> list[dict[str, Any]]:
        """One dict per failed attempt, the oldest first."""
        ...

    def reason(self, job_id: str) -> str | None:
        """Why the job was cancelled."""
        ...

    def note(self, job_id: str) -> str:
        """Why the job does not run, or not any more."""
        ...

    def metadata(self, job_id: str) -> dict[str, Any]:
        """What the job was given as metadata."""
        ...

    def arguments(self, job_id: str) -> tuple[list[Any] | None, dict[str, Any] | None]:
        """The arguments of the job, by position and by name, in the words of JSON."""
        ...

    def moment(self, at: int | None) -> datetime | None:
        """A time of a row, in the app's zone."""
        ...

    def describe(self, job_id: str) -> dict[str, Any]:
        """All of it as plain values."""
        ...

    def logs(self, job_id: str) -> list[dict[str, Any]]:
        """The log lines of the job, the oldest first."""
        ...

    async def read(self, look: Callable[[], T]) -> T:
        """What ``look`` gives, which is called in a thread that may wait."""
        ...

    def result(self, job_id: str, timeout: Duration | None, polls: Polls) -> Any:
        """Wait for the end of the job; its value, or the error that says what happened."""
        ...

    async def aresult(self, job_id: str, timeout: Duration | None, polls: Polls) -> Any:
        """:meth:`result`, without blocking."""
        ...

    def wait(self, job_id: str, timeout: Duration | None) -> None:
        """Wait for the end of the job; TimeoutError."""
        ...

    async def await_end(self, job_id: str, timeout: Duration | None) -> None:
        """:meth:`wait`, without blocking."""
        ...

    def cancel(self, job_id: str, timeout: Duration | None) -> bool:
        """Cancel the job; whether it is cancelled."""
        ...

    async def acancel(self, job_id: str, timeout: Duration | None) -> bool:
        """:meth:`cancel`, without blocking."""
        ...

    def retry(self, job_id: str, with_dependents: bool) -> bool:
        """Put a failed job back to waiting; whether that was done."""
        ...

    async def aretry(self, job_id: str, with_dependents: bool) -> bool:
        """:meth:`retry`, without blocking."""
        ...

    def stream(self, job_id: str, timeout: Duration | None, after: int) -> Iterator[Any]:
        """What the job publishes, as it does."""
        ...

    def astream(self, job_id: str, timeout: Duration | None, after: int) -> AsyncIterator[Any]:
        """:meth:`stream`, without blocking."""
        ...
