"""The threads of a client, which a fork does not take along: the child gets new ones when it needs them."""

from __future__ import annotations

import math
import os
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

__all__ = ("ClientThreads",)

_JUST_NOW: Final = 5.0
"""Seconds."""
_REMEMBERED: Final = 1000


class ClientThreads:
    """CallThread, reader and listener of this process. Each starts its thread when it is needed first."""

    def __init__(
        self, connection: StorageConnection, clock: Clock, insert: Callable[[Sequence[NewJob]], list[bool]]
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._insert = insert
        self._create()

    def _create(self) -> None:
        self._pid = os.getpid()
        self._writer = CallThread(self._insert)
        self._reader = CallThread(self._insert)
        self._listener = CompletionListener(self._connection, self._clock)
        self._awaited: Counter[str] = Counter()
        self._notified: dict[str, float] = {}
        """When callers were last told of an end; the youngest. The storage tells faster than the engine logs."""
        self._guard = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether no thread of this process is left."""
        return self._pid != os.getpid() or not (
            self._writer.is_running or self._reader.is_running or self._listener.is_running
        )

    @contextmanager
    def awaiting(self, job_id: str) -> Iterator[None]:
        """A caller is told how this job ends, if the block is not left by an error."""
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
        """Whether a caller of this process waits for the end of the job, or was told of it just now. From any
        thread."""
        if self._pid != os.getpid():
            return False
        return job_id in self._awaited or self._notified.get(job_id, -math.inf) > time.monotonic() - _JUST_NOW

    def end_calls(self, timeout: float) -> None:
        """End the threads that make calls, after those that they have."""
        if self._pid == os.getpid():
            self._writer.end(timeout)
            self._reader.end(timeout)

    def end_listening(self, timeout: float) -> None:
        """End the thread that listens, unless callers still wait: then it ends with the last of them."""
        if self._pid == os.getpid():
            self._listener.end(timeout)

    @property
    def reader(self) -> CallThread:
        """For async callers who only read: in another thread, because a write may wait for a locked file."""
        if self._pid != os.getpid():
            self._create()
        return self._reader

    @property
    def writer(self) -> CallThread:
        """For async callers who write."""
        if self._pid != os.getpid():
            self._create()
        return self._writer

    @property
    def listener(self) -> CompletionListener:
        """For those who wait."""
        if self._pid != os.getpid():
            self._create()
        return self._listener
