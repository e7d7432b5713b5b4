"""The threads of a client, which a fork does not take along: the child gets new ones when it needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from jobify.client.access import Access
from jobify.client.helper import Helper
from jobify.client.listener import Listener
from jobify.clock import Clock
from jobify.records import NewJob

__all__ = ("Crew",)

_PATIENCE: Final = 1.0
"""Seconds to wait for a thread that is about to end."""


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
        """Whether nothing is asked of any of them."""
        return self._helper.is_idle and self._reader.is_idle and self._listener.is_idle

    def release(self) -> None:
        """End the threads when they have nothing to do."""
        if self._pid == os.getpid():
            self._helper.release()
            self._reader.release()

    async def rest(self) -> None:
        """Close the storage unless it is in use, and end the threads that have nothing to do. The next use begins
        anew."""
        if self._pid != os.getpid():
            return
        is_idle = self.is_idle
        if is_idle and self._access.is_open:
            await self._helper.call(self._access.close)
        threads = [self._helper.release(), self._reader.release(), self._listener.thread if is_idle else None]
        for thread in threads:
            if thread is not None and is_idle:
                thread.join(_PATIENCE)

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
