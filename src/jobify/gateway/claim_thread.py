"""Claims beside other writes, where a storage allows that (``Storage.claims_first``).

A claim waits for a server, and so does a settlement. In one thread each would also wait for the other one; in two, the
server claims the next jobs while it settles the last ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobify.exceptions import StorageEndedError
from jobify.gateway.batching import Batch, BatchQueue, TimedClaim, execute_together, fail_pending, interrupted
from jobify.gateway.threads import StorageThread
from jobify.storage.base import Storage

__all__ = ("ClaimThread",)


class ClaimThread:
    """Makes the claims of a queue.

    In the thread, ``deliver`` is called with claims that have their answers, and ``on_lost`` when it cannot go on.
    """

    def __init__(
        self,
        storage: Storage,
        queue: BatchQueue[TimedClaim],
        *,
        deliver: Callable[[list[Batch[Any]]], None],
        on_lost: Callable[[StorageEndedError], None],
    ) -> None:
        self._storage = storage
        self._queue = queue
        self._deliver_to = deliver
        self._on_lost = on_lost
        self._taken: list[Batch[Any]] = []
        """Claims that the thread has taken from the queue, and not delivered yet."""
        self._thread = StorageThread(self._serve, on_error=self._on_error, on_end=self._on_end, name="jobify-claims")

    def start(self) -> None:
        """Start the thread. StorageUnavailableError if the system has none."""
        self._thread.start()

    def wake(self) -> None:
        """There is a claim in the queue."""
        self._thread.wakeup.send()

    def end(self) -> None:
        """End when all claims are made, and wait for that. Not on the event loop's thread."""
        self._thread.end(wait=True)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Make the claims in the queue; whether there are more by now."""
        if self._taken:
            self._deliver()  # an error has prevented it
        claims = self._queue.take(self._taken)
        if claims is None:
            return False
        execute_together(self._storage, [claims])
        self._deliver()
        return not self._queue.is_empty

    def _deliver(self) -> None:
        self._deliver_to(self._taken[:])
        self._taken.clear()

    def _on_error(self, error: BaseException) -> None:
        """Fail the claims that were taken and have no answer yet."""
        fail_pending(self._taken, interrupted(error))
        self._deliver()

    def _on_end(self, error: BaseException) -> None:
        """The thread cannot go on: fail the claims that wait, and all later ones."""
        ended = StorageEndedError(error)
        self._queue.close(ended)
        while self._queue.take(self._taken):
            pass
        fail_pending(self._taken, ended)
        self._deliver()
        self._on_lost(ended)
