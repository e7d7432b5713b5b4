"""Jobs that start before their insert is flushed, so that one flush covers the insert and the end of the job.

Where commits are flushed, a caller that pushes a job and awaits its result would wait for two flushes, and for four
changes of threads. A job of the fast path need not wait: its insert is committed on the event loop without a flush, and
the job starts; the thread of the storage flushes the log afterwards. :class:`EarlyStarts` keeps what is committed and
not flushed. The flush begins when the job has ended, or :data:`_TURNS` turns of the loop later.

**What is promised.** A push returns, and a result is delivered, after the flush that covers it. Before, no caller
knows the job: its id was made for this push. So only these writes are made in this way: the insert of a job with a
new id, and the settlement of a job whose push has not returned. A power cut in between loses a job that may have run,
which the caller of a push that did not return has to expect anyway. The death of the process loses nothing.

If the flush fails, the push raises the error although the job may run, and the settlement is written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from jobify.gateway.batching import Batch, Callback, cascade, deliver
from jobify.gateway.gateway import InsertRequest
from jobify.gateway.nonblocking import NonblockingWriter
from jobify.gateway.notification import Audience
from jobify.gateway.sharing import SharedStorage
from jobify.model.records import NewJob, Settlement
from jobify.storage.base import Storage, UnflushedWrites

__all__ = ("EarlyStarts",)

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
