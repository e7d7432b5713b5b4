"""A job for a test that calls a task as a plain function: the content of ``current_job``, and its reports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from jobify.jobs.current_job import CURRENT, TIMED_OUT, Running, is_overdue
from jobify.model.durations import Duration, check_duration
from jobify.model.records import MessageKind

__all__ = ("PretendBatchJob", "PretendJob")


@dataclass
class PretendBatchJob:
    """One of the jobs of a :class:`PretendJob` with ``batch``."""

    id: str
    attempt: int = 1
    is_cancelled: bool = False


class PretendJob(Running):
    """The current job inside ``with``, without an app.

    ::

        with PretendJob(attempt=3) as job:
            assert resize("cat.png", 64) == "done"  # asks current_job.attempt
        assert job.progress == [50.0, 100.0]

    ``progress``, ``values`` and ``logs`` (pairs of level and message) are lists of what the task has reported; values
    are kept as they are. ``stop()`` makes ``current_job.check_cancelled()`` raise, and ``timeout`` (seconds, or a
    timedelta) ``check_timeout()`` when it is over. With ``batch``, it is a call of a task with ``batch=`` for so many
    jobs; ``job.batch[0].is_cancelled = True`` cancels one of them. Threads of ``asyncio.to_thread`` and tasks see the
    job, too.
    """

    def __init__(
        self,
        *,
        id: str = "pretended",
        attempt: int = 1,
        task_name: str = "task",
        queue_name: str = "default",
        metadata: dict[str, Any] | None = None,
        timeout: Duration | None = None,
        batch: int = 0,
    ) -> None:
        self.id, self.number = id, attempt
        self._task_name, self._queue_name, self._metadata = task_name, queue_name, metadata or {}
        self.timeout: float | None = None if timeout is None else check_duration(timeout, what="timeout")
        self.deadline: float | None = None
        self.progress: list[float] = []
        self.values: list[Any] = []
        self.logs: list[tuple[str, str]] = []
        self._batch = [PretendBatchJob(f"{id}-{number}") for number in range(batch)]
        self._reason: str | None = None
        self._token: Token[Running | None] | None = None

    def __enter__(self) -> Self:
        if self.timeout is not None:
            self.deadline = time.monotonic() + self.timeout
        self._token = CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)

    def stop(self, reason: str = "cancel") -> None:
        """Request the task to stop, as a cancel does."""
        self._reason = reason

    # -- the protocol of current_job (Running) -------------------------------------------------------------------------

    @property
    def batch(self) -> Sequence[PretendBatchJob]:
        return self._batch

    @property
    def app(self) -> object:
        return None

    @property
    def task_name(self) -> str:
        return self._task_name

    @property
    def queue_name(self) -> str:
        return self._queue_name

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self._metadata)

    def stop_reason(self) -> str | None:
        return self._reason or (TIMED_OUT if is_overdue(self) else None)

    def encode(self, value: Any) -> Any:
        return value

    def completion(self) -> None:
        return None  # a transaction of a test completes no job

    def lend(self) -> None:
        """Nothing: there are no slots."""

    def take_back(self) -> None:
        """Nothing: there are no slots."""

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        match kind:
            case MessageKind.PROGRESS:
                self.progress.append(data)
            case MessageKind.VALUE:
                self.values.append(data)
            case MessageKind.LOG:
                self.logs.append((level or "info", data))
