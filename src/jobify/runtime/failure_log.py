"""Log failures that repeat, at most once a minute.

One line at first, then one a minute with the count, and one when it is over.

What fails while a disk is full, or while the system has no descriptor left, fails for everything that uses it and many
times a second. Such a log is not readable, and fills the disk further. So the parts that have the same failure report
it to the same :class:`FailureLog`, each under a name of its own (its *source*). The failure is over when each of them
has succeeded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

__all__ = ("FailureLog",)

_INTERVAL: Final = 60.0
"""Seconds between two lines about the same failure."""


class FailureLog:
    """Writes failures to ``log``. ``over`` begins its last line, before the count. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger,
        over: str,
        *,
        interval: float = _INTERVAL,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._over = over
        self._interval = interval
        self._elapsed = elapsed
        self._guard = threading.Lock()
        self._failing: set[Hashable] = set()
        self._count = 0
        """Failures since the first one."""
        self._began_at = 0.0
        self._written_at: float | None = None
        self._is_written = False
        """Whether this failure is in the log."""

    @property
    def is_failing(self) -> bool:
        return bool(self._failing)

    def failed(
        self,
        source: Hashable,
        message: str,
        *args: Any,
        error: BaseException | None = None,
    ) -> None:
        """``source`` has failed: write ``message``, at most one line a minute.

        ``error`` is the exception whose traceback is shown.
        """
        with self._guard:
            now = self._elapsed()
            if not self._failing:
                self._began_at, self._count, self._is_written = now, 0, False
            self._failing.add(source)
            self._count += 1
            if self._written_at is not None and now - self._written_at < self._interval:
                return
            self._written_at, self._is_written = now, True
            count, seconds = self._count, now - self._began_at
        if count > 1:
            message, args = f"{message} (%d failures in %.0f s)", (*args, count, seconds)
        self._log.warning(message, *args, exc_info=error)

    def succeeded(self, source: Hashable) -> None:
        """``source`` has succeeded: the failure is over if no other source still fails."""
        if source not in self._failing:
            return
        with self._guard:
            self._failing.discard(source)
            if self._failing or not self._is_written:
                return
            count, seconds = self._count, self._elapsed() - self._began_at
        self._log.warning("%s after %d failures in %.0f s.", self._over, count, seconds)

    def warn(self, source: Hashable, message: str, *args: Any) -> None:
        """Write about a single failure, at most once a minute. It has no end, so none is written."""
        self.failed(source, message, *args)
        self.forget(source)

    def forget(self, source: Hashable) -> None:
        """Forget ``source``, which has ended; it is not known whether it would succeed."""
        if source in self._failing:
            with self._guard:
                self._failing.discard(source)
