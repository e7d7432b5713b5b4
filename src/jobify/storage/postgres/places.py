"""How far claims have come in each queue and task, while it costs much to begin from the start.

A row that is changed leaves its old version behind, in the table and in each index, until no transaction that may still
see it is open. While one stays open for minutes, a claim that begins at the first ready job passes over all that were
claimed since then. So a claim that has taken long for what it has taken is followed by some that begin where it has
ended. Every so often one begins from the start again, and finds what has come before that place: jobs of a higher
priority, and those that were due earlier. Those wait for a moment then, :data:`SHARE` times as long as a claim from the
start takes, one second at least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from jobify.model.records import Claim
from jobify.types import Microseconds

__all__ = ("Places",)

SHARE: Final = 20
_LEAST: Final = 1.0

_Place = tuple[int, Microseconds, int]


class Places:
    """The last job that was claimed of each queue and task: its negative priority, its due time, its number."""

    def __init__(self, took: float, elapsed: Callable[[], float] = time.monotonic) -> None:
        """A claim from the start took so many seconds."""
        self._elapsed = elapsed
        self._until = elapsed() + max(_LEAST, SHARE * took)
        self._places: dict[tuple[str, str], _Place] = {}

    @property
    def are_near(self) -> bool:
        """Whether to begin there."""
        return self._elapsed() < self._until

    @property
    def remaining(self) -> Microseconds:
        """Until a claim begins from the start."""
        return max(int((self._until - self._elapsed()) * 1_000_000), 0)

    def move(self, claims: Iterable[tuple[Claim, int]]) -> None:
        """These were claimed, in order."""
        for claim, seq in claims:
            self._places[claim.queue, claim.task] = (-claim.priority, claim.due_at, seq)

    @property
    def columns(self) -> list[list[Any]]:
        """Queues, tasks, and the columns of the places."""
        return [list(column) for column in zip(*((*pair, *place) for pair, place in self._places.items()), strict=True)]
