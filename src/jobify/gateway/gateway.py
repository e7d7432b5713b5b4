"""What the engine sees of a storage: a gate.

A storage is blocking code without an event loop, and a :class:`Gate` is the awaitable way to it. That of a storage that
blocks is :class:`~jobify.gateway.threaded.ThreadGate`, that of memory :class:`~jobify.gateway.inline.DirectGate`. A
gate belongs to the event loop that has started it. Answers come on that loop; calls that overlap in time have no order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from jobify.exceptions import StorageLostError
from jobify.gateway.batching import Answer
from jobify.gateway.notification import News
from jobify.jobs.job import Job
from jobify.model.records import Claimed, ClaimRequest, NewJob, Report, Settlement
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("Gate", "Insertion")

T = TypeVar("T")


class Gate(Protocol):
    """What the engine sees of a storage."""

    storage: Storage
    on_news: Callable[[], None]
    """Called on the event loop when another user of the same storage object has written what concerns others."""

    on_end: Callable[[StorageLostError], None]
    """Called on the event loop when the storage cannot be used any more: every later question is answered with this
    error."""

    def tell_others(self) -> None:
        """Tell the other users of the same storage object that there are news."""
        ...

    async def start(self) -> None:
        """Open the storage. The gate then belongs to the running event loop, until it is stopped."""
        ...

    async def stop(self) -> None:
        """Finish what was asked, close the storage. Later questions are answered with an error."""
        ...

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        """:meth:`stop`, after the event loop was closed without it: make the ``last`` call and close the storage,
        without resolving any future."""
        ...

    def insert(self, insertion: Insertion, *, is_unseen: bool) -> None:
        """Ask for :meth:`Storage.insert` of one job. ``is_unseen``: it is claimed at birth, and its id was made for it,
        so nobody else looks for it."""
        ...

    def settle(self, settlement: Settlement, answer: Answer, *, news: News | None, is_last: bool = False) -> None:
        """Ask for :meth:`Storage.settle` of one attempt. ``news``: who is to be told; of what the end does to other
        jobs everybody is. ``is_last``: none of its like is at work here, so it will hardly get company."""
        ...

    def report(self, reports: Sequence[Report], answer: Answer) -> None:
        """Ask for :meth:`Storage.report` of what one job has to say: all of it is written, or none."""
        ...

    def claim(
        self, request: ClaimRequest, *, now: Callable[[], Microseconds]
    ) -> asyncio.Future[Claimed] | Coroutine[Any, Any, Claimed]:
        """:meth:`Storage.claim`. ``now`` is called when it is made, on the thread that makes it."""
        ...

    async def call(self, function: Callable[[], T], *, news: News | None = None) -> T:
        """Run any other use of the storage; one that writes is atomic by itself or opens a transaction. ``news``: who
        is to be told of it."""
        ...

    async def tend(self, function: Callable[[], T]) -> T:
        """:meth:`call`, for what concerns only jobs that wait, or were claimed: rows that are held back stay so."""
        ...

    def spread(self, news: News) -> None:
        """Tell of what was written by an earlier call."""
        ...


class Insertion(Protocol):
    """A job to be inserted. Called with the answer."""

    payload: Any
    """Its arguments, as they are stored."""

    @property
    def job(self) -> Job[Any]:
        """Its handle."""
        ...

    def row(self) -> NewJob:
        """What is to be inserted."""
        ...

    def values(self) -> tuple[Any, ...]:
        """The fields of :meth:`row`, in order."""
        ...

    def __call__(self, answer: Any) -> None: ...
