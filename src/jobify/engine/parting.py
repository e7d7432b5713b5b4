"""The last act of a process that does not wait for its threads: their jobs go back, without a lost attempt.

A thread cannot be stopped, so its job may run here for as long as the process still does. It is due again only a moment
later; by then the process is gone. Two attempts of one job do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jobify.clock import Clock, seconds
from jobify.engine.attempt import Attempt, Interruption
from jobify.engine.backend import Backend
from jobify.engine.news import ORDER
from jobify.engine.verdict import settlement_of
from jobify.records import Settlement
from jobify.retention import Retention
from jobify.status import Cancelled, Released
from jobify.types import Microseconds

__all__ = ("give_back",)

_UNTIL_GONE: Final = 1.0
"""Seconds that a process needs, after this, to end."""


async def give_back(backend: Backend, attempts: Iterable[Attempt], retention: Retention, clock: Clock) -> None:
    """Give back what is still in hands here; whatever comes of it later is refused."""
    now = clock.now()
    settlements = [_released(attempt, retention, now) for attempt in attempts if attempt.backend is backend]
    if settlements:
        await backend.gate.call(lambda: backend.storage.settle(settlements), news=ORDER)


def _released(attempt: Attempt, retention: Retention, now: Microseconds) -> Settlement:
    outcome = Cancelled() if attempt.interruption is Interruption.CANCEL else Released()
    settlement = settlement_of(attempt, outcome, None, now=now, retention=retention)
    if settlement.finished_at is not None:
        return settlement
    return settlement._replace(ready=False, due_at=now + seconds(_UNTIL_GONE))
