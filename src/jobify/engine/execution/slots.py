"""Slots: how many jobs run at once in this process, per run mode.

Each run mode has a pool of slots. A push that finds a free slot takes it and runs at once; the dispatcher claims as
many jobs as there are free slots. Pushes can overdraw the pool of the event loop, because an app that pushes ten
thousand jobs at once wants them to run at once, while a backlog of ten thousand must not. Each release of a slot wakes
the dispatchers that wait for one.

When the system refuses what the jobs of a pool need (a process, a thread), the pool is suspended: for a tenth of a
second at first, for a second at most, it gives no slot, so that jobs wait in the storage, where other processes can
take them. Then one job is tried. If it begins, the pool is as before; if it is refused, too, it is suspended again.

While jobs run apart (``trials``) all pools are closed: neither a push nor a claim takes a slot.

The jobs of a batch share one slot (:class:`SharedSlot`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Final

from jobify.model.task_options import RunMode
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger

if TYPE_CHECKING:
    from jobify.engine.execution.shared_call import BatchMember, SharedCall

__all__ = ("SharedSlot", "SlotPool", "SlotPools")

log = get_logger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_MEMORY = 5.0
"""Seconds after a refusal for which the next one counts as its continuation."""

_OVERDRAFT = 9
"""The overdraft of the event loop's pool, as a multiple of its slots."""
_CLOSED: Final = 1 << 40
"""Subtracted from the count of free slots while a pool is closed, so that taking a slot needs no further check."""


class SlotPool:
    """The slots of one run mode."""

    __slots__ = (
        "_is_closed",
        "_is_suspended",
        "_overdraft",
        "_refused_at",
        "_usual_overdraft",
        "_waiting",
        "ahead",
        "capacity",
        "free",
        "mode",
        "pause",
        "trial",
    )

    def __init__(self, mode: RunMode, capacity: int, overdraft: int = 0) -> None:
        self.mode = mode
        self.free = self.capacity = capacity
        """Free slots. Negative: so many jobs are claimed ahead, or overdraw the pool."""
        self.ahead = 0
        """How many jobs may be claimed ahead; see :mod:`jobify.engine.execution.prefetch`."""
        self._overdraft: float = -overdraft
        self._usual_overdraft: float = -overdraft
        self._is_suspended = self._is_closed = False
        self.trial: int | None = None
        """How many jobs may be tried after a suspension; the next one that begins must be reported with
        :meth:`recover`. None means that the pool is as usual. (A plain attribute, because every job reads it.)"""
        self._refused_at = -inf
        self.pause = _FIRST_PAUSE
        """Seconds of the last suspension."""
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no slot is taken."""
        return self.free == self.capacity

    def take(self) -> bool:
        """Take one slot for a job that this process itself pushes; it may go into the overdraft."""
        if self.free > self._overdraft:
            self.free -= 1
            return True
        return False

    def take_up_to(self, limit: int) -> int:
        """Take as many slots as are free for claims, and those of jobs to claim ahead, ``limit`` at most."""
        free = self.free
        if self.ahead and self.trial is None and 2 * (free + self.ahead) >= self.ahead:  # not one by one
            free += self.ahead
        taken = max(0, min(free, limit))
        if self.trial is not None:
            taken = min(taken, self.trial)
            self.trial -= taken
        self.free -= taken
        return taken

    def release(self, count: int = 1) -> None:
        """Release slots."""
        self.free += count
        if self.trial is not None and not self._is_suspended:
            self.trial = 1  # an attempt that ended without a report counts as tried
        if self._waiting:
            self._wake()

    def take_free(self, limit: int) -> int:
        """Take slots that are free, ``limit`` at most; none for jobs that are claimed ahead."""
        taken = max(0, min(self.free, limit))
        if self.trial is not None:
            taken = min(taken, self.trial)
            self.trial -= taken
        self.free -= taken
        return taken

    def lend(self) -> None:
        """Release a slot until :meth:`take_back`."""
        self.release()

    def release_lent(self) -> None:
        """A slot that is lent is not taken back."""

    def take_back(self) -> None:
        """Take a slot that was lent, whether or not one is free."""
        self.free -= 1

    def when_free(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when the next slot is released."""
        self._waiting[wake] = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    # -- jobs that run apart -------------------------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """How many slots are taken, whether the pool is closed or not."""
        return self.capacity - self.free - (_CLOSED if self._is_closed else 0)

    def take_closed(self) -> None:
        """Take a slot of a closed pool."""
        self.free -= 1

    def close(self) -> None:
        """Give no slot until :meth:`open`."""
        if not self._is_closed:
            self._is_closed = True
            self.free -= _CLOSED

    def open(self) -> None:
        """Give slots again."""
        if self._is_closed:
            self._is_closed = False
            self.free += _CLOSED
            self._wake()

    # -- what the system refuses ---------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Give no slot for a while, because the system has refused what a job of this pool needs. Event loop only."""
        if self._is_suspended:
            return
        loop = asyncio.get_running_loop()
        is_again = loop.time() - self._refused_at < _MEMORY
        self._refused_at = loop.time()
        self.pause = min(self.pause * 2, _LONGEST_PAUSE) if is_again else _FIRST_PAUSE
        self._is_suspended, self.trial, self._overdraft = True, 0, inf
        loop.call_later(self.pause, self._resume)

    def _resume(self) -> None:
        if self._is_suspended:
            self._is_suspended, self.trial = False, 1
            self._wake()

    def recover(self) -> None:
        """Give slots as usual, because a job that was tried has begun."""
        self._is_suspended, self.trial, self._overdraft = False, None, self._usual_overdraft
        self._wake()


