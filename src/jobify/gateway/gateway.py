"""The awaitable interface to a storage.

A storage is blocking code without an event loop. A :class:`StorageGateway` makes it awaitable:
:class:`~jobify.gateway.threaded.ThreadedGateway` for a storage that blocks,
:class:`~jobify.gateway.inline.InlineGateway` for memory. A gateway belongs to the event loop that has started it.
Results are delivered on that loop; calls that overlap in time have no order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from jobify.exceptions import StorageLostError
from jobify.gateway.batching import Callback
from jobify.gateway.notification import Audience
from jobify.jobs.job import Job
from jobify.model.records import Claimed, ClaimRequest, NewJob, Report, Settlement
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("InsertRequest", "StorageGateway", "UnwrittenEnd")

T = TypeVar("T")


class StorageGateway(Protocol):
    """A storage, as the engine uses it."""

    storage: Storage
    on_local_change: Callable[[], None]
    """Called on the event loop when another user of the same storage object has written something that concerns other
    processes."""

    on_lost: Callable[[StorageLostError], None]
    """Called on the event loop when the storage can no longer be used: every later call fails with this error."""

    def notify_local(self) -> None:
        """Notify the other users of the same storage object of a change."""
        ...

    async def start(self) -> None:
        """Open the storage. The gateway then belongs to the running event loop, until it is stopped."""
        ...

    async def stop(self) -> None:
        """Finish the calls made so far and close the storage. Later calls fail."""
        ...

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        """:meth:`stop`, after the event loop was closed without it: make the ``last`` call and close the storage,
        without resolving any future."""
        ...

    def insert(self, insertion: InsertRequest, *, deferrable: bool) -> None:
        """Call :meth:`Storage.insert` for one job. ``deferrable``: the job is inserted already claimed and its id was
        generated for it, so that no other process can look for its row."""
        ...

    def settle(
        self, settlement: Settlement, callback: Callback, *, audience: Audience | None, no_peers: bool = False
    ) -> None:
        """Call :meth:`Storage.settle` for one attempt. ``audience``: which processes to notify; if the end changes
        other jobs, all are. ``no_peers``: no other job of the task runs here, so waiting for a batch is pointless."""
        ...

    def report(self, reports: Sequence[Report], callback: Callback) -> None:
        """Call :meth:`Storage.report` for the reports of one job: all of them are written, or none."""
        ...

    def claim(
        self, request: ClaimRequest, *, now: Callable[[], Microseconds]
    ) -> asyncio.Future[Claimed] | Coroutine[Any, Any, Claimed]:
        """Call :meth:`Storage.claim`. ``now`` is called when the claim is made, on the thread that makes it."""
        ...

    async def call(self, function: Callable[[], T], *, audience: Audience | None = None, flush: bool = True) -> T:
        """Make any other call; one that writes is atomic by itself or opens a transaction.

        ``audience``: which processes to notify. ``flush=False``: the call concerns only jobs that wait or were claimed,
        so rows whose insert was deferred stay deferred.
        """
        ...

    def notify(self, audience: Audience) -> None:
        """Notify processes of what an earlier call has written."""
        ...


class UnwrittenEnd(Protocol):
    """A job that has ended before its row was inserted."""

    def row(self) -> NewJob:
        """The row to insert."""
        ...

    def settlement(self) -> Settlement:
        """Its end."""
        ...


class InsertRequest(Protocol):
    """A job to insert. It is called with the answer of the storage."""

    payload: Any
    """The arguments, as they are stored."""

    @property
    def job(self) -> Job[Any]:
        """The handle of the job."""
        ...

    def row(self) -> NewJob:
        """The row to insert."""
        ...

    def succeeded(self, result: Any, finished_at: Microseconds, delete_at: Microseconds | None) -> UnwrittenEnd:
        """The job with its success, instead of an insert and a settlement."""
        ...

    def ended(self, settlement: Settlement, payload: Any) -> UnwrittenEnd:
        """The job with any end; ``payload`` are the arguments to keep."""
        ...

    def on_committed(self) -> None:
        """The row is committed, and flushed later: a job that is claimed already may start. The answer follows the
        flush. Called on the event loop; must not raise."""
        ...

    def __call__(self, answer: Any) -> None:
        """Take the answer of the storage. Called on the event loop; must not raise."""
        ...
