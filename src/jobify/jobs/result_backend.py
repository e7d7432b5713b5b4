"""The operations that a :class:`~jobify.jobs.job_result.JobResult` delegates to the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any, Protocol, TypeVar

from jobify.model.durations import Duration
from jobify.model.records import JobRecord, Relations

__all__ = ("Polls", "ResultBackend", "ResultReader")

T = TypeVar("T")

Polls = tuple[Duration, Duration]
"""The first polling interval and the longest one, in seconds or as timedeltas."""


class ResultReader(Protocol):
    """Reads stored jobs in the caller's thread. JobNotFoundError for an id that is not (or no longer) stored."""

    def record(self, job_id: str) -> JobRecord:
        """The row: one select by primary key."""
        ...

    def relations(self, job_id: str) -> Relations:
        """The ids of the jobs that it depends on, and of those that depend on it."""
        ...

    def error(self, job_id: str) -> str | None:
        """``Type: message`` of the last failure."""
        ...

    def errors(self, job_id: str) -> list[dict[str, Any]]:
        """One dict per failed attempt, the oldest first."""
        ...

    def reason(self, job_id: str) -> str | None:
        """Why the job was cancelled. None if it was not."""
        ...

    def note(self, job_id: str) -> str:
        """Why the job does not run, in a few words."""
        ...

    def waits_for(self, job_id: str) -> str | None:
        """The limit that the job waits for, in a few words."""
        ...

    def metadata(self, job_id: str) -> dict[str, Any]:
        """The metadata of the job."""
        ...

    def arguments(self, job_id: str) -> tuple[list[Any] | None, dict[str, Any] | None]:
        """The positional and the keyword arguments of the job, as JSON values."""
        ...

    def moment(self, at: int | None) -> datetime | None:
        """A time of a row, in the app's zone."""
        ...

    def describe(self, job_id: str) -> dict[str, Any]:
        """All fields of the job, as JSON values."""
        ...

    def logs(self, job_id: str) -> list[dict[str, Any]]:
        """The log lines of the job, the oldest first."""
        ...


class ResultBackend(Protocol):
    """What a handle needs: the storage that its job is in, and notifications of how the job ends.

    Every method raises JobNotFoundError for an id that is not (or no longer) stored, and StorageUnavailableError.
    """

    @property
    def reader(self) -> ResultReader:
        """Reads from that storage."""
        ...

    async def read(self, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread that may block."""
        ...

    def result(self, job_id: str, timeout: Duration | None, polls: Polls) -> Any:
        """Wait for the end of the job, and return its value or raise its error."""
        ...

    async def aresult(self, job_id: str, timeout: Duration | None, polls: Polls) -> Any:
        """:meth:`result`, without blocking."""
        ...

    def wait(self, job_id: str, timeout: Duration | None) -> None:
        """Wait for the end of the job; WaitTimeoutError after ``timeout`` seconds."""
        ...

    async def await_end(self, job_id: str, timeout: Duration | None) -> None:
        """:meth:`wait`, without blocking."""
        ...

    def cancel(self, job_id: str, timeout: Duration | None) -> bool:
        """Cancel the job. Returns whether it is cancelled."""
        ...

    async def acancel(self, job_id: str, timeout: Duration | None) -> bool:
        """:meth:`cancel`, without blocking."""
        ...

    def retry(self, job_id: str, with_dependents: bool) -> bool:
        """Make a failed job wait for a run again. Returns whether that was done."""
        ...

    async def aretry(self, job_id: str, with_dependents: bool) -> bool:
        """:meth:`retry`, without blocking."""
        ...

    def stream(self, job_id: str, timeout: Duration | None, after: int) -> Iterator[Any]:
        """Yield the values that the job publishes, as they arrive."""
        ...

    def astream(self, job_id: str, timeout: Duration | None, after: int) -> AsyncIterator[Any]:
        """:meth:`stream`, without blocking."""
        ...