class SharedSlot(SlotPool):
    """One slot of ``pool``, for the attempts of a batch: to each of them it is the pool that it releases its slot to.

    It is free again when all of them are over.
    """

    __slots__ = ("call", "context", "holders", "on_release", "pool", "waiting")

    def __init__(self, pool: SlotPool, holders: int) -> None:
        super().__init__(pool.mode, 1)
        self.pool = pool
        self.holders = holders
        """How many attempts are not over."""
        self.context = copy_context()
        self.waiting: list[BatchMember] = []
        """Those that wait for the next call of the function."""
        self.call: SharedCall | None = None
        """The call that is under way."""
        self.on_release: Callable[[SharedSlot], None] | None = None

    @property
    def is_idle(self) -> bool:
        return self.pool.is_idle

    def release(self, count: int = 1) -> None:
        """An attempt is over."""
        self.holders -= count
        if not self.holders:
            self.pool.release()
        elif self.on_release is not None:
            self.on_release(self)

    def take_closed(self) -> None:
        self.pool.take_closed()

    def split(self) -> SharedSlot:
        """A slot of its own for one of the attempts, which cannot begin yet; the others do not wait for it."""
        self.pool.take_back()
        own = SharedSlot(self.pool, 1)
        self.release()
        return own

    def end_call(self) -> None:
        """Nothing of the call runs any more."""
        self.call = None
        if self.on_release is not None:
            self.on_release(self)

    def lend(self) -> None:
        """Nothing: the others need it."""

    def take_back(self) -> None:
        """Nothing: it was not lent."""

    def release_lent(self) -> None:
        self.release()

    def suspend(self) -> None:
        self.pool.suspend()
        self.pause = self.pool.pause


class SlotPools:
    """The pools of one process."""

    def __init__(self, capacities: dict[RunMode, int]) -> None:
        self._log = FailureLog(log, "Jobs that could not begin do so again")
        self._pools = {
            mode: SlotPool(mode, capacity, _OVERDRAFT * capacity if mode is RunMode.MAIN else 0)
            for mode, capacity in capacities.items()
        }

    def __getitem__(self, mode: RunMode) -> SlotPool:
        return self._pools[mode]

    def close(self) -> None:
        """Give no slots until :meth:`open`."""
        for slots in self._pools.values():
            slots.close()

    def open(self) -> None:
        """Give slots again."""
        for slots in self._pools.values():
            slots.open()

    def suspend(self, pool: SlotPool, refusal: str) -> None:
        """:meth:`SlotPool.suspend`, with one line of log a minute."""
        pool.suspend()
        kind = "in the event loop" if pool.mode is RunMode.MAIN else f"in a {pool.mode.value}"
        self._log.failed(pool.mode, "Jobs that run %s cannot begin, and wait: %s.", kind, refusal.rstrip("."))

    def recover(self, pool: SlotPool) -> None:
        """:meth:`SlotPool.recover`, with a line of log."""
        pool.recover()
        self._log.succeeded(pool.mode)

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return sum(slots.taken for slots in self._pools.values())

    async def drained(self, left: int) -> None:
        """Return when no more than ``left`` slots are taken."""
        freed = asyncio.Event()
        while self.taken > left:
            freed.clear()
            for slots in self._pools.values():
                slots.when_free(freed.set)
            await freed.wait()
