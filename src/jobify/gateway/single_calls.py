"""Calls that are the only one in their turn of the event loop: made at its end, on the loop's thread, without waiting.

What would have to wait, and what is not alone, is enqueued for the thread of the storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from jobify.gateway.batching import BatchQueue, Callback, cascade
from jobify.gateway.early_start import EarlyStarts
from jobify.gateway.gateway import InsertRequest
from jobify.gateway.nonblocking import NonblockingWriter
from jobify.gateway.notification import Audience
from jobify.gateway.sharing import SharedStorage
from jobify.gateway.threads import StorageThread
from jobify.storage.base import Storage

__all__ = ("Call", "SingleCalls")

Enqueue: TypeAlias = Callable[[BatchQueue[Any], Any, Callback, Audience | None], None]


class Call(NamedTuple):
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
        self.held: Call | None = None
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
            self._write(Call(queue, item, callback, audience))
        else:
            self.held = Call(queue, item, callback, audience, begins if is_early else None)
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

    def _write(self, call: Call) -> None:
        """Make a call on the event loop's thread, if that does not block."""
        batch = call.queue.single(call.item, call.callback)
        if not (call.queue.is_open and self._nonblocking.execute(batch)):
            self._enqueue(*call[:4])
            return
        if self._nonblocking.has_listeners:
            for audience in filter(None, (call.audience, cascade(batch))):
                self._notify(audience)
        batch.deliver()

    def settle_early(self, call: Call) -> None:
        """Settle a job whose insert is not flushed yet, so that one flush covers both."""
        batch = call.queue.single(call.item, call.callback)
        if not (call.queue.is_open and self.early.settle(batch, call.audience)):
            self._enqueue(*call[:4])
