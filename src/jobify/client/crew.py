"""The threads of a client, which a fork does not take along: the child gets new ones when it needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from jobify.client.access import Access
from jobify.client.helper import Helper
from jobify.client.listener import Listener
from jobify.clock import Clock
from jobify.records import NewJob

__all__ = ("Crew",)


class Crew:
    """Helper, reader and listener of this process. Each starts its thread when it is needed first."""

    def __init__(self, access: Access, clock: Clock, insert: Callable[[Sequence[NewJob]], list[bool]]) -> None:
        self._access = access
        self._clock = clock
        self._insert = insert
        self._engage()

    def _engage(self) -> None:
        self._pid = os.getpid()
        self._helper = Helper(self._insert)
        self._reader = Helper(self._insert)
        self._listener = Listener(self._access, self._clock)

    @property
    def is_idle(self) -> bool:
        """Whether no thread of this process is left."""
        return self._pid != os.getpid() or not (
            self._helper.is_running or self._reader.is_running or self._listener.is_running
        )

    def end_calls(self, timeout: float) -> None:
        """End the threads that make calls, after those that they have."""
        if self._pid == os.getpid():
            self._helper.end(timeout)
            self._reader.end(timeout)

    def end_listening(self, timeout: float) -> None:
        """End the thread that listens, unless callers still wait: then it ends with the last of them."""
        if self._pid == os.getpid():
            self._listener.end(timeout)

    @property
    def reader(self) -> Helper:
        """For async callers who only read: in another thread, because a write may wait for a locked file."""
        if self._pid != os.getpid():
            self._engage()
        return self._reader

    @property
    def helper(self) -> Helper:
        """For async callers who write."""
        if self._pid != os.getpid():
            self._engage()
        return self._helper

    @property
    def listener(self) -> Listener:
        """For those who wait."""
        if self._pid != os.getpid():
            self._engage()
        return self._listener
