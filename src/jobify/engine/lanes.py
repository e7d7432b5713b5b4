"""Slots: how many jobs run at once in this process, per run mode.

Each run mode is a lane with a number of slots. A push that finds a free slot takes it and runs at once; the
dispatcher claims as many jobs as there are free slots. The event loop's lane can be overdrawn by pushes: whoever
pushes ten thousand jobs at once wants them to run at once, while a backlog of ten thousand must not. Whoever releases
a slot rings those who wait for one.
"""

from __future__ import annotations

from collections.abc import Callable

from jobify.options import RunMode

__all__ = ("LaneSlots", "Lanes")

_OVERDRAFT = 9
"""The overdraft of the event loop's lane, as a multiple of its slots."""


class LaneSlots:
    """The slots of one lane."""

    __slots__ = ("_capacity", "_overdraft", "_waiting", "free", "mode")

    def __init__(self, mode: RunMode, capacity: int, overdraft: int = 0) -> None:
        self.mode = mode
        self.free = self._capacity = capacity
        self._overdraft = -overdraft
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no slot is taken."""
        return self.free == self._capacity

    def take(self) -> bool:
        """Take one slot for a job that this process itself pushes; it may go into the overdraft."""
        if self.free > self._overdraft:
            self.free -= 1
            return True
        return False

    def take_up_to(self, limit: int) -> int:
        """Take as many slots as there are for claims, ``limit`` at most; the overdraft is not for them."""
        taken = max(0, min(self.free, limit))
        self.free -= taken
        return taken

    def release(self, count: int = 1) -> None:
        """Give slots back."""
        self.free += count
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for wake in waiting:
                wake()

    def when_free(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when the next slot of this lane is released."""
        self._waiting[wake] = None


class Lanes:
    """The lanes of one process."""

    def __init__(self, capacities: dict[RunMode, int]) -> None:
        self._lanes = {
            mode: LaneSlots(mode, capacity, _OVERDRAFT * capacity if mode is RunMode.MAIN else 0)
            for mode, capacity in capacities.items()
        }

    def __getitem__(self, mode: RunMode) -> LaneSlots:
        return self._lanes[mode]
