"""How often a service looks at a storage where each look is a query."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Final

from jobify.storage.base import Storage

__all__ = ("Looks",)

_TICK: Final = 1.0
"""Seconds between two rounds of a service that looks."""


class Looks:
    """Which rounds of a service look, and which do not.

    The service makes a round each second all the same, because the storage may want looks more often from one moment to
    the next: when another process has come, whose death is to be noticed within a second.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._last_at = -inf

    @property
    def cost_queries(self) -> bool:
        """Whether each look is a query."""
        return self._storage.poll_interval > 0

    def is_too_soon(self) -> bool:
        """Whether this round does not look, because another one has just looked."""
        least = self._storage.poll_interval
        if least <= _TICK:
            return False
        now = monotonic()
        if now - self._last_at < least - _TICK / 2:
            return True
        self._last_at = now
        return False
