"""The gate of a storage that blocks: a thread of its own, and group commit.

All inserts, settlements and claims that arrive while a transaction runs share the next one, so that under load the
price of a commit (a flush to the disk) is paid once for hundreds of jobs, and without load a call does not wait for
company.

What is large is written alone, one after the other, and what is small goes first each time. Within a group the order
is: inserts, reports, settlements, claims, then everything else one by one. That is a legal order: a caller learns of
its insert before it can ask anything further of that job, and calls that overlap in time have no order anyway.

**On the spot.** Handing a call to a thread, and its answer back, costs more than a commit that does not wait for the
disk. So when exactly one call stands in line at the end of a turn of the event loop, the thread rests, and the storage
declares that it can (``Storage.nonblocking``), the call is made right there, on the event loop's thread. Whatever would
have to be waited for, and whatever goes wrong, is left to the thread, as if nothing had been tried.

If a group fails because of one call in it, its calls are made again one by one, so that each caller gets its own error.
If the storage is unavailable all of them get that error, and nothing was changed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobify.exceptions import StorageEndedError, StorageError, StorageLostError
from jobify.gateway.batching import (
    Batch,
    BatchQueue,
    Callback,
    TimedClaim,
    call_each,
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
from jobify.gateway.gateway import InsertRequest
from jobify.gateway.nonblocking import NonblockingWriter
from jobify.gateway.notification import NEW_WORK, PROGRESS, STATE_CHANGED, Audience, merge
from jobify.gateway.sharing import share
from jobify.gateway.storage_thread import StorageThread
from jobify.model.records import Claimed, ClaimRequest, NewJob, Report, Settled, Settlement
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("ThreadedGateway",)

T = TypeVar("T")
log = get_logger("jobify.storage")

_SMALL = 65_536
"""Bytes that may be written on the spot, or share a transaction: more would keep others for too long."""

_MAX_GROUP = 1000
"""Jobs in one transaction at most: a bound on how long the first of them waits for the last."""


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
        self._large: BatchQueue[_HeldCall] = BatchQueue(_write_large, 1)
        self._calls: BatchQueue[Callable[[], Any]] = BatchQueue(call_each, _MAX_GROUP)
        self._closing: BatchQueue[Callable[[], Any]] = BatchQueue(call_each, 1)
        small = (self._inserts, self._reports, self._settlements, self._claims)
        self._served: tuple[BatchQueue[Any], ...] = (*small, self._large, self._calls)
        self._queues: tuple[BatchQueue[Any], ...] = (*self._served, self._closing)
        self._audiences: deque[Audience] = deque()
        self._taken: list[Batch[Any]] = []
        """What the thread has taken out of the lines and not answered yet."""
        self._held: _HeldCall | None = None
        self._flush_scheduled = False
        self._nonblocking = NonblockingWriter(storage, self._shared)
        self._thread: StorageThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: StorageEndedError | None = None

    # -- on the event loop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._flush_scheduled = False
        self._ended = None
        self._taken.clear()
        thread = StorageThread(self._serve, on_error=self._on_error, on_end=self._on_end)
        thread.start()
        self._thread = thread
        self._shared = share(self.storage)
        self._nonblocking = NonblockingWriter(self.storage, self._shared)
        for queue in self._queues:
            queue.reopen()
        try:
            await self.call(partial(self._shared.open, self._on_local_change))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._ended is not None:
            self._shared.close(self._on_local_change)
            return
        closing = self._put(self._closing, partial(self._shared.close, self._on_local_change))
        thread.wake()
        for queue in self._queues:
            queue.close(gateway_closed())
        try:
            await asyncio.shield(closing)
        except StorageError:
            self._shared.close(self._on_local_change)  # the thread could not
        finally:
            thread.end(wait=closing.done())  # if this was cancelled, the thread ends by itself once it has closed

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._enqueue_held()
            if last is not None:
                self._calls.put(last, _ignore)
            self._closing.put(partial(self._shared.close, self._on_local_change), _ignore)
            thread.end(wait=True)

    def insert(self, insertion: InsertRequest, *, deferrable: bool) -> None:
        job = insertion.row()
        audience = NEW_WORK if job.owner is None else None
        if len(job.payload) > _SMALL:
            self._enqueue_large(_HeldCall(self._inserts, job, insertion, audience))
        else:
            self._hold(self._inserts, job, insertion, audience, is_small=True, no_peers=False)

    def settle(
        self, settlement: Settlement, callback: Callback, *, audience: Audience | None, no_peers: bool = False
    ) -> None:
        if settlement.result is not None and len(settlement.result) > _SMALL:
            self._enqueue_large(_HeldCall(self._settlements, settlement, callback, audience))
        else:
            is_small = not settlement.history
            self._hold(self._settlements, settlement, callback, audience, is_small=is_small, no_peers=no_peers)

    def report(self, reports: Sequence[Report], callback: Callback) -> None:
        self._enqueue_held()
        self._reports.put(reports, callback)
        self._signal()

    def claim(self, request: ClaimRequest, *, now: Callable[[], Microseconds]) -> asyncio.Future[Claimed]:
        return self._put(self._claims, (request, now))

    async def call(self, function: Callable[[], T], *, audience: Audience | None = None, flush: bool = True) -> T:
        answered = self._put(self._calls, function)
        if audience is not None:
            self.notify(audience)
        value: T = await answered
        return value

    def notify(self, audience: Audience) -> None:
        self._audiences.append(audience)
        self._signal()

    def notify_local(self) -> None:
        self._shared.notify_others(self._on_local_change)

    def _on_local_change(self) -> None:
        """On any thread: another user of the storage object has news."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(lambda: self.on_local_change())

    def _enqueue_large(self, single: _HeldCall) -> None:
        """Ask what takes long to write. Its news are told when it is written."""
        self._enqueue_held()
        self._large.put(single, single.callback)
        self._signal()

    def _hold(
        self,
        queue: BatchQueue[Any],
        item: Any,
        callback: Callback,
        audience: Audience | None,
        *,
        is_small: bool,
        no_peers: bool,
    ) -> None:
        """Ask what may be made on the spot: at the end of this turn of the loop, should it still be the only one."""
        thread = self._thread
        is_idle = thread is not None and thread.is_idle and not thread.is_woken
        if self._flush_scheduled or not (is_idle and is_small and self._nonblocking.is_open):
            self._enqueue_held()
            self._enqueue(queue, item, callback, audience)
        elif no_peers:
            self._write_now(_HeldCall(queue, item, callback, audience))
        else:
            assert self._loop is not None
            self._held, self._flush_scheduled = _HeldCall(queue, item, callback, audience), True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        single, self._held = self._held, None
        if single is not None:
            self._write_now(single)

    def _write_now(self, single: _HeldCall) -> None:
        """Make a call on the spot, if that can be done now."""
        batch = single.queue.single(single.item, single.callback)
        if not (single.queue.is_open and self._nonblocking.execute(batch)):
            self._enqueue(*single)
            return
        if self._nonblocking.has_listeners:
            for audience in filter(None, (single.audience, _cascade(batch))):
                self.notify(audience)
        batch.deliver()

    def _enqueue_held(self) -> None:
        """The single call of this turn has got company: it stands in line, before what comes now."""
        single, self._held = self._held, None
        if single is not None:
            self._enqueue(*single)

    def _enqueue(self, queue: BatchQueue[Any], item: Any, callback: Callback, audience: Audience | None) -> None:
        queue.put(item, callback)
        if audience is not None:  # appended last: when the thread finds it, what is news is written or in line
            self._audiences.append(audience)
        thread = self._thread
        if thread is not None and not thread.is_woken:  # signal() asks it, too, but is called for every job
            thread.wake()

    def _put(self, queue: BatchQueue[Any], item: Any) -> asyncio.Future[Any]:
        assert self._loop is not None
        self._enqueue_held()
        answered: asyncio.Future[Any] = self._loop.create_future()
        queue.put(item, partial(resolve, answered))
        self._signal()
        return answered

    def _signal(self) -> None:
        if self._thread is not None:
            self._thread.wake()

    # -- on the storage's thread ---------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Make the calls that stand in line, but of large writes only one; whether some were left."""
        if self._taken:
            self._deliver()  # an error kept it from being answered
        is_full = self._serve_small()
        large = self._large.take(self._taken)
        if large is None:
            return self._close_if_asked() or is_full
        with self._shared.lock:
            execute_together(self.storage, [large])
        audiences = list(filter(None, (*(held.audience for held in large.items), _cascade(large))))
        if audiences:
            self._notify(merge(audiences))
        self._deliver()
        return True

    def _close_if_asked(self) -> bool:
        """Close the storage, after everything else that was asked; whether there is something to do at once."""
        if self._closing.is_empty:
            return False
        if any(not queue.is_empty for queue in self._served):
            return True  # asked before the close, and after this round had passed its line
        closing = self._closing.take(self._taken)
        assert closing is not None
        with self._shared.lock:
            closing.execute()
        self._deliver()
        return True

    def _serve_small(self) -> bool:
        """Make the calls that share a transaction; whether a line was too long to be served at once."""
        audiences = [self._audiences.popleft() for _ in range(len(self._audiences))]
        taken = self._taken
        self._inserts.take(taken)
        reports, settlements = self._reports.take(taken), self._settlements.take(taken)
        self._claims.take(taken)
        batches = taken[:]
        calls = self._calls.take(taken)
        with self._shared.lock:
            execute_together(self.storage, batches)
            if calls is not None:
                calls.execute()
        cascade = None if settlements is None else _cascade(settlements)
        if cascade is not None:
            audiences.append(cascade)
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
        except Exception:  # of a user's own storage: what is committed must still be answered
            log.exception("The bell of %r failed.", self.storage)

    def _deliver(self) -> None:
        """Have what was taken answered."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(deliver, self._taken[:])
        except RuntimeError:
            log.debug("The event loop was closed before the app was shut down: no answer reaches anything.")
        self._taken.clear()

    def _on_error(self, error: BaseException) -> None:
        """What was taken and has no answer yet gets this one."""
        fail_pending(self._taken, interrupted(error))
        self._deliver()

    def _on_end(self, error: BaseException) -> None:
        """The thread cannot go on: everything that waits, and everything that is asked from now on, gets an error."""
        self._ended = ended = StorageEndedError(error)
        for queue in self._queues:
            queue.close(ended)
            while queue.take(self._taken):
                pass
        fail_pending(self._taken, ended)
        self._deliver()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.on_lost, ended)


class _HeldCall(NamedTuple):
    """A call by itself."""

    queue: BatchQueue[Any]
    item: Any
    callback: Callback
    audience: Audience | None


def _write_large(singles: Sequence[_HeldCall]) -> list[Any]:
    return [single.queue.execute([single.item])[0] for single in singles]


def _cascade(batch: Batch[Any]) -> Audience | None:
    """Whom it concerns that settlements have moved other jobs, if they have."""
    return STATE_CHANGED if Settled.CASCADED in batch.values else None


def _ignore(*_: Any) -> None:
    """Takes news and answers that nothing waits for."""
