"""The clock of the server, as each process of a schema reads it.

Due times, expiries and the ends of leases are compared with one clock, whatever those of the machines show. A process
measures by how much the server's clock is ahead of its own elapsed time, and reads that from then on: so a time costs
no query, and is right to about the time of a round trip.

**Measuring.** The server reads its clock between the moments at which a query was sent and answered, so each answer
gives a range in which the difference lies. A difference that lies in the newest range stays as it is; else it moves to
the nearest end of the range. So the clock does not jitter, follows a clock that is slewed, and jumps when the server's
is set or when another server takes over. Each look at the owners is a measurement.

Before the first one, the clock of this machine is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from jobify.model.clock import SECOND, Clock, SystemClock
from jobify.types import Microseconds

__all__ = ("ServerClock",)

_SLOW: Final = 1.0
"""Seconds. An answer that took longer says less than what is known."""


class ServerClock:
    """A clock for apps whose jobs are on a server. ``local`` is that of this machine. Thread-safe."""

    def __init__(self, local: Clock | None = None) -> None:
        self._local = SystemClock() if local is None else local
        self._guard = threading.Lock()
        self._ahead: Microseconds | None = None
        """By how much the server's clock is ahead of elapsed time; None: that was not measured yet."""

    @property
    def is_synchronised(self) -> bool:
        """Whether the server's clock was read."""
        return self._ahead is not None

    def now(self) -> Microseconds:
        ahead = self._ahead
        return self._local.now() if ahead is None else ahead + round(self._local.monotonic() * SECOND)

    def monotonic(self) -> float:
        return self._local.monotonic()

    @contextmanager
    def measuring(self) -> Iterator[Callable[[Microseconds], object]]:
        """Around a query that answers with the server's clock: give what it showed to the function."""
        sent_at = self.monotonic()
        yield lambda server: self.adjust(server, sent_at=sent_at, answered_at=self.monotonic())

    def adjust(self, server: Microseconds, *, sent_at: float, answered_at: float) -> None:
        """The server's clock showed ``server`` at a moment between these two of elapsed time."""
        if self._ahead is not None and answered_at - sent_at > _SLOW:
            return
        least, most = server - round(answered_at * SECOND), server - round(sent_at * SECOND)
        with self._guard:
            ahead = self._ahead
            self._ahead = (least + most) // 2 if ahead is None else min(max(ahead, least), most)
