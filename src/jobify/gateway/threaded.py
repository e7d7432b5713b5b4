"""The gateway of a storage that blocks: a thread of its own, and group commit.

All inserts, settlements and claims that arrive while a transaction runs share the next one. Under load the price of a
commit (a flush to the disk) is paid once for hundreds of jobs; without load a call does not wait for others.

Large values are written alone, one after the other, and small ones go first each time. Within a group the order is:
inserts, reports, settlements, claims, then everything else one by one. That order is legal because a caller learns of
its insert before it can make another call for that job, and calls that overlap in time have no order anyway. Where a
claim does not wait for other writes (``Storage.claims_first``), claims have a thread of their own (``claim_thread``).

**Non-blocking writes.** Handing a call to a thread, and its result back, costs more than a commit that does not wait
for the disk. So if a turn of the event loop makes exactly one call, the thread is idle, and the storage supports it
(``Storage.nonblocking``), the call is made at the end of the turn, on the event loop's thread. If it would wait
for something, or fails, the thread makes it, as if nothing had been tried. Likewise the first claim after a while, also
where commits are flushed: a claim is not. There, a job of the fast path starts before its insert is flushed
(``early_start``).

If a group fails because of one call in it, its calls are made again one by one, so that each caller gets its own error.
If the storage is unavailable all of them get that error, and nothing was changed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from jobify.exceptions import StorageEndedError, StorageError, StorageLostError
from jobify.gateway.batching import (
    Batch,
    BatchQueue,
    Callback,
    TimedClaim,
    call_each,
    cascade,
    claim_each,
    deliver,
    execute_together,
    fail_pending,
    gateway_closed,
    interrupted,
    notify_processes,
    report_all,
    resolve,
)
from jobify.gateway.claim_thread import ClaimThread
from jobify.gateway.gateway import InsertRequest
from jobify.gateway.nonblocking import NonblockingClaims, SingleCalls, WriteCall
from jobify.gateway.notification import NEW_WORK, PROGRESS, Audience, merge
from jobify.gateway.sharing import share
from jobify.gateway.threads import StorageThread
from jobify.model.records import Claimed, ClaimRequest, NewJob, Report, Settlement
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("ThreadedGateway",)

T = TypeVar("T")
log = get_logger("jobify.storage")

_SMALL = 65_536
"""Bytes that may be written without blocking, or share a transaction: more would delay other calls for too long."""

_MAX_GROUP = 1000
"""Jobs in one transaction: a bound on how long the first of them waits for the last."""


class ThreadedGateway:
    """See the module, and :class:`~jobify.gateway.gateway.StorageGateway`."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.on_local_change: Callable[[], None] = _ignore
        self.on_lost: Callable[[StorageLostError], None] = _ignore
        self._shared = share(storage)
        self._inserts: BatchQueue[NewJob] = BatchQueue(storage.insert, _MAX_GROUP)
        self._reports: BatchQueue[Sequence[Report]] = BatchQueue(partial(report_all, storage), _MAX_GROUP)
        self._settlements: BatchQueue[Settlement] = BatchQueue(storage.settle, _MAX_GROUP)
        self._claims: BatchQueue[TimedClaim] = BatchQueue(partial(claim_each, storage), _MAX_GROUP)
        self._large: BatchQueue[WriteCall] = BatchQueue(_write_large, 1)
        self._calls: BatchQueue[Callable[[], Any]] = BatchQueue(call_each, _MAX_GROUP)
        self._closing: BatchQueue[Callable[[], Any]] = BatchQueue(call_each, 1)
        small = (self._inserts, self._reports, self._settlements)
        mine = small if storage.claims_first else (*small, self._claims)
        self._served: tuple[BatchQueue[Any], ...] = (*mine, self._large, self._calls)
        self._queues: tuple[BatchQueue[Any], ...] = (*self._served, self._closing)
        self._audiences: deque[Audience] = deque()
        self._taken: list[Batch[Any]] = []
        """Calls that the thread has taken from the queues, and not delivered yet."""
        self._single = SingleCalls(storage, self._shared, self._enqueue, self.notify, self._flush_soon)
        self._claims_at_once = NonblockingClaims(storage, self._shared)
        self._thread: StorageThread | None = None
        self._claim_thread: ClaimThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: StorageEndedError | None = None

    # -- on the event loop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = None
        self._taken.clear()
        thread = StorageThread(self._serve, on_error=self._on_error, on_end=self._on_end)
        thread.start()
        self._thread = thread
        self._shared = share(self.storage)
        self._single = SingleCalls(self.storage, self._shared, self._enqueue, self.notify, self._flush_soon, thread)
        self._claims_at_once = NonblockingClaims(self.storage, self._shared)
        for queue in (*self._queues, self._claims):
            queue.reopen()
        try:
            self._start_claim_thread()
            await self.call(partial(self._shared.open, self._on_local_change))
        except BaseException:
            await self.stop()
            raise

    def _start_claim_thread(self) -> None:
        self._claim_thread = None
        if self.storage.claims_first:
            thread = ClaimThread(self.storage, self._claims, deliver=self._deliver_batches, on_lost=self._lose)
            thread.start()
            self._claim_thread = thread

    async def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._ended is not None:
            self._close_storage()
            return
        self._single.early.flush()
        closing = self._put(self._closing, self._close_storage)
        thread.wakeup.send()
        for queue in (*self._queues, self._claims):
            queue.close(gateway_closed())
        try:
            await asyncio.shield(closing)
        except StorageError:
            self._close_storage()  # the thread could not
        finally:
            thread.end(wait=closing.done())  # if this was cancelled, the thread ends by itself once it has closed

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._single.give_way()
            self._single.early.flush()
            if last is not None:
                self._calls.put(last, _ignore)
            self._closing.put(self._close_storage, _ignore)
            thread.end(wait=True)

    def _close_storage(self) -> None:
        """Close the storage once the claims are made that were requested."""
        if self._claim_thread is not None:
            self._claim_thread.end()
        self._shared.close(self._on_local_change)

    def insert(self, insertion: InsertRequest, *, deferrable: bool) -> None:
        job = insertion.row()
        audience = NEW_WORK if job.owner is None else None
        if len(job.payload) > _SMALL:
            self._enqueue_large(WriteCall(self._inserts, job, insertion, audience))
        else:
            begins = insertion if deferrable and audience is None else None
            self._single.make(self._inserts, job, insertion, audience, begins=begins)

    def settle(
        self, settlement: Settlement, callback: Callback, *, audience: Audience | None, no_peers: bool = False
    ) -> None:
        if settlement.result is not None and len(settlement.result) > _SMALL:
            self._enqueue_large(WriteCall(self._settlements, settlement, callback, audience))
        elif settlement.id in self._single.early.unacknowledged and not settlement.history:
            self._single.settle_early(WriteCall(self._settlements, settlement, callback, audience))
        else:
            is_small = not settlement.history and settlement.limits is None
            self._single.make(self._settlements, settlement, callback, audience, is_small=is_small, no_peers=no_peers)

    def report(self, reports: Sequence[Report], callback: Callback) -> None:
        self._single.give_way()
        self._reports.put(reports, callback)
        self._wake()

    def claim(self, request: ClaimRequest, *, now: Callable[[], Microseconds]) -> asyncio.Future[Claimed]:
        claim, thread = (request, now), self._thread
        is_next = self._claims_at_once.is_next_at_once()
        if is_next and thread is not None and thread.is_resting and self._single.held is None:
            answered = self._claims_at_once.make(self._claims, claim)
            if answered is not None:
                return answered
        return self._put(self._claims, claim)

    async def call(self, function: Callable[[], T], *, audience: Audience | None = None, flush: bool = True) -> T:
        answered = self._put(self._calls, function)
        if audience is not None:
            self.notify(audience)
        value: T = await answered
        return value

    def notify(self, audience: Audience) -> None:
        self._audiences.append(audience)
        self._wake()

    def notify_local(self) -> None:
        self._shared.notify_others(self._on_local_change)

    def _on_local_change(self) -> None:
        """On any thread: another user of the storage object has written something."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(lambda: self.on_local_change())

    def _enqueue_large(self, call: WriteCall) -> None:
        """Enqueue a call that takes long. Its audience is notified once it is written."""
        self._single.give_way()
        self._large.put(call, call.callback)
        self._wake()

    def _flush_soon(self, flush: Callable[[], None], callback: Callback, audiences: Sequence[Audience]) -> None:
        """Have the thread flush what was written without a flush."""
        self._calls.put(flush, callback)
        self._audiences.extend(audiences)
        self._wake()

    def _enqueue(self, queue: BatchQueue[Any], item: Any, callback: Callback, audience: Audience | None) -> None:
        queue.put(item, callback)
        if audience is not None:  # appended last: when the thread finds it, the call was made or is in the queue
            self._audiences.append(audience)
        thread = self._thread
        if thread is not None and not thread.wakeup.is_sent:  # send() checks it, too; this saves a call per job
            thread.wakeup.send()

    def _put(self, queue: BatchQueue[Any], item: Any) -> asyncio.Future[Any]:
        assert self._loop is not None
        self._single.give_way()
        future: asyncio.Future[Any] = self._loop.create_future()
        queue.put(item, partial(resolve, future))
        if queue is self._claims and self._claim_thread is not None:
            self._claim_thread.wake()
        else:
            self._wake()
        return future

    def _wake(self) -> None:
        if self._thread is not None:
            self._thread.wakeup.send()

    # -- on the storage's thread ---------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Make the calls in the queues, but only one large write; whether some are left."""
        if self._taken:
            self._deliver()  # an error has prevented it
        is_full = self._serve_small()
        large = self._large.take(self._taken)
        if large is None:
            return self._close_if_requested() or is_full
        with self._shared.lock:
            execute_together(self.storage, [large])
        audiences = list(filter(None, (*(call.audience for call in large.items), cascade(large))))
        if audiences:
            self._notify(merge(audiences))
        self._deliver()
        return True

    def _close_if_requested(self) -> bool:
        """Close the storage, after all earlier calls; whether there is something to do at once."""
        if self._closing.is_empty:
            return False
        if any(not queue.is_empty for queue in self._served):
            return True  # enqueued before the close, and after this round had passed its queue
        closing = self._closing.take(self._taken)
        assert closing is not None
        with self._shared.lock:
            closing.execute()
        self._deliver()
        return True

    def _serve_small(self) -> bool:
        """Make the calls that share a transaction; whether a queue was too long to be served at once."""
        audiences = [self._audiences.popleft() for _ in range(len(self._audiences))]
        taken = self._taken
        self._inserts.take(taken)
        reports, settlements = self._reports.take(taken), self._settlements.take(taken)
        if self._claim_thread is None:
            self._claims.take(taken)
        batches = taken[:]
        calls = self._calls.take(taken)
        with self._shared.lock:
            execute_together(self.storage, batches)
            if calls is not None:
                calls.execute()
        changed = None if settlements is None else cascade(settlements)
        if changed is not None:
            audiences.append(changed)
        if reports is not None:
            audiences.append(PROGRESS)
        if audiences:
            self._notify(merge(audiences))
        is_full = any(len(batch) == _MAX_GROUP for batch in taken)
        if taken:
            self._deliver()
        return is_full

    def _notify(self, audience: Audience) -> None:
        try:
            self.notify_local()
            notify_processes(self.storage, audience)
        except Exception:  # of a user's own storage: what is committed must still be delivered
            log.exception("Notifying other processes failed (%r).", self.storage)

    def _deliver(self) -> None:
        """Deliver the results of the calls that were taken."""
        self._deliver_batches(self._taken[:])
        self._taken.clear()

    def _deliver_batches(self, batches: list[Batch[Any]]) -> None:
        """Deliver the results of calls, on the event loop."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(deliver, batches)
        except RuntimeError:
            log.debug("The event loop was closed before the app was shut down: results are dropped.")

    def _on_error(self, error: BaseException) -> None:
        """Fail the calls that were taken and have no result yet."""
        fail_pending(self._taken, interrupted(error))
        self._deliver()

    def _on_end(self, error: BaseException) -> None:
        """The thread cannot go on: fail the calls that wait, and all later ones."""
        self._ended = ended = StorageEndedError(error)
        self._claims.close(ended)
        for queue in self._queues:
            queue.close(ended)
            while queue.take(self._taken):
                pass
        fail_pending(self._taken, ended)
        self._deliver()
        self._lose(ended)

    def _lose(self, ended: StorageEndedError) -> None:
        """On any thread: the storage cannot be used any more."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.on_lost, ended)


def _write_large(calls: Sequence[WriteCall]) -> list[Any]:
    return [call.queue.execute([call.item])[0] for call in calls]


def _ignore(*_: Any) -> None:
    """Takes notifications and results that nothing waits for."""
