"""Writes on the event loop's thread: made only if they need not wait."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from jobify.gateway.batching import Batch
from jobify.gateway.sharing import SharedStorage
from jobify.storage.base import Storage

__all__ = ("NonblockingWriter",)

_SLOW: Final = 0.002
"""Seconds. A call takes a fiftieth of that, unless the kernel throttles writers, or computing threads hold the
interpreter."""
_PAUSE_FACTOR: Final = 10
"""A slow call is followed by a pause of so many times its length, so that slow calls take less than a tenth of the
loop's time."""


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
        return self._storage.nonblocking is not None and monotonic() >= self._closed_until

    @property
    def has_listeners(self) -> bool:
        """Whether another process or user of the storage must be notified of a write."""
        notifier = self._storage.notifier
        return self._shared.has_other_users or (notifier is not None and notifier.has_listeners)

    def execute(self, batch: Batch[Any]) -> bool:
        """Make the calls of ``batch``, which then has its values; False: nothing was done, and the thread must do it.

        An error decides nothing: the thread makes the same call again, and its result counts.
        """
        block = self._storage.nonblocking
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
