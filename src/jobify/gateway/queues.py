"""From which queues of a storage this process may start a job right now.

A claim needs none of this: the storage itself keeps to what is asked for, and to what is paused. It is for the short
way of a push, which asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ("OpenQueues",)


class OpenQueues:
    """The queues that are served, less those that are known to be paused."""

    __slots__ = ("_is_sure", "_paused", "all_open", "served", "version")

    def __init__(self, served: tuple[str, ...] | None) -> None:
        self.served = served
        """None: every queue."""
        self._paused: frozenset[str] = frozenset()
        self._is_sure = False
        self.all_open = False
        """All queues are open for sure, as is nearly always the case."""
        self.version = 0
        """How often there was a doubt; whoever asks the storage what is paused remembers it."""

    def is_open(self, queue: str) -> bool:
        """Whether a job of ``queue`` may start without a claim; False if that is not known for sure."""
        return self._is_sure and queue not in self._paused and (self.served is None or queue in self.served)

    def invalidate(self) -> None:
        """Somebody in this process has written something, a pause perhaps."""
        self.version += 1
        self._is_sure = self.all_open = False

    def update(self, paused: Iterable[str], *, doubts: int) -> None:
        """What the storage says, when it was asked after so many doubts."""
        self._paused = frozenset(paused)
        self._is_sure = doubts == self.version
        self.all_open = self._is_sure and not self._paused and self.served is None
