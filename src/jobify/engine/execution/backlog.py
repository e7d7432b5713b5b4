"""How many jobs the next claim is for, and whether it is made before the jobs of the last one run.

A claim of a server takes some milliseconds, whatever it is for. While a worker drains a backlog of short jobs, the next
claim is under way while the jobs of the last one run, and is for more of them. What one process holds, another one
cannot run: so that is done only while all that was claimed before has ended by the next answer, within a tenth of a
second. Else a claim is made when it is known which slots are free.
"""

from __future__ import annotations

from typing import Final

__all__ = ("MAX_CLAIM", "Backlog")

MAX_CLAIM: Final = 256
"""Jobs per pool in one claim at most, so that one process does not take the work of all."""
_MOST: Final = 512
"""The same while jobs are short."""
_SHORT: Final = 0.1
"""Seconds."""
_PROVED: Final = 2
"""Claims in a row after which jobs count as short."""


class Backlog:
    """What the claims of one storage have found, in turn. ``is_slow``: a claim waits for a server."""

    def __init__(self, *, is_slow: bool) -> None:
        self._is_slow = is_slow
        self._answered_at = 0.0
        self._short_claims = 0
        """Claims in a row that have found more than they took, when all that was claimed before had ended."""

    @property
    def limit(self) -> int:
        """Jobs per pool in the next claim at most."""
        return _MOST if self._short_claims >= _PROVED else MAX_CLAIM

    def is_draining(self, *, has_more: bool, have_ended: bool, now: float) -> bool:
        """A claim was answered at ``now``: whether to make the next one before its jobs run.

        ``have_ended``: all jobs that were claimed before have ended, and there are slots for the next ones.
        """
        is_short = self._is_slow and has_more and have_ended and now - self._answered_at < _SHORT
        self._answered_at = now
        self._short_claims = self._short_claims + 1 if is_short else 0
        return self._short_claims >= _PROVED
