"""The gate of a storage in memory: calls are made at once, on the event loop's thread.

A job that is born claimed, runs and ends has no use for a row as long as nobody looks. Its row is held back, together
with how it ended, and given when somebody makes a call that might concern it, in this app or by another user of the
storage object (``gateway/sharing.py``); that one may sit in any thread, so a lock is held while the storage is used.

Memory is no archive: of the jobs that have ended the newest ones are kept, here as in the storage.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from jobify.exceptions import StorageLostError
from jobify.gateway.batching import Answer
from jobify.gateway.gateway import Insertion
from jobify.gateway.notification import News
from jobify.gateway.sharing import share
from jobify.model.records import Claimed, ClaimRequest, NewJob, Report, Settled, Settlement
from jobify.model.status import JobStatus
from jobify.storage.base import Storage
from jobify.storage.weight import NO_ARGUMENTS, WEIGHTLESS, weigh, weigh_call
from jobify.types import Microseconds

__all__ = ("DirectGate",)

T = TypeVar("T")

_APPLIED: Final = Settled.APPLIED
_KEPT: Final = 10_000
_KEPT_BYTES: Final = 16_000_000
"""Rows of ended jobs that are held back at most, and what they may weigh."""
_FINAL: Final = frozenset({JobStatus.SUCCESS.value, JobStatus.CANCELLED.value})
"""What cannot be retried, so that the arguments are of no more use."""


class DirectGate:
    """See the module, and :class:`~jobify.gateway.gateway.Gate`."""

    def __init__(self, storage: Storage, *, is_temporary: bool) -> None:
        self.storage = storage
        self._is_temporary = is_temporary
        """Nobody can look any more once this gate is closed."""
        self.on_news: Callable[[], None] = _nothing
        self.on_end: Callable[[StorageLostError], None] = lambda _: None  # a storage in memory has no thread to lose
        self._shared = share(storage)
        self._lock = self._shared.lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unborn: dict[str, Insertion] = {}
        self._ended: deque[tuple[Any, ...]] = deque(maxlen=_KEPT)
        """Fields of rows. Plain tuples of plain values are out of the garbage collector's sight, named ones are not."""
        self._ends: deque[tuple[Any, ...]] = deque(maxlen=_KEPT)
        """Fields of their settlements, in the same order."""
        self._weight = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._shared = share(self.storage)
        self._lock = self._shared.lock
        self._shared.open(self._hear, give_rows=self._give_rows)

    async def stop(self) -> None:
        self.abandon()

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        with self._lock:
            if not self._is_temporary:
                self._give_rows()
                if last is not None:
                    last()
            self._shared.close(self._hear)

    def tell_others(self) -> None:
        if self._shared.is_divided:
            self._shared.tell_others(self._hear)

    def _hear(self) -> None:
        """On any thread: another user of the storage object has news."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(lambda: self.on_news())

    # -- using the storage ---------------------------------------------------------------------------------------------

    def insert(self, insertion: Insertion, *, is_unseen: bool) -> None:
        if is_unseen:
            with self._lock:
                self._unborn[insertion.job.id] = insertion
            added = True
        else:
            with self._lock:
                self._give_rows()
                (added,) = self.storage.insert((insertion.row(),))
            self.tell_others()
        insertion(added)

    def settle(self, settlement: Settlement, answer: Answer, *, news: News | None, is_last: bool = False) -> None:
        with self._lock:
            unborn = self._unborn.pop(settlement.id, None)
            if unborn is not None and settlement.finished_at is not None:
                weight = 0
                if settlement.status in _FINAL:
                    unborn.payload = NO_ARGUMENTS
                else:
                    weight = weigh_call(unborn.payload)
                result: Any = settlement.result  # as it is, in a tuple
                if type(result) is not tuple or len(result) != 1 or type(result[0]) not in WEIGHTLESS:
                    weight += weigh(result)
                self._ended.append(unborn.values())
                self._ends.append(tuple(settlement))
                if weight:
                    self._weight += weight
                    if self._weight > _KEPT_BYTES:  # the storage keeps what it can
                        self._give_rows()
                settled = _APPLIED
            else:
                if unborn is not None:
                    self.storage.insert((unborn.row(),))
                (settled,) = self.storage.settle((settlement,))
        if self._shared.is_divided:
            self.tell_others()
        answer(settled)

    def report(self, reports: Sequence[Report], answer: Answer) -> None:
        with self._lock:
            unborn = self._unborn.pop(reports[0].job_id, None)
            if unborn is not None:  # whoever follows a job finds it
                self.storage.insert((unborn.row(),))
            held = self.storage.report(reports)
        self.tell_others()
        answer(held)

    async def claim(self, request: ClaimRequest, *, now: Callable[[], Microseconds]) -> Claimed:
        with self._lock:
            return self.storage.claim(request, now=now())

    async def call(self, function: Callable[[], T], *, news: News | None = None) -> T:
        with self._lock:
            self._shared.bring_up_to_date()
            value = function()
        if news is not None:
            self.tell_others()
        return value

    async def tend(self, function: Callable[[], T]) -> T:
        with self._lock:
            return function()

    def spread(self, news: News) -> None:
        self.tell_others()

    def _give_rows(self) -> None:
        """With the lock held: what was held back becomes rows."""
        if self._ended:
            ended, ends = self._ended, self._ends
            self._ended, self._ends = deque(maxlen=_KEPT), deque(maxlen=_KEPT)
            self._weight = 0
            self.storage.insert([NewJob(*fields) for fields in ended])
            self.storage.settle([Settlement(*fields) for fields in ends])
        if self._unborn:
            self.storage.insert([unborn.row() for unborn in self._unborn.values()])
            self._unborn.clear()


def _nothing() -> None:
    """Nobody wants to hear of news."""
