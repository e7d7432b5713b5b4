"""Writes on the event loop's thread: made only if they need not wait."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic
from typing import Any, Final

from jobify.gateway.batching import Batch, BatchQueue, TimedClaim, resolve
from jobify.gateway.sharing import SharedStorage
from jobify.model.records import Claimed
from jobify.storage.base import Storage

__all__ = ("NonblockingClaims", "NonblockingWriter")

_SLOW: Final = 0.002
"""Seconds. A call takes a fiftieth of that, unless the kernel throttles writers, or computing threads hold the
interpreter."""
_PAUSE_FACTOR: Final = 10
"""A slow call is followed by a pause of so many times its length, so that slow calls take less than a tenth of the
loop's time."""
_REST: Final = 0.005
"""Seconds without a claim after which the next one is made at once. A loop that claims more often has work to do
meanwhile."""


class NonblockingWriter:
    """Makes calls of one storage at once, where they need not wait."""

    __slots__ = ("_closed_until", "_shared", "_storage")

    def __init__(self, storage: Storage, shared: SharedStorage) -> None:
        self._storage = storage
        self._shared = shared
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether to try."""
        return self._block is not None and monotonic() >= self._closed_until

    @property
    def _block(self) -> AbstractContextManager[None] | None:
        return self._storage.nonblocking

    @property
    def has_listeners(self) -> bool:
        """Whether another process or user of the storage must be notified of a write."""
        notifier = self._storage.notifier
        return self._shared.has_other_users or (notifier is not None and notifier.has_listeners)

    def execute(self, batch: Batch[Any]) -> bool:
        """Make the calls of ``batch``, which then has its values; False: nothing was done, and the thread must do it.

        An error decides nothing: the thread makes the same call again, and its result counts.
        """
        block = self._block
        if block is None or not self._shared.lock.acquire(blocking=False):
            return False
        started = monotonic()
        try:
            with block:
                batch.execute()
        except Exception:
            return False
        finally:
            self._shared.lock.release()
            took = monotonic() - started
            if took > _SLOW:
                self._closed_until = started + took * (1 + _PAUSE_FACTOR)
        return True


class NonblockingClaims(NonblockingWriter):
    """Makes a claim at once after a while without any: an idle worker begins sooner without a change of threads."""

    __slots__ = ("_last_at",)

    def __init__(self, storage: Storage, shared: SharedStorage) -> None:
        super().__init__(storage, shared)
        self._last_at = -_REST

    def is_next_at_once(self) -> bool:
        """Whether to try that with the claim that comes now."""
        before, self._last_at = self._last_at, monotonic()
        return self._last_at - before >= _REST and self.is_open

    def make(self, queue: BatchQueue[TimedClaim], claim: TimedClaim) -> asyncio.Future[Claimed] | None:
        """Make a claim of this queue; None: nothing was done, and the thread must make it."""
        answered: asyncio.Future[Claimed] = asyncio.get_running_loop().create_future()
        batch = queue.single(claim, partial(resolve, answered))
        if not (queue.is_open and self.execute(batch)):
            return None
        batch.deliver()
        return answered

    @property
    def _block(self) -> AbstractContextManager[None] | None:
        return self._storage.nonblocking_claims
