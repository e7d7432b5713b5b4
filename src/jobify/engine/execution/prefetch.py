"""Jobs that are claimed a little before a slot is free for them.

A claim, a commit and two hops to a thread per handful of jobs cost more than a short job itself. So a pool of threads
or child processes claims jobs ahead: as many as its slots are expected to finish within :data:`HORIZON` seconds, by the
measured duration of the last calls. A call that takes longer than that is never claimed ahead.

A job that was claimed ahead waits here or in the runner, in the order of the claim, and has not begun: its attempt is
not counted, a shutdown returns it at once, and the death of this process is not its fault.

**Nothing waits here while another process could run it.** Durations change, and one task may take a millisecond or a
minute. Three things bound the error. A job whose task is unknown, or takes longer than the horizon, is returned as soon
as the claim is answered, unless a slot is free. Every horizon the pool checks whether the first job that waits has
moved; if not, all that wait are returned. And after such an error the pool begins with few jobs again.

**What must run in a task of its own** (middleware, a timeout, injection) begins only when a slot is free, so that its
time does not run while it waits. It waits in the backlog; what follows it waits behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from jobify.engine.execution.attempt import Attempt, Interruption
from jobify.engine.execution.direct_calls import DirectCalls
from jobify.engine.execution.slots import SlotPool, SlotPools
from jobify.model.records import Claim
from jobify.model.task_options import RunMode

__all__ = ("HORIZON", "Prefetch", "Prefetches")

HORIZON: Final = 0.02
"""Seconds of work that a slot may have waiting."""
_MOST: Final = 256
"""Jobs that a pool claims ahead at most."""
_WEIGHT: Final = 1 / 16
"""The weight of the last call in the mean duration."""


class Prefetch:
    """What one pool claims ahead, and what of it waits."""

    def __init__(
        self,
        pool: SlotPool,
        *,
        is_direct: Callable[[Attempt], bool],
        begin: Callable[[Attempt], None],
        submitted: Callable[[], Iterable[Attempt]],
        release: Callable[[Attempt], None],
    ) -> None:
        self._pool = pool
        self._is_direct = is_direct
        self._begin = begin
        self._submitted = submitted
        """The attempts that the runner has and that have not begun, in order."""
        self._release = release
        self._backlog: deque[Attempt] = deque()
        self._durations: dict[str, float] = {}
        """The mean duration of each task, in seconds."""
        self._mean = 0.0
        """The mean duration of the last calls, of whichever task."""
        self._trusted = 0
        """How many calls have ended since the last error."""
        self._is_open = True
        self._is_starting = False
        """Whether a task was started whose first step is still to come."""
        self._first: Attempt | None = None
        """The job that was the first to wait at the last check."""
        self._check: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Claim nothing ahead any more, and return what waits."""
        self._is_open = False
        self._pool.ahead = 0
        self._stop_checking()
        self._return(self._waiting())

    # -- how many ------------------------------------------------------------------------------------------------------

    def observe(self, task: str, seconds: float) -> None:
        """A call has ended after this time."""
        known = self._durations.get(task)
        self._durations[task] = seconds if known is None else known + (seconds - known) * _WEIGHT
        self._mean = mean = self._mean + (seconds - self._mean) * _WEIGHT if self._trusted else seconds
        self._trusted += 1
        if self._is_open:
            per_slot = _MOST if mean * _MOST < HORIZON else int(HORIZON / mean)
            self._pool.ahead = min(self._pool.capacity * per_slot, 2 * self._trusted, _MOST)

    def count_fitting(self, claims: Sequence[Claim], free: int) -> int:
        """How many of the first of ``claims`` to keep: those for which a slot is ``free``, and short ones."""
        for number, claim in enumerate(claims):
            if number >= free and self._durations.get(claim.task, HORIZON) >= HORIZON:
                self._distrust()
                return number
        return len(claims)

    def _distrust(self) -> None:
        self._trusted = self._pool.ahead = 0

    # -- what waits ----------------------------------------------------------------------------------------------------

    def launch(self, attempt: Attempt) -> None:
        """Begin an attempt, or have it wait for a slot."""
        pool = self._pool
        is_ahead, is_direct = pool.taken > pool.capacity, self._is_direct(attempt)
        if is_ahead and (self._backlog or self._is_starting or not is_direct) and attempt.interruption is None:
            if not self._backlog:
                pool.when_free(self._on_free)
            self._backlog.append(attempt)
            attempt.interrupter = self._interrupt
        else:
            self._start(attempt, is_direct)
        if is_ahead and self._check is None:
            self._check = self._loop.call_later(HORIZON, self._check_progress)

    def _on_free(self) -> None:
        """A slot was released, in the middle of something else."""
        self._loop.call_soon(self._launch_waiting)

    def _launch_waiting(self) -> None:
        backlog, pool = self._backlog, self._pool
        while backlog and not self._is_starting:
            is_direct = self._is_direct(backlog[0])
            if not is_direct and pool.taken - len(backlog) >= pool.capacity:
                break
            attempt = backlog.popleft()
            attempt.interrupter = None
            self._start(attempt, is_direct)
        if backlog:
            pool.when_free(self._on_free)

    def _start(self, attempt: Attempt, is_direct: bool) -> None:
        self._begin(attempt)
        if not is_direct and not self._is_starting:
            self._is_starting = True
            self._loop.call_soon(self._on_started)

    def _on_started(self) -> None:
        """A task has made its first step; what is launched from now on does not overtake it."""
        self._is_starting = False
        self._launch_waiting()

    def _interrupt(self, attempt: Attempt, _: Interruption) -> None:
        """End an attempt that waits; beginning is how it ends."""
        self._backlog.remove(attempt)
        attempt.interrupter = None
        self._begin(attempt)

    def _waiting(self) -> list[Attempt]:
        return [*(attempt for attempt in self._submitted() if attempt.pool is self._pool), *self._backlog]

    def _check_progress(self) -> None:
        """Return what waits: all of it if the first has not moved since the last check, else what is too much."""
        self._check = None
        waiting = self._waiting()
        if not waiting:
            self._first = None
            return
        if waiting[0] is self._first:
            self._distrust()
            self._first = None
            self._return(waiting)
            return
        self._first = waiting[0]
        self._return(waiting[self._pool.ahead :])
        self._check = self._loop.call_later(HORIZON, self._check_progress)

    def _return(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            if attempt.interrupter == self._interrupt:
                self._backlog.remove(attempt)
                attempt.interrupter = None
            self._release(attempt)

    def _stop_checking(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None


class Prefetches(dict[RunMode, Prefetch]):
    """The prefetch of each run mode whose runner needs no tasks. The pool of the event loop has none: its jobs begin as
    soon as they are claimed."""

    def __init__(
        self,
        pools: SlotPools,
        direct: DirectCalls,
        *,
        begin: Callable[[Attempt], None],
        release: Callable[[Attempt], None],
    ) -> None:
        super().__init__()
        for mode in direct.modes:
            self[mode] = Prefetch(
                pools[mode], is_direct=direct.is_direct, begin=begin, submitted=direct.not_begun, release=release
            )

    def count_fitting(self, mode: RunMode, claims: Sequence[Claim], free: int) -> int:
        """See :meth:`Prefetch.count_fitting`."""
        prefetch = self.get(mode)
        return len(claims) if prefetch is None else prefetch.count_fitting(claims, free)

    def close(self) -> None:
        """Return the jobs that were claimed ahead and have not begun, and claim none ahead any more."""
        for prefetch in self.values():
            prefetch.close()
