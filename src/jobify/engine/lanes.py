"""Slots: how many jobs run at once in this process, per run mode.

Each run mode is a lane with a number of slots. A push that finds a free slot takes it and runs at once; the dispatcher
claims as many jobs as there are free slots. Whoever releases a slot rings those who wait for one.
"""

from __future__ import annotations

from collections.abc import Callable

from jobify.options import RunMode

__all__ = ("LaneSlots", "Lanes")


class LaneSlots:
    """The slots of one lane."""

    __slots__ = ("_waiting", "capacity", "free", "mode")

    def __init__(self, mode: RunMode, capacity: int) -> None:
        self.mode = mode
        self.capacity = capacity
        self.free = capacity
        self._waiting: dict[Callable[[], None], None] = {}

    def take(self) -> bool:
        """Take one slot, if there is one."""
        if self.free > 0:
            self.free -= 1
            return True
        return False

    def take_up_to(self, limit: int) -> int:
        """Take as many slots as there are, ``limit`` at most."""
        taken = min(self.free, limit)
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
        self._lanes = {mode: LaneSlots(mode, capacity) for mode, capacity in capacities.items()}

    def __getitem__(self, mode: RunMode) -> LaneSlots:
        return self._lanes[mode]
