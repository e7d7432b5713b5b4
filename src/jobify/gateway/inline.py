"""The gateway of a storage in memory: calls are made at once, on the event loop's thread.

A job that is inserted already claimed, runs and ends needs no row as long as no one reads it. Its insert and settlement
are deferred, and made before a call that might concern the job, in this app or by another user of the storage object
(``gateway/sharing.py``). That user may be in any thread, so a lock is held while the storage is used.

Of ten thousand jobs that are pushed at once, some start in each turn of the event loop: other callbacks come in
between, and the tasks of the first have ended when those of the next are made (what lives shorter than the garbage
collector's interval costs it nothing).

Memory is no archive: of the jobs that have ended only the newest ones are kept, here as in the storage.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from jobify.exceptions import StorageLostError
from jobify.gateway.batching import Callback
from jobify.gateway.gateway import InsertRequest, UnwrittenEnd
from jobify.gateway.notification import Audience
from jobify.gateway.sharing import share
from jobify.model.records import Claimed, ClaimRequest, Report, Settled, Settlement
from jobify.model.status import JobStatus
from jobify.storage.base import Storage
from jobify.storage.weight import NO_ARGUMENTS, WEIGHTLESS, weigh, weigh_call
from jobify.types import Microseconds

__all__ = ("InlineGateway",)

T = TypeVar("T")

_APPLIED: Final = Settled.APPLIED
_AT_ONCE: Final = 64
"""Jobs in flight up to which an insert is answered at once; and the answers of a later turn of the event loop."""
_KEPT: Final = 10_000
_KEPT_BYTES: Final = 16_000_000
"""Ended jobs whose rows are deferred at most, and their weight."""
_FINAL: Final = frozenset({JobStatus.SUCCESS.value, JobStatus.CANCELLED.value})
"""Jobs that cannot be retried, so that their arguments are not needed any more."""


class InlineGateway:
    """See the module, and :class:`~jobify.gateway.gateway.StorageGateway`."""

    def __init__(self, storage: Storage, *, is_temporary: bool) -> None:
        self.storage = storage
        self._is_temporary = is_temporary
        """Whether the jobs cannot be read any more once this gateway is closed."""
        self.on_local_change: Callable[[], None] = _ignore
        self.on_lost: Callable[[StorageLostError], None] = lambda _: None  # a storage in memory has no thread to lose
        self._shared = share(storage)
        self._lock = self._shared.lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deferred: dict[str, InsertRequest] = {}
        self._unanswered: deque[InsertRequest] = deque()
        self._ended: deque[UnwrittenEnd] = deque(maxlen=_KEPT)
        self._weight = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._shared = share(self.storage)
        self._lock = self._shared.lock
        self._shared.open(self._on_local_change, flush_hook=self._flush_deferred)

    async def stop(self) -> None:
        self.abandon()

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        with self._lock:
            if not self._is_temporary:
                self._flush_deferred()
                if last is not None:
                    last()
            self._shared.close(self._on_local_change)

    def notify_local(self) -> None:
        if self._shared.has_other_users:
            self._shared.notify_others(self._on_local_change)

    def _on_local_change(self) -> None:
        """On any thread: another user of the storage object has written something."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(lambda: self.on_local_change())

    # -- using the storage ---------------------------------------------------------------------------------------------

    def insert(self, insertion: InsertRequest, *, deferrable: bool) -> None:
        if not deferrable:
            with self._lock:
                self._flush_deferred()
                (added,) = self.storage.insert((insertion.row(),))
            self.notify_local()
            insertion(added)
            return
        deferred = self._deferred
        with self._lock:
            deferred[insertion.job.id] = insertion
        if self._unanswered or len(deferred) > _AT_ONCE:
            self._answer_later(insertion)
        else:
            insertion(True)

    def _answer_later(self, insertion: InsertRequest) -> None:
        if not self._unanswered:
            assert self._loop is not None
            self._loop.call_soon(self._answer)
        self._unanswered.append(insertion)

    def _answer(self) -> None:
        """Answer the next inserts, which launches their jobs."""
        unanswered = self._unanswered
        for _ in range(min(len(unanswered), _AT_ONCE)):
            unanswered.popleft()(True)
        if unanswered:
            assert self._loop is not None
            self._loop.call_soon(self._answer)

    def settle(
        self, settlement: Settlement, callback: Callback, *, audience: Audience | None, no_peers: bool = False
    ) -> None:
        with self._lock:
            request = self._deferred.pop(settlement.id, None)
            if request is not None and settlement.finished_at is not None:
                payload = NO_ARGUMENTS if settlement.status in _FINAL else request.payload
                self._keep(request.ended(settlement, payload), weigh_call(payload) + weigh(settlement.result))
                settled = _APPLIED
            else:
                if request is not None:
                    self.storage.insert((request.row(),))
                (settled,) = self.storage.settle((settlement,))
        if self._shared.has_other_users:
            self.notify_local()
        callback(settled)

    def end_unwritten(self, id: str, result: Any, *, finished_at: Microseconds, delete_at: Microseconds | None) -> bool:
        """End a job with a success if its insert was deferred and its row has not been needed since; then there is
        nothing to wait for. False: it has a row, to be settled."""
        weight = 0 if type(result[0]) in WEIGHTLESS else weigh(result)  # it is a tuple of one
        with self._lock:
            request = self._deferred.pop(id, None)
            if request is None:
                return False
            self._keep(request.succeeded(result, finished_at, delete_at), weight)
        if self._shared.has_other_users:
            self.notify_local()
        return True

    def _keep(self, ended: UnwrittenEnd, weight: int) -> None:
        """With the lock held: keep a job that has ended."""
        self._ended.append(ended)
        if weight:
            self._weight += weight
            if self._weight > _KEPT_BYTES:  # the storage keeps what it can
                self._flush_deferred()

    def report(self, reports: Sequence[Report], callback: Callback) -> None:
        with self._lock:
            request = self._deferred.pop(reports[0].job_id, None)
            if request is not None:  # so that a follower of the job finds it
                self.storage.insert((request.row(),))
            held = self.storage.report(reports)
        self.notify_local()
        callback(held)

    async def claim(self, request: ClaimRequest, *, now: Callable[[], Microseconds]) -> Claimed:
        with self._lock:
            return self.storage.claim(request, now=now())

    async def call(self, function: Callable[[], T], *, audience: Audience | None = None, flush: bool = True) -> T:
        with self._lock:
            if flush:
                self._shared.flush_deferred()
            value = function()
        if audience is not None:
            self.notify_local()
        return value

    def notify(self, audience: Audience) -> None:
        self.notify_local()

    def _flush_deferred(self) -> None:
        """With the lock held: make the deferred inserts and settlements."""
        if self._ended:
            ended, self._ended, self._weight = self._ended, deque(maxlen=_KEPT), 0
            self.storage.insert([job.row() for job in ended])
            self.storage.settle([job.settlement() for job in ended])
        if self._deferred:
            self.storage.insert([request.row() for request in self._deferred.values()])
            self._deferred.clear()


def _ignore() -> None:
    """Takes notifications that nothing waits for."""
