"""Writes on the event loop's thread: made only if they need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias

from jobify.gateway.batching import Batch, BatchQueue, Callback, TimedClaim, cascade, deliver, resolve
from jobify.gateway.gateway import InsertRequest
from jobify.gateway.notification import Audience
from jobify.gateway.sharing import SharedStorage
from jobify.gateway.threads import StorageThread
from jobify.model.records import Claimed, NewJob, Settlement
from jobify.storage.base import Storage, UnflushedWrites

__all__ = ("NonblockingClaims", "NonblockingWriter", "SingleCalls", "WriteCall")


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


# -- early start -------------------------------------------------------------------------------------------------------
# Jobs that start before their insert is flushed, so that one flush covers the insert and the end of the job.
#
# Where commits are flushed, a caller that pushes a job and awaits its result would wait for two flushes, and for four
# changes of threads. A job of the fast path need not wait: its insert is committed on the event loop without a flush,
# and the job starts; the thread of the storage flushes the log afterwards. :class:`EarlyStarts` keeps what is committed
# and not flushed. The flush begins when the job has ended, or :data:`_TURNS` turns of the loop later.
#
# **What is promised.** A push returns, and a result is delivered, after the flush that covers it. Before, no caller
# knows the job: its id was made for this push. So only these writes are made in this way: the insert of a job with a
# new id, and the settlement of a job whose push has not returned. A power cut in between loses a job that may have run,
# which the caller of a push that did not return has to expect anyway. The death of the process loses nothing.
#
# If the flush fails, the push raises the error although the job may run, and the settlement is written again.

_TURNS: Final = 2
"""A task that does not wait ends in the turn after its start."""


class EarlyStarts(NonblockingWriter):
    """Makes calls at once whose flush follows.

    ``flush_soon`` is called with the flush, a function that takes its answer (None, or an error), and the processes to
    notify.
    """

    __slots__ = ("_audiences", "_batches", "_flush_soon", "unacknowledged")

    def __init__(
        self,
        storage: Storage,
        shared: SharedStorage,
        flush_soon: Callable[[Callable[[], None], Callback, Sequence[Audience]], None],
    ) -> None:
        super().__init__(storage, shared)
        self._flush_soon = flush_soon
        self._batches: list[Batch[Any]] = []
        self._audiences: list[Audience] = []
        self.unacknowledged: set[str] = set()
        """The jobs that have started before a flush that has not begun."""

    @property
    def _block(self) -> UnflushedWrites | None:
        return self._storage.unflushed_writes

    def start(self, batch: Batch[NewJob], insertion: InsertRequest) -> bool:
        """Insert a job, and start it; False: nothing was done."""
        if not self.execute(batch):
            return False
        if batch.values[0] is not True:
            batch.deliver()
            return True
        if not self._batches:
            asyncio.get_running_loop().call_soon(self._count_turn, _TURNS)
        self._batches.append(batch)
        self.unacknowledged.add(insertion.job.id)
        insertion.on_committed()
        return True

    def settle(self, batch: Batch[Settlement], audience: Audience | None) -> bool:
        """Settle an :attr:`unacknowledged` job, and begin the flush; False: the settlement is not written."""
        is_written = self.execute(batch)
        if is_written:
            self._batches.append(batch)
            if self.has_listeners:
                self._audiences += filter(None, (audience, cascade(batch)))
        self.flush()
        return is_written

    def _count_turn(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._count_turn, left - 1)
        else:
            self.flush()

    def flush(self) -> None:
        """Begin the flush of what was written so far."""
        block = self._block
        if self._batches and block is not None:
            batches, audiences = self._batches, self._audiences
            self._batches, self._audiences = [], []
            self.unacknowledged.clear()
            self._flush_soon(block.flush, partial(_on_flushed, batches), audiences)


def _on_flushed(batches: list[Batch[Any]], answer: object) -> None:
    if isinstance(answer, Exception):
        for batch in batches:
            batch.fail(answer)
    deliver(batches)


# -- single calls ------------------------------------------------------------------------------------------------------
# Calls that are the only one in their turn of the event loop: made at its end, on the loop's thread, without waiting.
#
# What would have to wait, and what is not alone, is enqueued for the thread of the storage.

Enqueue: TypeAlias = Callable[[BatchQueue[Any], Any, Callback, Audience | None], None]


class WriteCall(NamedTuple):
    """A call that may be made by itself."""

    queue: BatchQueue[Any]
    item: Any
    callback: Callback
    audience: Audience | None
    begins: InsertRequest | None = None
    """The insert that this is, if its job may start before the flush."""


class SingleCalls:
    """What the calls of a turn of the event loop have come to: idle → held → flushed.

    *Idle*: no call yet, no end of the turn scheduled. *Held*: the first call waits for the end of the turn. *Shared*: a
    second call has come, and both are in the queues; the end of the turn finds none held. Only the event loop's thread
    uses it. Without a ``thread`` every call is enqueued.
    """

    def __init__(
        self,
        storage: Storage,
        shared: SharedStorage,
        enqueue: Enqueue,
        notify: Callable[[Audience], None],
        flush_soon: Callable[[Callable[[], None], Callback, Sequence[Audience]], None],
        thread: StorageThread | None = None,
    ) -> None:
        self._enqueue = enqueue
        self._notify = notify
        self._thread = thread
        self._nonblocking = NonblockingWriter(storage, shared)
        self.early = EarlyStarts(storage, shared, flush_soon)
        self.held: WriteCall | None = None
        self._is_end_scheduled = False

    def make(
        self,
        queue: BatchQueue[Any],
        item: Any,
        callback: Callback,
        audience: Audience | None,
        is_small: bool = True,
        no_peers: bool = False,
        begins: InsertRequest | None = None,
    ) -> None:
        """Make a call at the end of this turn if it is the only one; ``no_peers``: do not wait for others."""
        is_early = False
        if self._is_end_scheduled or not (
            is_small
            and self._thread is not None
            and self._thread.is_resting
            and ((is_early := begins is not None and self.early.is_open) or self._nonblocking.is_open)
        ):
            if self.held is not None:
                self.give_way()
            self._enqueue(queue, item, callback, audience)
        elif no_peers:
            self._write(WriteCall(queue, item, callback, audience))
        else:
            self.held = WriteCall(queue, item, callback, audience, begins if is_early else None)
            self._is_end_scheduled = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def give_way(self) -> None:
        """Enqueue the held call, before the one that comes now: it is no longer the only one."""
        call, self.held = self.held, None
        if call is not None:
            self._enqueue(*call[:4])

    def _end_turn(self) -> None:
        self._is_end_scheduled = False
        call, self.held = self.held, None
        if call is None:
            return
        if call.begins is None:
            self._write(call)
        elif not (call.queue.is_open and self.early.start(call.queue.single(call.item, call.callback), call.begins)):
            self._enqueue(*call[:4])

    def _write(self, call: WriteCall) -> None:
        """Make a call on the event loop's thread, if that does not block."""
        batch = call.queue.single(call.item, call.callback)
        if not (call.queue.is_open and self._nonblocking.execute(batch)):
            self._enqueue(*call[:4])
            return
        if self._nonblocking.has_listeners:
            for audience in filter(None, (call.audience, cascade(batch))):
                self._notify(audience)
        batch.deliver()

    def settle_early(self, call: WriteCall) -> None:
        """Settle a job whose insert is not flushed yet, so that one flush covers both."""
        batch = call.queue.single(call.item, call.callback)
        if not (call.queue.is_open and self.early.settle(batch, call.audience)):
            self._enqueue(*call[:4])
