"""The threads of a client. A fork does not take them along; the child starts its own when it needs them."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from jobify.client.completion_listener import CompletionListener
from jobify.gateway.connection import StorageConnection
from jobify.gateway.threads import CallThread
from jobify.model.clock import Clock
from jobify.model.records import NewJob
from jobify.runtime import fork

__all__ = ("ClientThreads",)

_JUST_NOW: Final = 5.0
"""Seconds."""
_REMEMBERED: Final = 1000


class ClientThreads:
    """The writer, reader and listener of this process. Each starts its thread with its first use."""

    def __init__(
        self, connection: StorageConnection, clock: Clock, insert: Callable[[Sequence[NewJob]], Sequence[bool]]
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._insert = insert
        self._create()
        fork.renew_in_child(self)

    def _create(self) -> None:
        self.writer = CallThread(self._insert)
        """Makes the calls of async callers that write."""
        self.reader = CallThread(self._insert)
        """Makes the calls of async callers that only read: in another thread, because a write may wait for a locked
        file."""
        self.listener = CompletionListener(self._connection, self._clock)
        self._awaited: Counter[str] = Counter()
        self._notified: dict[str, float] = {}
        """When callers last learned of an end, the latest ones: the storage may notify before the engine logs."""
        self._guard = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether none of the threads runs."""
        return not (self.writer.is_running or self.reader.is_running or self.listener.is_running)

    def after_fork_in_child(self) -> None:
        """Forget the threads of the parent."""
        self._create()

    @contextmanager
    def awaiting(self, job_id: str) -> Iterator[None]:
        """A caller waits for the end of this job, and learns of it unless the block raises."""
        awaited, guard = self._awaited, self._guard
        with guard:
            awaited[job_id] += 1
        try:
            yield
            with guard:
                self._notified.pop(job_id, None)
                self._notified[job_id] = time.monotonic()
                if len(self._notified) > _REMEMBERED:
                    del self._notified[next(iter(self._notified))]
        finally:
            with guard:
                awaited[job_id] -= 1
                if not awaited[job_id]:
                    del awaited[job_id]

    def is_awaited(self, job_id: str) -> bool:
        """Whether a caller of this process waits for the end of the job, or has just learned of it. For any thread."""
        return job_id in self._awaited or self._notified.get(job_id, -math.inf) > time.monotonic() - _JUST_NOW

    def end_calls(self, timeout: float) -> None:
        """End the threads that make calls, after the calls made so far."""
        self.writer.end(timeout)
        self.reader.end(timeout)

    def end_listening(self, timeout: float) -> None:
        """End the listener's thread; if callers still wait, it ends with the last of them."""
        self.listener.end(timeout)
