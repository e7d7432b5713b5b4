"""Growing pauses between attempts."""

from __future__ import annotations

__all__ = ("Backoff",)


class Backoff:
    """Pauses in seconds: ``first``, and then twice as long each time, up to ``longest``.

    >>> backoff = Backoff(0.5, 3.0)
    >>> [backoff.next() for _ in range(4)]
    [0.5, 1.0, 2.0, 3.0]
    """

    __slots__ = ("_first", "_longest", "_pause")

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._pause = first
        self._longest = longest

    def next(self) -> float:
        """The pause before the next attempt."""
        pause = self._pause
        self._pause = min(pause * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Begin with the first pause again, because an attempt has succeeded."""
        self._pause = self._first
