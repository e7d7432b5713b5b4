"""Calls of a storage on the event loop's thread: made if they wait for nothing, and not made otherwise."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from jobify.gateway.batching import Batch
from jobify.gateway.sharing import SharedStorage
from jobify.storage.base import Storage

__all__ = ("NonblockingWriter",)

_SLOW: Final = 0.002
"""Seconds. A call takes a fiftieth of that, unless the kernel holds writers back, or threads that compute do not let
go of the interpreter."""
_PAUSE_FACTOR: Final = 10
"""A slow call is followed by so many times its length without any: they take less than a tenth of the loop's time."""


class NonblockingWriter:
    """Where calls of one storage are made at once."""

    __slots__ = ("_closed_until", "_shared", "_storage")

    def __init__(self, storage: Storage, shared: SharedStorage) -> None:
        self._storage = storage
        self._shared = shared
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it makes sense to try."""
        return self._storage.nonblocking is not None and monotonic() >= self._closed_until

    @property
    def has_listeners(self) -> bool:
        """Whether anybody else wants to hear of what is written here."""
        notifier = self._storage.notifier
        return self._shared.has_other_users or (notifier is not None and notifier.has_listeners)

    def execute(self, batch: Batch[Any]) -> bool:
        """Make the calls of ``batch``, which then has its values; False: nothing was done, a thread must see to it.

        An error says nothing yet. The thread makes the same call, and what it meets is the answer.
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
