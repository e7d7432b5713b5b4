"""Which clock may delete jobs: one that is not far beyond the times that are known of the database.

Pure decisions over what the storage keeps (:class:`jobify.storage.timekeeping.ClockState`).
"""

from __future__ import annotations

from typing import Final

from jobify.model.clock import SECOND
from jobify.storage.timekeeping import ClockState
from jobify.types import Microseconds

__all__ = ("judge_clock",)

_TRUSTED_FOR: Final[Microseconds] = 86_400 * SECOND
"""How far a clock may be beyond the last time that is known to have been, and be trusted at once."""
_DOUBTED_FOR: Final[Microseconds] = 3_600 * SECOND
"""How long one that is farther has to go on, in any number of processes, to be right after all: it was a long stop."""
_REMEMBERED_FOR: Final[Microseconds] = 40 * 86_400 * SECOND
"""A clock that is even farther beyond the one that was doubted is not that one."""
_NOTED_EVERY: Final[Microseconds] = 600 * SECOND


def judge_clock(state: ClockState, now: Microseconds, *, since: Microseconds = 0) -> ClockState:
    """What is known of the clock after a look at it. It is to be trusted if that has no ``doubted_at``.

    ``since``: the elapsed time since this process last trusted it.
    """
    known = state.trusted_at
    if known is None or now < known - _TRUSTED_FOR:  # a new file; or what was trusted was wrong
        return state._replace(trusted_at=now, doubted_at=None)
    if now <= known + _TRUSTED_FOR + since:
        return state._replace(trusted_at=now if now - known > _NOTED_EVERY else known, doubted_at=None)
    doubted = state.doubted_at
    if doubted is None or not 0 <= now - doubted <= _REMEMBERED_FOR:
        return state._replace(doubted_at=now)
    return state if now - doubted < _DOUBTED_FOR else state._replace(trusted_at=now, doubted_at=None)
