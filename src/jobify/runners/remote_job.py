"""``current_job`` in a child process: it is made from a :class:`JobInfo` and reports to the parent.

A report is a message on the child's connection, ahead of the reply; the parent reads in order, so that it has all
reports when it has the reply. A thread that outlives its call sends no more reports, because the parent would take
them for reports of the next call.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from jobify.exceptions import ApplicationStateError, ConfigurationError, PayloadError
from jobify.jobs.current_job import CURRENT, TIMED_OUT, is_overdue
from jobify.model.records import MessageKind
from jobify.runners.job_info import JobInfo
from jobify.serializers.codec import Codec

__all__ = ("RemoteJob", "current_job_scope")


class RemoteBatchJob(NamedTuple):
    """One of the jobs of a shared call."""

    id: str
    attempt: int

    @property
    def is_cancelled(self) -> bool:
        """A child does not learn of it."""
        return False


class RemoteJob:
    """The job whose function this process calls. ``send`` is the way to the parent, if there is one."""

    def __init__(self, job_info: JobInfo, send: Callable[[Any], object] | None) -> None:
        self.app: object = None
        self.id = job_info.id
        self.number = job_info.number
        self.task_name = job_info.task_name
        self.queue_name = job_info.queue_name
        self.timeout = job_info.timeout
        self.deadline = job_info.deadline
        self.batch = tuple(RemoteBatchJob(*job) for job in job_info.batch)
        self._info = job_info
        self._send = send
        self._sending = threading.Lock()
        self._is_over = False

    @property
    def metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = pickle.loads(self._info.metadata)
        return metadata

    def stop_reason(self) -> str | None:
        """A timeout is the only reason that a child can know; any other kills this process."""
        return TIMED_OUT if is_overdue(self) else None

    def encode(self, value: Any) -> Any:
        """``value`` as the app's serializer writes it."""
        codec = _codec(self._info.serializer)
        return value if codec is None else codec.encode_value(value)

    def completion(self) -> NoReturn:
        """Only the process of the app can end a job."""
        raise ConfigurationError(
            f"The task {self.task_name!r} runs in a child process, which cannot complete its job in a transaction. "
            "Choose run_mode='thread' for it."
        )

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        """Send a report; waits while the parent does not read."""
        if self._send is None:
            raise ApplicationStateError(
                operation=f"report on job {self.id!r}",
                reason="It runs in the app's own processpool_executor, from which there is no way back.",
                solution="Leave processpool_executor out, and Jobify's own pool runs it; or choose run_mode='thread'.",
            )
        with self._sending:
            if not self._is_over:
                self._send((kind, data, level))

    def lend(self) -> None:
        """Report to the parent that this process waits for another job."""
        self._send_wait(True)

    def take_back(self) -> None:
        """Report to the parent that the wait is over."""
        self._send_wait(False)

    def _send_wait(self, is_waiting: bool) -> None:
        if self._send is not None:
            with self._sending:
                if not self._is_over:
                    self._send((None, is_waiting, None))

    def end(self) -> None:
        """The call has ended: send nothing more."""
        with self._sending:
            self._is_over = True


@contextmanager
def current_job_scope(job_info: JobInfo | None, send: Callable[[Any], object] | None) -> Iterator[None]:
    """The time in which this thread carries out the job of ``job_info``."""
    if job_info is None:
        yield
        return
    job = RemoteJob(job_info, send)
    token = CURRENT.set(job)
    try:
        yield
    finally:
        CURRENT.reset(token)
        job.end()


@lru_cache(maxsize=8)
def _codec(pickled: bytes) -> Codec | None:
    try:
        serializer = pickle.loads(pickled)
    except Exception as error:
        raise PayloadError(
            f"A child process cannot restore the app's serializer ({type(error).__name__}: {error}). Define its class "
            "at the top level of a module, or choose run_mode='thread'."
        ) from error
    if isinstance(serializer, PayloadError):
        raise serializer
    return None if serializer is None else Codec(serializer)
